"""Windows, exact characters, decoding, no answer, and the doors: Python, the command and the model card."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.rows import first_baseline
from tests.tasks.test_contract import answer_rows
from tests.tiny import WORDS, tiny_base
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from graftlm.cli import app
from graftlm.data.dataset import Split
from graftlm.data.features import Features
from graftlm.data.options import DataOptions
from graftlm.data.table import Table, Tables
from graftlm.errors import DataError
from graftlm.models.base_model import load_tokenizer
from graftlm.models.encoder import TextEncoder
from graftlm.models.locating import locate
from graftlm.opening import infer_task
from graftlm.recipe import load_recipe
from graftlm.tasks._answer_spans import NO_ANSWER, likely_spans, token_positions
from graftlm.tasks._task import Learnt
from graftlm.tasks.question_answering import QuestionAnswering
from graftlm.workflows.finetune import finetune


def byte_tokenizer():
    """One token a byte, so that a character may be several tokens; a space belongs to the word behind it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: index for index, piece in enumerate(["<s>", "</s>", "<pad>", *alphabet])}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    names = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=names, **special)


@pytest.fixture(scope="module", params=["bert", "roberta", "gpt2", "bytes"])
def tokenizer(request, tmp_path_factory):
    if request.param == "bytes":
        return byte_tokenizer()
    return load_tokenizer(
        locate(str(tiny_base(tmp_path_factory.mktemp("base") / request.param, request.param)))
    )


def split_of(questions, contexts, answers=None):
    columns = {"question": questions, "context": contexts}
    if answers is not None:
        columns["answers"] = answers
    return Split("test", columns, [str(row) for row in range(len(questions))])


def text(random, words):
    separators = [" ", " ", "  ", "\n", "\t"]
    pieces = [*WORDS[:60], "é", "cafe\u0301", "दिल्ली", "北京", "\U0001f600", "Ünder", "o'clock", "1,000"]
    return "".join(
        f"{pieces[int(random.integers(len(pieces)))]}{separators[int(random.integers(5))]}"
        for _ in range(words)
    ).strip()


def test_windows_cover_the_context_and_keep_the_question_whole(tokenizer, seed):
    random = np.random.default_rng(seed)
    encoder = TextEncoder(tokenizer, 120)
    for _ in range(20):
        count = int(random.integers(1, 6))
        questions = [text(random, int(random.integers(1, 8))) for _ in range(count)]
        contexts = [text(random, int(random.integers(1, 300))) for _ in range(count)]
        stride = int(random.integers(0, 70))
        features = encoder.windows(questions, contexts, stride)
        rows = list(features.rows)
        assert rows == sorted(rows) and set(rows) == set(range(count))
        assert set(features.inputs) == set(encoder.argument_names)
        for row, (question, context) in enumerate(zip(questions, contexts, strict=True)):
            windows = [example for example, each in enumerate(rows) if each == row]
            ids = tokenizer(question, add_special_tokens=False)["input_ids"]
            whole = tokenizer(context, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
            seen = []
            for example in windows:
                tokens, spans = features.inputs["input_ids"][example], features.spans[example]
                assert len(tokens) == len(spans) <= 120
                inside = spans[:, 0] >= 0
                assert not inside[NO_ANSWER]
                begin = tokens.index(ids[0]) if ids else 0
                assert tokens[begin : begin + len(ids)] == ids
                seen.append([tuple(span) for span in spans[inside].tolist()])
            merged = seen[0]
            special = 120 - max(len(each) for each in seen) - len(ids) if len(seen) > 1 else 0
            overlap = min(stride, (120 - len(ids) - special) // 2)
            for before, after in itertools.pairwise(seen):
                assert before[len(before) - overlap :] == after[:overlap]
                merged = merged + after[overlap:]
            assert merged == [tuple(span) for span in whole["offset_mapping"]]
        assert features.truncated_rows == []


def test_only_a_question_that_leaves_no_room_is_cut(tokenizer):
    encoder = TextEncoder(tokenizer, 24)
    questions = ["why ?", "why " * 200, "\U0001f600 " * 50]
    features = encoder.windows(questions, ["the hotel is very good . " * 4] * 3, 128)
    assert features.truncated_rows == [1, 2]
    assert max(map(len, features.inputs["input_ids"])) <= 24
    for spans in features.spans:
        assert (spans[:, 0] >= 0).sum() >= 1
    assert len(encoder.windows([], [], 128)) == 0


def certain(features, positions):
    outputs = [np.zeros((len(ids), 2), dtype=np.float32) for ids in features.inputs["input_ids"]]
    for output, position in zip(outputs, positions, strict=True):
        output[position, [0, 1]] = 9.0
    return outputs


def test_answers_come_back_letter_by_letter(tokenizer, seed):
    random = np.random.default_rng(seed)
    encoder = TextEncoder(tokenizer, 100)
    task = QuestionAnswering(stride_tokens=45, max_answer_tokens=100)
    for _ in range(60):
        context = text(random, int(random.integers(5, 200)))
        words = [match.span() for match in re.finditer(r"\S+", context)]
        first = int(random.integers(len(words)))
        last = min(len(words) - 1, first + int(random.integers(0, 2)))
        start, end = words[first][0], words[last][1]
        split = split_of(["which ?"], [context], [((context[start:end], start),)])
        features = task.encode(split, encoder)
        positions = token_positions(split.columns["answers"], features)
        holding = (positions != NO_ANSWER).all(axis=1)
        assert holding.any() and ((positions != NO_ANSWER).any(axis=1) == holding).all()
        outputs = certain(features, positions)
        outputs = [each if held else each * 0 for each, held in zip(outputs, holding, strict=True)]
        (prediction,) = task.decode(outputs, split, features, Learnt(()))
        assert (prediction.start, prediction.end) == (start, end)
        assert prediction.answer == context[start:end] == prediction.candidates[0].answer


@pytest.mark.parametrize(
    ("answer", "context"), [("000", "about 1,000 men"), ("clock", "one o'clock"), ("1", "(1)")]
)
def test_an_answer_beside_punctuation_starts_at_its_own_token(tokenizer, answer, context):
    features = TextEncoder(tokenizer, 100).windows(["which ?"], [context], 10)
    start = context.index(answer)
    ((first, last),) = token_positions([((answer, start),)], features)
    assert features.spans[0][first, 0] == start and features.spans[0][last, 1] == start + len(answer)


def test_a_context_of_100_000_characters(tiny_bert: Path):
    encoder = TextEncoder(load_tokenizer(locate(str(tiny_bert))), 64)
    context = "the staff was good . " * 5_000
    context = context[:90_000] + "a blue shoe " + context[90_000:]
    start = context.index("blue")
    task = QuestionAnswering()
    split = split_of(["which shoe ?", "who ?"], [context, "the staff"], [(("blue shoe", start),), ()])
    features = task.encode(split, encoder)
    assert len(context) > 100_000 and len(features) > 400
    positions = token_positions(split.columns["answers"], features)
    assert 1 <= (positions[:, 0] != NO_ANSWER).sum() <= 3
    outputs = certain(features, positions)
    for output in outputs:
        output[NO_ANSWER] /= 2
    one, other = task.decode(outputs, split, features, Learnt((), {"no_answer_threshold": 0.0}))
    assert (one.answer, one.start, one.end) == ("blue shoe", start, start + 9)
    assert (other.answer, other.start, other.end) == ("", None, None)


def test_the_likely_spans_are_the_best_there_are(seed):
    random = np.random.default_rng(seed)
    for _ in range(50):
        longest = int(random.integers(1, 8))
        context = "abcdefghijklmnopqrstuvwxyz"
        windows = [sorted(random.choice(26, int(random.integers(1, 12)), replace=False)) for _ in range(3)]
        spans = [np.array([[-1, -1], [-1, -1], *([at, at + 1] for at in window), [-1, -1]], np.int32)
                 for window in windows]  # fmt: skip
        outputs = [random.normal(size=(len(each), 2)).astype(np.float32) for each in spans]
        features = Features({"input_ids": [[0] * len(each) for each in spans]}, [0, 0, 0], [], spans)
        (found,) = likely_spans(outputs, features, [context], longest)
        every: dict[tuple[int, int], float] = {}
        for window, output in zip(windows, outputs, strict=True):
            for i, start in enumerate(window):
                for j, end in enumerate(window[i : i + longest], i):
                    value = float(output[i + 2, 0]) + float(output[j + 2, 1])
                    key = (int(start), int(end) + 1)
                    every[key] = max(every.get(key, -np.inf), value)
        best = sorted(every.items(), key=lambda item: -item[1])[:20]
        assert [span.value for span in found.spans] == pytest.approx([value for _, value in best])
        assert [(span.start, span.end) for span in found.spans[:1]] == [best[0][0]]
        assert found.no_answer == pytest.approx(min(float(output[0].sum()) for output in outputs))


def test_no_answer_is_known_where_train_holds_it_and_its_threshold_is_tuned(tiny_bert: Path):
    task = QuestionAnswering()
    encoder = TextEncoder(load_tokenizer(locate(str(tiny_bert))), 32)
    right = [(("hotel", 4),)] * 2
    contexts = ["the hotel is good ."] * 4
    assert task.learn(split_of(["why ?"] * 2, contexts[:2], right)) == Learnt(())
    split = split_of(["why ?"] * 4, contexts, [*right, (), ()])
    learnt = task.learn(split)
    assert learnt.rule == {"no_answer_threshold": 0.0}
    features = task.encode(split, encoder)
    outputs = certain(features, token_positions(right * 2, features))
    for output, margin in zip(outputs, (-1.0, 2.0, 3.0, 5.0), strict=True):
        output[NO_ANSWER] = 9.0 + margin / 2
    before = task.decode(outputs, split, features, learnt)
    assert [each.answer for each in before] == ["hotel", "", "", ""]
    assert [each.no_answer_margin for each in before] == pytest.approx([-1.0, 2.0, 3.0, 5.0])
    assert all(0 < each.score < 1 and len(each.candidates) == 5 for each in before)
    tuned = task.tune(outputs, split, features, learnt)
    assert tuned.rule == {"no_answer_threshold": pytest.approx(2.5)}
    after = task.decode(outputs, split, features, tuned)
    assert [each.answer for each in after] == ["hotel", "hotel", "", ""]
    assert task.score(after, split, tuned, resamples=100).headline.value == 1.0
    assert task.tune(outputs, split, features, Learnt(())) == Learnt(())
    assert {each.answer for each in first_baseline(task, split, split, learnt)} == {""}


def test_the_baseline_without_no_answer_is_the_most_similar_sentence():
    split = split_of(
        ["who cleans the room?", "?"], ["We came late. A boy cleans the room! It rained.", "one"]
    )
    first, second = first_baseline(QuestionAnswering(), split, split, Learnt(()))
    assert first.answer.strip() == "A boy cleans the room!" and second.answer == "one"


@pytest.mark.parametrize(
    ("row", "known"),
    [
        ({"question": "q", "context": "c", "answers": []}, True),
        ({"Question": "q", "passage": "c", "answer": {"text": [], "answer_start": []}}, True),
        ({"question": "q", "passage": "c", "answer": "c", "answer_start": "0"}, True),
        ({"question": "q", "passage": "c", "answer": "yes"}, False),
        ({"question": "q", "answers": []}, False),
        ({"text": "q", "label": "c"}, False),
    ],
)
def test_what_it_recognises(row, known):
    options = DataOptions()
    table = Table("a.csv", {name: [value] for name, value in row.items()}, None, typed=False)
    assert bool(QuestionAnswering.recognises(table)) is known
    name, _ = infer_task(Tables({"all": table}, "a.csv"), options)
    assert (name == "question_answering") is known


@pytest.mark.parametrize(
    ("answers", "known"),
    [
        (["Lima", "a hen", "Paul lived", ""], True),
        (["Lima", "Quito", "Paul lived", "a hen"], True),
        (["Lima", "Quito", "Oslo", "a hen"], False),
        (["yes", "no", "no", "no"], False),
        (["A", "B", "C", "D"], False),
    ],
)
def test_answers_without_position_are_recognised_where_contexts_hold_them(answers, known):
    context = "A Basic Common Day: Paul lived in Lima with a hen, or no hen."
    columns = {"question": ["q"] * 4, "context": [context] * 4, "answer": answers}
    recognised = QuestionAnswering.recognises(Table("a.csv", columns, None, typed=False))
    assert recognised == (
        "it has the columns 'question', 'context', 'answer', and the contexts hold the answers"
        if known
        else None
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_bert: Path):
    changes = {
        "base": str(tiny_bert), "task.name": "question_answering", "task.stride_tokens": 8, "training.epochs": 1,
        "task.max_length_tokens": 24, "evaluation.proof": "none", "evaluation.resamples": 100,
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("run")
    return finetune(load_recipe(None, changes), answer_rows(60), folder / "run")


QUESTIONS = [
    {"question": "bought ?", "context": "early friday you bought a shirt . " * 9},
    {"question": "who ?", "context": " we sold a red book ."},
]


def test_python_and_command_give_the_same_records(run, tmp_path: Path, capsys):
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    assert app.run(["predict", str(run.path), str(tmp_path / "new.jsonl"), "--quiet"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    predictor = run.predictor("cpu")
    for line, row, prediction in zip(lines, QUESTIONS, predictor(QUESTIONS), strict=True):
        assert line["answer"] == prediction.answer
        for each in (prediction, *prediction.candidates):
            assert (
                each.answer == row["context"][each.start : each.end]
                if each.start is not None
                else not each.answer
            )
        assert [tuple(each[key] for key in ("start", "end")) for each in line["candidates"]] == [
            (each.start, each.end) for each in prediction.candidates
        ]
    with pytest.raises(
        DataError, match=r"a dict with question, context \(or a tuple of question, context\) is wanted"
    ):
        predictor(["bought ?"])


def test_the_files_of_a_run_hold_no_answer_texts_and_nothing_was_cut(run):
    assert set(run.record["data"]["truncated"].values()) == {0}
    lines = [json.loads(line) for line in run.directory.predictions("test").read_text().splitlines()]
    assert all("answer" not in line and {"start", "end", "reference"} <= line.keys() for line in lines)


def test_the_snippet_of_the_card_answers_alike_without_graftlm(run, tmp_path: Path, capsys, seed):
    card = (run.directory.model / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    code = code.replace("path/to/model", str(run.directory.model))
    random = np.random.default_rng(seed)
    rows = [{"question": text(random, 3), "context": text(random, 60)} for _ in range(12)]
    predictor = run.predictor("cpu")
    # A threshold that answers half of the questions.
    middle = float(np.median([each.no_answer_margin for each in predictor(rows)]))
    code = code.replace(repr(predictor.learnt.rule["no_answer_threshold"]), repr(middle))
    predictions = replace(predictor, facts=replace(predictor.facts, rule={"no_answer_threshold": middle}))(
        rows
    )
    assert {bool(each.answer) for each in predictions} == {True, False}
    capsys.readouterr()

    def snippet(row):
        return code.replace('"your question"', repr(row["question"])).replace(
            '"your context"', repr(row["context"])
        )

    for row, prediction in zip(rows, predictions, strict=True):
        exec(snippet(row), {})
        assert capsys.readouterr().out.rstrip("\n") == (prediction.answer or "no answer")
    alone = "import sys\nsys.modules['graftlm'] = None\n" + snippet(rows[0])
    done = subprocess.run(
        [sys.executable, "-c", alone], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.rstrip("\n") == (predictions[0].answer or "no answer")


def test_a_mark_without_a_token_at_the_end_of_the_context_hides_no_answer(tokenizer):
    context, answer = "he went to the cafe\u0301", "cafe\u0301"
    start = context.index(answer)
    features = TextEncoder(tokenizer, 100).windows(["where ?"], [context], 10)
    ((first, last),) = token_positions([((answer, start),)], features)
    assert features.spans[0][first, 0] == start and features.spans[0][last, 1] >= start + 4
