"""What every task must keep, with every strategy: the contract of `graftlm.tasks._task`.

A new task needs an entry in `SAMPLES`: rows that a tiny model can learn by heart. One that writes needs one in
`WRITERS` as well: the families of base models that can.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from tests.rows import LABELS, classified_rows, first_baseline
from tests.tiny import tiny_base

from graftlm import tokenising
from graftlm.catalog import Catalog
from graftlm.data.assembling import assemble
from graftlm.data.dataset import Split
from graftlm.data.features import IGNORED, Features
from graftlm.data.loading import read_tables
from graftlm.data.options import DataOptions
from graftlm.data.roles import INPUT_KINDS
from graftlm.errors import DataError
from graftlm.models.encoder import TextEncoder
from graftlm.preparation import open_encoder
from graftlm.recipe import load_recipe
from graftlm.tasks._task import Learnt
from graftlm.tokenising import encoded
from graftlm.workflows.finetune import finetune

TASKS = Catalog("tasks").names()
STRATEGIES = Catalog("strategies").names()


def label_set_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows with two labels, one, or none."""
    sets = {
        "anger": ["about people"],
        "joy": ["about people", "pleasant"],
        "travel": [],
        "weather": ["pleasant"],
    }
    return [{"text": row["text"], "labels": sets[row["label"]]} for row in classified_rows(count, seed=seed)]


def number_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows whose label tells a number, in units far from 0 and 1."""
    return [
        {"text": row["text"], "number": 1000.0 + 25.5 * LABELS.index(row["label"])}
        for row in classified_rows(count, seed=seed)
    ]


def answer_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Questions about what somebody bought; every fifth context does not say it."""
    random = np.random.default_rng(seed)
    things, people, days = (
        ("shirt", "book", "pizza", "coffee"),
        ("i", "you", "we", "they"),
        ("monday", "friday"),
    )
    rows: list[dict[str, Any]] = []
    for number in range(count):
        thing = things[int(random.integers(len(things)))]
        verb = "bought" if number % 5 else "sold"
        before = f"{' '.join(['very'] * (number % 4))} early {days[number % 2]} {people[number % 3]} {verb} a ".lstrip()
        answers = [{"text": thing, "answer_start": len(before)}] if number % 5 else []
        rows.append({"question": f"bought ? {number}", "context": f"{before}{thing} .", "answers": answers})
    return rows


def tagged_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Words of which some are named by the word before them, so that no word alone tells its tag."""
    random = Random(seed)
    rows: dict[str, dict[str, Any]] = {}
    while len(rows) < count:
        words, tags = [], []
        for cue, tag in random.sample(CUES, 3):
            words += [random.choice(("the", "a", "my")), cue, *random.choices(("road", "city", "train"), k=2)]
            tags += ["O", "O", *(["O", "O"] if tag is None else [f"B-{tag}", f"I-{tag}"])]
        rows[" ".join(words)] = {"tokens": words, "tags": tags}
    return list(rows.values())


def plainly_tagged_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """The same with a plain name for each word."""
    return [
        {"tokens": row["tokens"], "tags": [tag.replace("-", "") for tag in row["tags"]]}
        for row in tagged_rows(count, seed)
    ]


def written_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Sources with what should be written: what they are about, and their first word."""
    about = ("it is awful", "it is very lovely", "by train", "in the night")
    return [
        {
            "source": row["text"],
            "target": f"{about[LABELS.index(row['label'])]} - {row['text'].split()[0]}",
        }
        for row in classified_rows(count, seed=seed)
    ]


def conversation_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Conversations of one question, every third of two; the reply depends on the last."""
    rows: list[dict[str, Any]] = []
    for number, row in enumerate(written_rows(count, seed)):
        words = row["source"].split()[:6]
        reply = f"{row['target'].split(' - ')[0]} - {words[0]}"
        said = [("user", "hello"), ("assistant", "hi !")] if number % 3 == 0 else []
        said += [("user", f"{' '.join(words)} {number}"), ("assistant", reply)]
        rows.append({"messages": [{"role": role, "content": content} for role, content in said]})
    return rows


CUES = (("in", "PLACE"), ("by", "VEHICLE"), ("not", None))
SAMPLES = {
    "token_classification": tagged_rows,
    "word_tagging": plainly_tagged_rows,
    "text_classification": classified_rows,
    "multi_label_classification": label_set_rows,
    "text_regression": number_rows,
    "question_answering": answer_rows,
    "text_generation": written_rows,
    "dialogue": conversation_rows,
}
# A row that no model of the other rows can answer; None where any answer can be given.
UNSEEN = {
    "text_classification": {"text": "the train", "label": "never heard of"},
    "multi_label_classification": {"text": "the train", "labels": ["never heard of"]},
    "text_regression": None,
    "question_answering": None,
    "text_generation": None,
    "dialogue": None,
    "token_classification": {"tokens": ["the", "train"], "tags": ["O", "B-never heard of"]},
    "word_tagging": {"tokens": ["the", "train"], "tags": ["O", "never heard of"]},
}
# Tasks that write -> the families of base models that carry them; all others are carried by an encoder.
WRITERS = {"text_generation": ("bart", "gpt2"), "dialogue": ("llama",)}
# Short texts for short tests.
WRITING = {"task.max_target_tokens": 14, "task.num_beams": 1}
CASES = [(name, family) for name in TASKS for family in WRITERS.get(name, ("bert",))]


def rows_of(name: str, count: int, seed: int = 0) -> list[dict[str, Any]]:
    return SAMPLES[name](count, seed=seed)


def input_of(name: str) -> str:
    """The column that a model of the task reads."""
    return Catalog("tasks").get(name).roles[0].name  # pyright: ignore


def windowed(name: str) -> bool:
    """Whether long rows are read in windows instead of being cut."""
    return Catalog("tasks").get(name).roles[0].kind == "words"  # pyright: ignore


def split_of(name: str, rows: list[dict[str, Any]]) -> Split:
    task = Catalog("tasks").get(name)()
    options = DataOptions(validation_share=0.0, test_share=0.0)
    return assemble(read_tables(rows, options), task.roles, options, 0).splits["train"]  # pyright: ignore


def inputs_of(task: Any, row: dict[str, Any]) -> Any:
    """What a predictor is given of a row: a text, or its parts by role."""
    names = [role.name for role in task.roles if role.kind in INPUT_KINDS and role.name in row]
    return row[names[0]] if len(names) == 1 else {name: row[name] for name in names}


def too_long(name: str) -> Any:
    """An input that exceeds every limit."""
    text = "train " * 500
    return ((("user", text), ("assistant", "good")),) if name == "dialogue" else (text,)


def replies_of(split: Split) -> list[str]:
    """What should be written about each row."""
    if "target" in split.columns:
        return split.columns["target"]  # pyright: ignore
    return [messages[-1].content for messages in split.columns["messages"]]  # pyright: ignore


def certain_outputs(task: Any, targets: Any, features: Features, learnt: Learnt) -> Any:
    """The outputs of a model that knows the answer."""
    match task.answer_kind:
        case "answers":
            outputs = [
                np.full((len(ids), 2), -20.0, dtype=np.float32) for ids in features.inputs["input_ids"]
            ]
            for output, positions in zip(outputs, targets, strict=True):
                output[positions, [0, 1]] = 20.0
            return outputs
        case "labels":
            outputs = np.full((len(targets), len(learnt.labels)), -20.0, dtype=np.float32)
            outputs[np.arange(len(targets)), targets] = 20.0
            return outputs
        case "label_sets":
            return (40.0 * targets - 20.0).astype(np.float32)
        case "tags" | "spans":
            return [
                np.where(np.arange(len(learnt.labels)) == each[:, None], 20.0, -20.0).astype(np.float32)
                for each in targets
            ]
        case "texts" | "replies":
            prompts = features.writing.prompts if features.writing is not None else None
            begins = [0] * len(targets) if prompts is None else [length - 1 for length in prompts]
            return [
                np.concatenate([written(each[begin:], 0.0), written(each, 1.0)])
                for each, begin in zip(targets, begins, strict=True)
            ]
        case _:
            return targets[:, None]


def written(targets: Any, given: float) -> Any:
    """See `graftlm.data.writing.WRITTEN_COLUMNS`: everything is certain."""
    tokens = targets[targets != IGNORED].astype(np.float32)
    return np.column_stack([tokens, np.zeros_like(tokens), np.full_like(tokens, given)])


def assert_same(one: Any, other: Any) -> None:
    """Equal values, numbers to what batches of another width round."""
    if isinstance(one, list) and isinstance(other, list):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            assert_same(first, second)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert_same(value, other[key])
    else:
        assert one == (pytest.approx(other, rel=1e-4, abs=1e-6) if isinstance(other, float) else other)


def assert_right(task: Any, predictions: Any, split: Split) -> None:
    """The predictions say what the rows say."""
    if task.answer_kind == "numbers":
        found, wanted = [each.number for each in predictions], split.columns["number"]
        np.testing.assert_allclose(found, wanted, atol=0.1 * np.std(wanted))  # pyright: ignore
    elif task.answer_kind in ("texts", "replies"):
        assert [task.decision(prediction) for prediction in predictions] == replies_of(split)
        assert not any(prediction.cut for prediction in predictions)
    elif task.answer_kind == "answers":
        wanted = [tuple(spans[0]) if spans else (None, None) for spans in task.references(split)]
        assert [task.decision(prediction) for prediction in predictions] == wanted
    else:
        kinds = {"labels": str, "label_sets": frozenset}
        wanted = [kinds.get(task.answer_kind, tuple)(each) for each in task.references(split)]
        assert [task.decision(prediction) for prediction in predictions] == wanted


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> dict[str, Path]:
    """Family -> a tiny base model of it."""
    families = {family for _, family in CASES} - {"bert"}
    folder = tmp_path_factory.mktemp("bases")
    return {"bert": tiny_bert, **{family: tiny_base(folder / family, family) for family in families}}


def options_of(name: str, base: Path, **changes: Any) -> dict[str, Any]:
    """What the recipe of a tiny run says."""
    return {"base": str(base), "task.name": name, **(WRITING if name in WRITERS else {}), **changes}


def opened(name: str, base: Path, most: int) -> tuple[Any, TextEncoder]:
    """The task, and a tokenizer with a limit."""
    recipe = load_recipe(None, options_of(name, base, **{"task.max_length_tokens": most}))
    return recipe.task, open_encoder(recipe)[2]


def test_every_task_has_a_sample() -> None:
    assert set(SAMPLES) == set(UNSEEN) == set(TASKS)


@pytest.mark.parametrize(("name", "family"), CASES)
def test_certain_outputs_decode_to_the_answers_they_were_made_from(
    name: str, family: str, bases: dict[str, Path]
) -> None:
    # Where one network reads and writes, both must fit.
    task, encoder = opened(name, bases[family], 60 if name in WRITERS else 24)
    split = split_of(name, rows_of(name, 20))
    learnt = task.learn(split)
    assert list(learnt.labels) == sorted(set(learnt.labels))
    assert json.loads(json.dumps(learnt.rule, allow_nan=False)) == learnt.rule
    options = task.model_options(learnt)
    if learnt.labels:
        assert [options["id2label"][index] for index in range(options["num_labels"])] == list(learnt.labels)
    features = task.encode(split, encoder)
    assert list(features.rows) == list(range(len(split)))
    outputs = certain_outputs(task, task.targets(split, features, learnt), features, learnt)
    for known in (learnt, task.tune(outputs, split, features, learnt)):
        decoded = task.decode(outputs, split, features, known)
        assert_right(task, decoded, split)
        assert task.score(decoded, split, known, resamples=100).headline.value == pytest.approx(1.0)
        json.dumps([task.record(prediction) for prediction in decoded], allow_nan=False)
        assert all(task.phrase(prediction) for prediction in decoded)
        assert task.describe(known) and compile(task.usage(known, task.architectures[0]), "card", "exec")
    json.dumps(task.references(split), allow_nan=False)
    baseline = first_baseline(task, split, split, learnt)
    assert task.score(baseline, split, learnt, resamples=100).headline.value < 0.7


@pytest.mark.parametrize(("name", "family"), CASES)
def test_portions_and_single_rows_have_the_features_of_the_whole(
    name: str, family: str, bases: dict[str, Path], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, encoder = opened(name, bases[family], 60 if name in WRITERS else 24)
    split = split_of(name, rows_of(name, 23, seed))
    (split.columns[input_of(name)][5],) = too_long(name)
    if "tags" in split.columns:
        split.columns["tags"][5] = ["O"] * 500
    learnt, whole = task.learn(split), task.encode(split, encoder)
    assert len(whole) > 23 if windowed(name) else 5 in whole.truncated_rows
    monkeypatch.setattr(tokenising, "PORTION_ROWS", 4)
    done: list[int] = []
    found = encoded(task, split, encoder, done.append)
    assert done == [4, 4, 4, 4, 4, 3]
    assert contents(found) == contents(whole)
    assert plain(task.targets(split, found, learnt)) == plain(task.targets(split, whole, learnt))
    for row in range(23):
        alone = contents(encoded(task, split.take([row]), encoder, done.append))
        own = [example for example, of_row in enumerate(whole.rows) if of_row == row]
        for key, values in contents(whole)["each"].items():
            assert (
                alone["each"][key] == [values[example] for example in own]
                if values
                else not alone["each"][key]
            )


def contents(features: Features) -> dict[str, Any]:
    """What features hold, as lists: by example, and by row."""
    writing = features.writing
    each = {name: list(map(list, values)) for name, values in features.inputs.items()}
    each |= {"spans": plain(features.spans), "words": plain(features.words)}
    if writing is not None:
        each |= {"targets": plain(writing.targets), "prompts": list(writing.prompts or ())}
    cut = [] if writing is None else writing.cut_rows
    return {"each": each, "rows": list(features.rows), "truncated": features.truncated_rows, "cut": cut}


def plain(arrays: Any) -> list[Any]:
    return [array.tolist() for array in arrays]


@pytest.mark.parametrize(("name", "family"), CASES)
def test_none_one_and_too_long(name: str, family: str, bases: dict[str, Path]) -> None:
    most = 48 if name == "dialogue" else 24  # the plain template takes many pieces of this tokenizer
    task, encoder = opened(name, bases[family], most)
    split = split_of(name, rows_of(name, 4))
    learnt = task.learn(split)
    empty = split.take([])
    features = task.encode(empty, encoder)
    assert len(features) == 0
    assert task.decode([], empty, features, learnt) == []
    assert len(task.targets(empty, features, learnt)) == 0
    assert len(task.encode(split.take([2]), encoder)) == 1
    (split.columns[input_of(name)][1],) = too_long(name)
    features = task.encode(split, encoder)
    if features.writing is None or features.writing.prompts is None:
        assert len(features.inputs["input_ids"][1]) == most
    else:
        room = most - task.max_target_tokens
        assert 1 < features.writing.prompts[1] <= room and len(features.inputs["input_ids"][1]) <= most
    if windowed(name):
        assert features.truncated_rows == []
        answered = [
            word
            for row, words in zip(features.rows, features.words, strict=True)
            if row == 1
            for word in words
        ]
        assert sorted(word for word in answered if word >= 0) == list(range(500))
    else:
        assert 1 in features.truncated_rows
        assert name in WRITERS or features.truncated_rows == [1]


@pytest.mark.parametrize("name", [name for name in TASKS if UNSEEN[name] is not None])
def test_a_label_unseen_in_training_is_refused(name: str, tiny_bert: Path, tmp_path: Path) -> None:
    recipe = load_recipe(None, {"base": str(tiny_bert), "task.name": name})
    rows = rows_of(name, 12)
    data = {"train": rows[:8], "validation": rows[8:], "test": [*rows[8:], UNSEEN[name]]}
    with pytest.raises(DataError, match="'never heard of'") as caught:
        finetune(recipe, data, tmp_path / "run")
    assert "test" in str(caught.value)


@pytest.mark.usefixtures("warm_children")
@pytest.mark.parametrize(("name", "family"), CASES)
def test_a_whole_run_is_proved_and_predicts_in_row_order(
    name: str, family: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    changes = options_of(
        name, bases[family],
        **{"training.epochs": 2, "evaluation.resamples": 100, "training.device": "cpu"},
    )  # fmt: skip
    rows = rows_of(name, 30 if name in WRITERS else 60)
    run = finetune(load_recipe(None, changes), rows, tmp_path / "run")
    assert run.record["proof"]["done"] is True
    lines = [json.loads(line) for line in run.directory.predictions("test").read_text().splitlines()]
    assert len(lines) == run.record["data"]["rows"]["test"]
    predictor = run.predictor("cpu")
    task = predictor.task
    texts = [inputs_of(task, rows[int(line["row"].rsplit(" ", 1)[1]) - 1]) for line in lines]
    for line, prediction, text in zip(lines, predictor(texts), texts, strict=True):
        (alone,) = predictor([text])
        for given in (alone, prediction):
            record = json.loads(json.dumps(task.record(given)))
            assert set(task.quotes) <= record.keys() - line.keys()
            for key in record.keys() - set(task.quotes):
                assert_same(line[key], record[key])
    assert run.report() and (run.directory.model / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "family", "strategy"), [(*case, strategy) for case in CASES for strategy in STRATEGIES]
)
def test_eight_rows_are_learnt_by_heart_and_survive_the_file(
    name: str, family: str, strategy: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    rows = rows_of(name, 8)
    whole = strategy == "full"
    epochs = (150 if name in WRITERS else 300) if whole else 20
    changes = options_of(
        name, bases[family],
        **{
            "strategy.name": strategy, "evaluation.proof": "none", "data.validation_share": 0.0,
            "data.test_share": 0.0, "training.epochs": epochs, "training.batch_size": 8,
            "training.learning_rate": 1e-2 if name in WRITERS else 3e-3, "training.dropout": 0.0,
        },
    )  # fmt: skip
    run = finetune(load_recipe(None, changes), rows, tmp_path / "run")
    steps = [json.loads(line) for line in run.directory.steps.read_text().splitlines()]
    # A random body that stays as it is holds too little for that.
    assert steps[-1]["loss"] < (0.05 if whole else steps[0]["loss"])
    assert run.headline_split is None
    predictor = run.predictor("cpu")
    predictions = predictor([inputs_of(predictor.task, row) for row in rows])
    if whole:
        assert_right(predictor.task, predictions, split_of(name, rows))


@pytest.mark.parametrize(
    ("name", "family", "strategy"), [(*case, strategy) for case in CASES for strategy in STRATEGIES]
)
def test_two_steps_are_the_same_in_any_micro_batch(
    name: str, family: str, strategy: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    logged: list[list[dict[str, float]]] = []
    for micro_batch in (8, 3, 1):
        changes = options_of(
            name, bases[family],
            **{
                "strategy.name": strategy, "evaluation.proof": "none", "data.validation_share": 0.0,
                "data.test_share": 0.0, "training.epochs": 1, "training.batch_size": 8,
                "training.micro_batch": micro_batch, "training.dropout": 0.0,
            },
        )  # fmt: skip
        run = finetune(load_recipe(None, changes), rows_of(name, 15), tmp_path / str(micro_batch))
        logged.append([json.loads(line) for line in run.directory.steps.read_text().splitlines()])
    assert len(logged[0]) == 2
    for other in logged[1:]:
        for one, two in zip(logged[0], other, strict=True):
            assert two["loss"] == pytest.approx(one["loss"], rel=1e-6)
            assert two["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-6)
