"""Words and tokens, windows, valid sequences: what both tasks on words must keep beyond the contract."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tests.rows import first_baseline
from tests.tasks.test_contract import plainly_tagged_rows, tagged_rows
from tests.tiny import tiny_base
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from graftlm.catalog import Catalog
from graftlm.data.dataset import Split
from graftlm.data.features import IGNORED
from graftlm.data.memory import tables_in_memory
from graftlm.data.options import DataOptions
from graftlm.data.tag_schemes import read_scheme, spans_of
from graftlm.data.words import word_offsets
from graftlm.errors import ConfigurationError, DataError
from graftlm.models.base_model import load_tokenizer
from graftlm.models.encoder import TextEncoder
from graftlm.models.locating import locate
from graftlm.objectives.cross_entropy import CrossEntropy
from graftlm.predictor import Predictor
from graftlm.progress import Silent
from graftlm.recipe import load_recipe
from graftlm.run import Run
from graftlm.run_identity import describe_changes
from graftlm.tasks._task import Learnt
from graftlm.tasks._viterbi import allowed_transitions, best_tags
from graftlm.tasks.token_classification import TokenClassification
from graftlm.tasks.word_tagging import WordTagging
from graftlm.training.batching import Examples
from graftlm.training.outputs import forward
from graftlm.workflows.evaluate import evaluate
from graftlm.workflows.finetune import finetune

LABELS = ("B-A", "B-B", "I-A", "I-B", "O")


def split_of(words: list[Any], tags: list[Any]) -> Split:
    return Split("test", {"tokens": words, "tags": tags}, [f"row {row}" for row in range(len(words))])


@pytest.fixture(scope="module")
def encoder(tiny_bert: Path) -> TextEncoder:
    return TextEncoder(load_tokenizer(locate(str(tiny_bert))), 16)


def test_the_best_sequence_is_that_of_all_valid_ones(seed: int) -> None:
    source = np.random.default_rng(seed)
    allowed = allowed_transitions(LABELS)
    outside = LABELS.index("O")
    for _ in range(200):
        scores = np.log(source.dirichlet(np.full(len(LABELS), 0.5), size=int(source.integers(1, 5))))
        every = itertools.product(range(len(LABELS)), repeat=len(scores))
        valid = [
            path for path in every if all(allowed[pair] for pair in itertools.pairwise((outside, *path)))
        ]
        best = max(valid, key=lambda path: sum(scores[word, tag] for word, tag in enumerate(path)))
        assert best_tags(scores, LABELS) == list(best)


def test_no_outputs_whatever_decode_to_an_invalid_sequence(encoder: TextEncoder, seed: int) -> None:
    source = np.random.default_rng(seed)
    words = [("the", "zqx", "a", "train") * 5] * 20
    split = split_of([*words], [("O",) * 20] * 20)
    task, learnt = TokenClassification(), Learnt(LABELS)
    features = task.encode(split, encoder)
    outputs = [
        source.normal(scale=5, size=(len(ids), 5)).astype(np.float32) for ids in features.inputs["input_ids"]
    ]
    predictions = task.decode(outputs, split, features, learnt)
    assert not read_scheme([prediction.tags for prediction in predictions]).misplaced
    assert any(prediction.entities for prediction in predictions)


def test_every_word_answers_once_where_it_has_most_context(encoder: TextEncoder, seed: int) -> None:
    source = random.Random(seed)
    rows = [source.choices(("the", "zqxjk", "a", "Train", "!"), k=source.randint(1, 60)) for _ in range(60)]
    features = encoder.words(rows)
    assert sorted(set(features.rows)) == list(range(60)) and list(features.rows) == sorted(features.rows)
    whole = TextEncoder(encoder.tokenizer, 10_000).words(rows)
    for row in range(60):
        windows = [
            (ids, words)
            for ids, words, of in zip(
                features.inputs["input_ids"], features.words, features.rows, strict=True
            )
            if of == row
        ]
        answers = {
            int(word): (ids[place], min(place - 1, len(ids) - 2 - place))
            for ids, words in windows
            for place, word in enumerate(words)
            if word >= 0
        }
        assert sorted(answers) == list(range(len(rows[row])))
        ids, words = whole.inputs["input_ids"][row], whole.words[row]
        assert {int(word): ids[place] for place, word in enumerate(words) if word >= 0} == {
            word: token for word, (token, _) in answers.items()
        }
        assert max(len(ids) for ids, _ in windows) <= 16
        # Windows of 14 tokens share 3, so that a word inside the row keeps a token of context on each side.
        inner = {word: context for word, (_, context) in answers.items() if 3 < word < len(rows[row]) - 15}
        assert len(windows) == 1 or all(context >= 1 for context in inner.values())


def test_a_word_without_token_still_gets_a_tag(encoder: TextEncoder) -> None:
    split = split_of([("the", "\u200b", "train"), ("\u200b",)], [("A", "B", "A"), ("B",)])
    task = WordTagging()
    learnt = task.learn(split)
    features = task.encode(split, encoder)
    assert [sorted(set(each.tolist())) for each in task.targets(split, features, learnt)] == [
        [IGNORED, 0],
        [IGNORED],
    ]
    outputs = [np.tile(np.float32([0, 9]), (len(ids), 1)) for ids in features.inputs["input_ids"]]
    assert [each.tags for each in task.decode(outputs, split, features, learnt)] == [("B", "A", "B"), ("A",)]
    assert learnt.rule == {"tag_without_token": "A"}
    entities = split_of(split.columns["tokens"], [("B-A", "I-A", "I-A"), ("O",)])
    learnt = TokenClassification().learn(entities)
    outputs = [np.tile(np.float32([9, 8, 0]), (len(ids), 1)) for ids in features.inputs["input_ids"]]
    (first, second) = TokenClassification().decode(outputs, entities, features, learnt)
    assert (first.tags, second.tags) == (("B-A", "O", "B-A"), ("O",))


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "gpt2"])
def test_the_loss_is_that_of_stock_token_classification(family: str, tmp_path: Path, seed: int) -> None:
    """Equal batches, no dropout: the same mean over first sub-words as transformers computes itself."""
    base = tiny_base(tmp_path / "base", family, dropout=0.0)
    tokenizer = load_tokenizer(locate(str(base)), words=True)
    task, rows = TokenClassification(), tagged_rows(12, seed)
    split = split_of([row["tokens"] for row in rows], [row["tags"] for row in rows])
    learnt = task.learn(split)
    features = task.encode(split, TextEncoder(tokenizer, 64))
    targets = task.targets(split, features, learnt)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stock = transformers.AutoModelForTokenClassification.from_pretrained(
            base, num_labels=len(learnt.labels)
        ).eval()
    examples = Examples(features.inputs, targets, TextEncoder(tokenizer, 64).padding, tokenizer.padding_side)
    batch = examples.batch(np.arange(12), torch.device("cpu"))
    loss = CrossEntropy().bind(targets, learnt.labels)
    assert batch.targets is not None
    with torch.inference_mode():
        (term,) = loss.terms(forward(stock, batch, None), batch.targets)
    ours = term.total / loss.weights(batch.targets)[term.name]
    # As the examples of transformers prepare it.
    words = [list(row["tokens"]) for row in rows]
    encoded = tokenizer(words, is_split_into_words=True, padding=True, return_tensors="pt")
    labels = torch.full(encoded["input_ids"].shape, IGNORED)
    for row in range(12):
        before = None
        for place, word in enumerate(encoded.word_ids(row)):
            if word is not None and word != before:
                labels[row, place] = learnt.labels.index(rows[row]["tags"][word])
            before = word
    with torch.inference_mode():
        theirs = stock(**encoded, labels=labels).loss
    assert float(ours) == pytest.approx(float(theirs), rel=1e-6)


def test_the_last_token_of_a_word_answers_where_most_was_read_before_it(
    encoder: TextEncoder, seed: int
) -> None:
    draw = random.Random(seed)
    for _ in range(20):
        row = draw.choices(["a", "nicely", "verylyly", "the", "qqzzkk"], k=draw.randint(1, 40))
        last = replace(encoder, speaking_token="last")
        features = last.words([row])
        whole = replace(last, max_length_tokens=10_000)
        (ids,) = whole.words([row]).inputs["input_ids"]
        words = encoder.tokenizer([row], is_split_into_words=True)["input_ids"]
        assert list(ids) == words[0]
        ends = [at for at, word in enumerate(whole.words([row]).words[0]) if word >= 0]
        of = encoder.tokenizer([row], is_split_into_words=True).word_ids(0)
        assert ends == [at for at, word in enumerate(of) if word is not None and word != of[at + 1]]
        # In windows: each word once, by a token equal to that.
        answers = {
            int(word): (number, at)
            for number, each in enumerate(features.words)
            for at, word in enumerate(each)
            if word >= 0
        }
        assert sorted(answers) == list(range(len(row)))
        assert sum(int((each >= 0).sum()) for each in features.words) == len(row)
        for word, (number, at) in answers.items():
            assert features.inputs["input_ids"][number][at] == ids[ends[word]]
            # What a window shares with the one before it, a quarter, had more before it there.
            assert number == 0 or at - 1 >= (encoder.max_length_tokens - 2) // 4


def byte_level_base(folder: Path) -> Path:
    """A tiny RoBERTa whose byte-level tokenizer knows ` the` and `the` as two tokens."""
    tiny_base(folder, "roberta")
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*special, *letters, "th", "the", "Ġthe"])}
    backend = Tokenizer(models.BPE(vocabulary, [("t", "h"), ("th", "e"), ("Ġ", "the")], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    roles = ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token")
    names = dict(zip(roles, special, strict=True))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **names)
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["vocab_size"] = max(config["vocab_size"], len(vocabulary))
    return folder


def test_byte_level_words_begin_with_their_space(tmp_path: Path) -> None:
    base = byte_level_base(tmp_path / "base")
    text = load_tokenizer(locate(str(base)))
    words = load_tokenizer(locate(str(base)), words=True)
    known = text.convert_tokens_to_ids("Ġthe")
    assert text(["the the"])["input_ids"][0][2] == known
    assert TextEncoder(words, 64).words([["the", "the"]]).inputs["input_ids"][0][1:3] == [known, known]
    words.save_pretrained(tmp_path / "saved")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again([["the", "the"]], is_split_into_words=True)["input_ids"][0][1:3] == [known, known]


def splitting_base(folder: Path) -> Path:
    """A tiny GPT-2 whose tokenizer divides a text before it makes bytes of it, as those of Llama 3 and Qwen do."""
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|endoftext|>"]
    backend = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, []))
    parts = [
        pre_tokenizers.Split(Regex(r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
    backend.pre_tokenizer = pre_tokenizers.Sequence(parts)
    backend.decoder = decoders.ByteLevel()
    tiny_base(folder, "gpt2")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=64, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    tokenizer.save_pretrained(folder)
    return folder


def test_words_of_a_tokenizer_that_divides_before_it_makes_bytes(tmp_path: Path) -> None:
    """Each word is read as it is in a text: one space before it and none inside, and so does the saved model."""
    base = splitting_base(tmp_path / "base")
    tokenizer = load_tokenizer(locate(str(base)), words=True)
    words = ["don't", "2010", "U.S."]
    features = TextEncoder(tokenizer, 64).words([words])
    (ids,) = features.inputs["input_ids"]
    assert list(ids) == tokenizer(" don't 2010 U.S.")["input_ids"]
    assert [words[word] for word in features.words[0] if word >= 0] == words
    changes = {
        "base": str(base), "training.epochs": 1, "training.device": "cpu", "evaluation.resamples": 100,
        "task.name": "word_tagging",
    }  # fmt: skip
    run = finetune(load_recipe(None, changes), plainly_tagged_rows(30), tmp_path / "run")
    (again,) = run.predictor("cpu").encoder.words([words]).inputs["input_ids"]
    assert list(again) == list(ids)
    card = (run.directory.model / "README.md").read_text(encoding="utf-8")
    assert '[[" your", " words"]], is_split_into_words=True' in card
    # A decoder has read a word whole at its last token; models that were saved before had learnt the first.
    assert run.predictor("cpu").encoder.speaking_token == "last" and "The last token of each word" in card
    facts = json.loads((run.directory.model / "graftlm.json").read_text())
    assert facts["rule"].pop("speaking_token") == "last"
    shutil.copytree(run.directory.model, tmp_path / "before")
    (tmp_path / "before" / "graftlm.json").write_text(json.dumps(facts))
    assert Predictor.open(tmp_path / "before", "cpu").encoder.speaking_token == "first"
    before = {**run.record["identity"]}
    assert before.pop("speaking_token") == "last"
    (change,) = describe_changes(before, run.record["identity"], extending=False)
    assert change == "tokens: the first one of each word answered for it, now the last one does"
    plain = transformers.AutoTokenizer.from_pretrained(run.directory.model)
    assert plain([[f" {word}" for word in words]], is_split_into_words=True)["input_ids"] == [list(ids)]


@pytest.fixture(scope="module", params=["token_classification", "word_tagging"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Run:
    changes = {
        "base": str(tiny_bert), "training.epochs": 30, "training.learning_rate": 3e-3, "training.device": "cpu",
        "evaluation.proof": "none", "evaluation.resamples": 100, "task.name": request.param,
    }  # fmt: skip
    rows, names = numbered(
        (tagged_rows if request.param == "token_classification" else plainly_tagged_rows)(60)
    )
    recipe = load_recipe(None, {**changes, "data.tag_names": names})
    return finetune(recipe, rows, tmp_path_factory.mktemp("tagging") / "run")


def numbered(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows whose tags are numbers, as many data sets of the hub hold them, and the names of these."""
    names = sorted({tag for row in rows for tag in row["tags"]})
    return [{**row, "tags": [names.index(tag) for tag in row["tags"]]} for row in rows], names


def test_a_run_on_numbers_of_tags_reads_numbers_and_names(run: Run) -> None:
    kind = run.predictor("cpu").task.name
    rows = (tagged_rows if kind == "token_classification" else plainly_tagged_rows)(60)
    numbers, names = numbered(rows)
    assert run.predictor("cpu").facts.reading["tag_names"] == names
    of_numbers, of_names = (
        evaluate(run.directory.path, each, DataOptions(), "cpu", resamples=100) for each in (numbers, rows)
    )
    assert of_numbers == of_names
    assert of_names.rows_in_training == run.record["data"]["rows"]["train"]


def test_the_snippet_of_the_card_gives_our_tags_without_graftlm(run: Run, tmp_path: Path) -> None:
    (tmp_path / "path" / "to").mkdir(parents=True)
    (tmp_path / "path" / "to" / "model").symlink_to(run.directory.model)
    (snippet,) = re.findall(
        r"```python\n(.*?)```", (run.directory.model / "README.md").read_text(), re.DOTALL
    )
    words = [
        *["the", "zqxjk", "in", "road", "city", "a", "by", "train", "train", "my", "not", "city"],
        "road",
    ]
    assert '[["your", "words"]]' in snippet
    (tmp_path / "snippet.py").write_text(snippet.replace('[["your", "words"]]', json.dumps([words])))
    child = subprocess.run(
        [sys.executable, "-W", "error", "snippet.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONPATH": ""},
        check=False,
    )
    assert child.returncode == 0, child.stderr
    (ours,) = run.predictor("cpu")([words])
    printed = re.findall(r"\((\d+), '([^']+)'\)", child.stdout)
    assert printed == [(str(word), tag) for word, tag in enumerate(ours.tags)]


def test_texts_and_words_are_answered_with_exact_places(run: Run) -> None:
    predictor = run.predictor("cpu")
    text = "  the in road city,my by train train "
    (of_text,) = predictor([text])
    expected = ["the", "in", "road", "city", ",", "my", "by", "train", "train"]
    assert [text[start:end] for start, end in of_text.offsets] == expected
    words = ["the", "in", "road", "city"]
    (of_words,) = predictor([words])
    assert [" ".join(words)[start:end] for start, end in of_words.offsets] == words
    row = plainly_tagged_rows(60)[0]["tokens"]
    one, other = predictor([" ".join(row), row])
    assert (one.tags, one.offsets) == (other.tags, other.offsets)
    if predictor.task.answer_kind == "spans":
        assert one.entities
        for entity in one.entities:
            start, end = (" ".join(row)[:place].count(" ") for place in (entity.start, entity.end))
            assert one.tags[start : end + 1] == (f"B-{entity.label}", *[f"I-{entity.label}"] * (end - start))
            assert 0 < entity.score <= 1
    with pytest.raises(DataError, match="none of them empty"):
        predictor([["a", ""]])
    with pytest.raises(DataError, match="non-empty text is wanted"):
        predictor([[]])


def test_long_texts_lose_no_word_and_agree_with_short_ones_inside(run: Run) -> None:
    predictor = run.predictor("cpu")
    text = " ".join(["the in road city"] * 100)
    (long,) = predictor([text])
    assert len(long.tags) == 400
    assert len(predictor.encode(Split("x", {"tokens": [text]}, ["r"]))) > 5


def test_types_of_one_kind_get_both_tags_and_the_baseline_is_valid() -> None:
    split = split_of([("New", "York"), ("York",)], [("B-A", "I-A"), ("O",)])
    task = TokenClassification()
    assert task.learn(split_of([("x",)], [("B-A",)])).labels == ("B-A", "I-A", "O")
    learnt = task.learn(split)
    (prediction,) = first_baseline(task, split, split_of([("York",)], [("O",)]), learnt)
    assert prediction.tags == ("B-A",)  # I-A is most frequent by name among equals, and begins the row


@pytest.mark.parametrize(
    ("rows", "task"),
    [
        ([{"tokens": ["a", "b"], "ner_tags": ["O", "B-X"]}] * 3, "token_classification"),
        ([{"text": "a b", "entities": [{"start": 0, "end": 1, "label": "X"}]}] * 3, "token_classification"),
        ([{"tokens": ["a", "b"], "upos": ["DET", "NOUN"]}] * 3, "word_tagging"),
        ([{"tokens": ["a", "b"], "tags": ["O", "O"]}] * 3, "word_tagging"),
        ([{"id": "1", "tokens": ["a", "b"], "ner_tags": [0, 1]}] * 3, "token_classification"),
        ([{"tokens": ["a", "b"], "pos_tags": [0, 1]}] * 3, "word_tagging"),
        ([{"tokens": ["a", "b"], "pos_tags": ["DET", "X"], "ner_tags": [0, 1]}] * 3, "word_tagging"),
        (
            [{"tokens": ["a", "b"], "tags": tags} for tags in (["O", "B-X"], ["O", "B-X"], ["O"])],
            "token_classification",
        ),
        ([{"tokens": ["a", "b"], "labels": ["joy", "anger", "fear"]}] * 3, "multi_label_classification"),
        ([{"text": "a b", "labels": ["joy", "anger"]}] * 3, "multi_label_classification"),
        ([{"text": "a b", "label": "joy"}] * 3, None),
    ],
)
def test_each_kind_of_rows_is_recognised_by_one_task(rows: list[dict[str, Any]], task: str | None) -> None:
    table = tables_in_memory(rows).splits["all"]
    catalog = Catalog("tasks")
    members: dict[str, Any] = {name: catalog.get(name) for name in catalog.names()}
    found = {name: member.recognises(table) for name, member in members.items() if member.recognises(table)}
    assert set(found) == ({task} if task else set())


class Listening(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def span_rows(count: int) -> list[dict[str, Any]]:
    """Texts whose entities are character spans."""
    rows: list[dict[str, Any]] = []
    for row in tagged_rows(count):
        offsets = word_offsets(row["tokens"])
        spans = [
            {"start": offsets[first][0], "end": offsets[after - 1][1], "label": label}
            for label, first, after in spans_of(row["tags"])
        ]
        rows.append({"text": " ".join(row["tokens"]), "entities": spans})
    return rows


def test_character_spans_from_file_to_proof_to_spans(tiny_bert: Path, tmp_path: Path) -> None:
    """Windows are needed as well: the limit is shorter than the texts, and one word has no token."""
    rows = span_rows(60)
    for row in rows[:2]:
        row["text"] += " \u2063"
    changes = {
        "base": str(tiny_bert), "training.epochs": 4, "training.learning_rate": 3e-3, "training.device": "cpu",
        "evaluation.resamples": 100, "task.name": "token_classification", "task.max_length_tokens": 10,
    }  # fmt: skip
    heard = Listening()
    run = finetune(load_recipe(None, changes), rows, tmp_path / "run", heard)
    assert run.record["proof"]["done"] is True
    assert any("words of" in each or "word of" in each for each in heard.said if "leaves nothing" in each)
    assert any(
        "texts of train beyond the length limit, read in overlapping windows" in each for each in heard.said
    )
    for row, prediction in zip(rows, run.predictor("cpu")([row["text"] for row in rows]), strict=True):
        places = {place for offset in prediction.offsets for place in offset}
        assert all({each.start, each.end} <= places for each in prediction.entities)
        assert [row["text"][start:end] for start, end in prediction.offsets] == row["text"].split()
    unknown = [{"text": "in road city", "entities": [{"start": 0, "end": 2, "label": "never heard of"}]}]
    with pytest.raises(DataError, match="never heard of; it knows PLACE, VEHICLE"):
        evaluate(run.directory.path, unknown, DataOptions(), "cpu")
    lines = [json.loads(line) for line in run.directory.predictions("test").read_text().splitlines()]
    test = [rows[int(line["row"].rsplit(" ", 1)[1]) - 1] for line in lines]
    again = evaluate(run.directory.path, test, DataOptions(), "cpu", resamples=100)
    assert again.headline.value == pytest.approx(run.metrics["f1_micro"])


def test_a_limit_without_room_for_a_word_is_refused(encoder: TextEncoder) -> None:
    with pytest.raises(ConfigurationError, match="2 tokens leave no room for a word"):
        TextEncoder(encoder.tokenizer, 2).words([["a"]])
    assert len(TextEncoder(encoder.tokenizer, 3).words([["a", "the", "a"]])) == 3
