"""A whole training in a run directory: interrupted anywhere and continued, it is the run that never stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.tiny import WORDS, tiny_base
from tests.training.compiled import need_library

from graftlm import fine_tuning, training_run
from graftlm.errors import Diverged, GraftError, Interrupted, RunError
from graftlm.kernels.compilation import fingerprint
from graftlm.kernels.library import describe
from graftlm.progress import Silent
from graftlm.recipe import Recipe, load_recipe
from graftlm.run_identity import describe_changes
from graftlm.rundir import RunDirectory
from graftlm.training import frozen, lazy_rows
from graftlm.workflows.finetune import finetune, resume

LABELS = {"parcel": "order", "refund": "money", "password": "account"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base") / "tiny", dropout=0.2)


@pytest.fixture
def rows(tmp_path: Path, seed: int) -> Path:
    """A CSV file of 60 learnable messages of uneven length."""
    random = torch.Generator().manual_seed(seed)
    lines = ["text,label"]
    for number in range(60):
        keyword = list(LABELS)[number % 3]
        count = int(torch.randint(2, 14, (1,), generator=random))
        others = [WORDS[int(index)] for index in torch.randint(0, 150, (count,), generator=random)]
        lines.append(f"{' '.join(others)} {keyword} number {number},{LABELS[keyword]}")
    file = tmp_path / "rows.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def _recipe(base: Path, rows: Path, **changes: Any) -> Recipe:
    return load_recipe(
        overrides={
            "base": str(base), "data.path": str(rows), "training.epochs": 2, "training.batch_size": 8,
            "training.learning_rate": 1e-3, "training.device": "cpu", "evaluation.proof": "none",
            "evaluation.resamples": 100, "training.checkpoint_steps": 1, **changes,
        }
    )  # fmt: skip


class StopAt(Silent):
    """Kills the process's own training at a step: with an exception (a crash) or a signal."""

    def __init__(self, step: int, signal_number: int | None = None, stage: str = "training") -> None:
        self.step, self.signal_number, self.wanted, self.current = step, signal_number, stage, ""

    def stage(self, name: str) -> None:
        self.current = name

    def advance(self, done: int, total: int, **figures: Any) -> None:
        if done != self.step or self.current != self.wanted:
            return
        if self.signal_number is None:
            raise SystemError("crash")
        os.kill(os.getpid(), self.signal_number)


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def _log(run: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (run / "steps.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def _assert_equal_runs(one: Path, other: Path) -> None:
    first, second = _weights(one), _weights(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert _log(one) == _log(other)
    for name in ("evaluations/test.json", "evaluations/validation.json", "predictions/test.jsonl"):
        assert (one / name).read_text() == (other / name).read_text(), name


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("accumulated", [False, True])
def test_crashed_at_every_step_and_resumed_is_bitwise_the_same(
    base: Path, rows: Path, tmp_path: Path, keep: str, accumulated: bool
) -> None:
    recipe = _recipe(
        base, rows, **{"training.keep": keep, **({"training.micro_batch": 3} if accumulated else {})}
    )
    whole = finetune(recipe, None, tmp_path / "whole")
    total = whole.record["steps"]
    assert total >= 10
    for step in range(1, total + 1, 1 if keep == "best" and not accumulated else 4):
        path = tmp_path / f"crashed-{step}"
        with pytest.raises(SystemError):
            finetune(recipe, None, path, StopAt(step))
        assert json.loads((path / "run.json").read_text())["state"] == "failed"
        resume(path)
        _assert_equal_runs(whole.path, path)


def test_crashed_twice_and_resumed_twice(base: Path, rows: Path, tmp_path: Path) -> None:
    recipe = _recipe(base, rows)
    whole = finetune(recipe, None, tmp_path / "whole")
    path = tmp_path / "crashed"
    with pytest.raises(SystemError):
        finetune(recipe, None, path, StopAt(3))
    with pytest.raises(SystemError):
        resume(path, progress=StopAt(7))
    resume(path)
    _assert_equal_runs(whole.path, path)


@pytest.mark.parametrize("execution", ["auto", "padded"])
def test_layers_computed_again_change_no_bit_and_may_come_and_go(
    base: Path, rows: Path, tmp_path: Path, execution: str
) -> None:
    recipe = _recipe(base, rows, **{"training.execution": execution})
    whole = finetune(recipe, None, tmp_path / "whole")
    path = tmp_path / "crashed"
    with pytest.raises(SystemError):
        finetune(recipe.changed({"training.gradient_checkpointing": True}), None, path, StopAt(5))
    written = (path / "recipe.yaml").read_text()
    assert "gradient_checkpointing: true" in written
    with pytest.raises(SystemError):
        resume(path, progress=StopAt(8))
    (path / "recipe.yaml").write_text(
        written.replace("gradient_checkpointing: true", "gradient_checkpointing: false")
    )
    resume(path)
    _assert_equal_runs(whole.path, path)


def test_after_lack_of_memory_a_run_goes_on_in_smaller_portions(
    base: Path, rows: Path, tmp_path: Path
) -> None:
    recipe = _recipe(base, rows)
    whole = finetune(recipe, None, tmp_path / "whole")
    path = tmp_path / "crashed"
    with pytest.raises(SystemError):
        finetune(recipe, None, path, StopAt(5))
    written = (path / "recipe.yaml").read_text()
    smaller = written.replace("micro_batch: null", "micro_batch: 3").replace(
        "batch_tokens: 4096", "batch_tokens: 50"
    )
    assert smaller.count("micro_batch: 3") == smaller.count("batch_tokens: 50") == 1
    (path / "recipe.yaml").write_text(smaller)
    resume(path)
    one, other = (load_file(each / "model" / "model.safetensors") for each in (whole.path, path))
    for name, weights in one.items():
        torch.testing.assert_close(other[name], weights, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [1, 6, 12])  # 6 is an evaluation point: it must not be lost
def test_a_signal_saves_the_step_and_resume_continues(
    base: Path, rows: Path, tmp_path: Path, number: int, step: int
) -> None:
    recipe = _recipe(base, rows, **{"training.checkpoint_steps": 1000})
    whole = finetune(recipe, None, tmp_path / "whole")
    path = tmp_path / "stopped"
    with pytest.raises(Interrupted) as caught:
        finetune(recipe, None, path, StopAt(step, number))
    assert caught.value.exit_code == 128 + number
    assert str(path) in str(caught.value)
    assert json.loads((path / "run.json").read_text())["state"] == "interrupted"
    assert [folder.name for folder in (path / "checkpoints").iterdir()] == [f"step-{step:08d}"]
    resume(path)
    _assert_equal_runs(whole.path, path)


def test_sigterm_during_the_last_save_ends_there_and_resume_only_concludes(
    base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = _recipe(base, rows, **{"training.checkpoint_steps": 1000})
    whole = finetune(recipe, None, tmp_path / "whole")
    real = training_run.save_checkpoint

    def interrupting(*arguments: Any) -> Path:
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments)

    path = tmp_path / "stopped"
    with monkeypatch.context() as patch, pytest.raises(Interrupted) as caught:
        patch.setattr(training_run, "save_checkpoint", interrupting)
        finetune(recipe, None, path)
    assert caught.value.exit_code == 143
    assert json.loads((path / "run.json").read_text())["state"] == "interrupted"
    assert [folder.name for folder in (path / "checkpoints").iterdir()] == ["step-00000012"]
    assert not (path / "model").exists()
    resume(path, progress=StopAt(12))  # would crash if a step were trained again
    _assert_equal_runs(whole.path, path)


def test_a_signal_during_validation_repeats_the_validation(
    base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = _recipe(base, rows, **{"training.checkpoint_steps": 1000})
    whole = finetune(recipe, None, tmp_path / "whole")
    real = fine_tuning.predict_outputs
    state = {"asked": False}

    def interrupting(*arguments: Any, **options: Any) -> Any:
        if not state["asked"]:
            state["asked"] = True
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments, **options)

    monkeypatch.setattr(fine_tuning, "predict_outputs", interrupting)
    path = tmp_path / "stopped"
    with pytest.raises(Interrupted):
        finetune(recipe, None, path)
    resume(path)
    _assert_equal_runs(whole.path, path)


def test_killed_while_concluding_resumes_without_training_again(
    base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graftlm import conclusion

    recipe = _recipe(base, rows)
    whole = finetune(recipe, None, tmp_path / "whole")

    def crash(*arguments: object) -> None:
        raise SystemError("crash")

    path = tmp_path / "crashed"
    with monkeypatch.context() as patch, pytest.raises(SystemError):
        patch.setattr(conclusion, "save_artefact", crash)
        finetune(recipe, None, path)
    assert not (path / "model").exists()
    resume(path, progress=StopAt(1))  # would crash if a step were trained again
    _assert_equal_runs(whole.path, path)


def _crashed(recipe: Recipe, path: Path, step: int = 5) -> RunDirectory:
    with pytest.raises(SystemError):
        finetune(recipe, None, path, StopAt(step))
    return RunDirectory(path)


CHANGES = {
    "seed": ("seed: 1", "seed: 2", "seed: was 1, now 2"),
    "rate": ("learning_rate: 0.001", "learning_rate: 0.002", "training.learning_rate: was 0.001, now 0.002"),
    "batch": ("batch_size: 8", "batch_size: 4", "training.batch_size: was 8, now 4"),
    "epochs": ("epochs: 2.0", "epochs: 3.0", "training.epochs: was 2.0, now 3.0"),
    "objective": (
        "label_smoothing: 0.0",
        "label_smoothing: 0.1",
        "objective.label_smoothing: was 0.0, now 0.1",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_recipe_is_refused_with_the_difference(
    base: Path, rows: Path, tmp_path: Path, name: str
) -> None:
    run = _crashed(_recipe(base, rows), tmp_path / "run")
    old, new, sentence = CHANGES[name]
    text = run.recipe.read_text()
    assert old in text
    run.recipe.write_text(text.replace(old, new, 1))
    with pytest.raises(RunError) as caught:
        resume(run.path)
    assert sentence in str(caught.value)


def test_changed_rows_labels_and_base_are_refused(base: Path, rows: Path, tmp_path: Path) -> None:
    own_base = tmp_path / "base"
    shutil.copytree(base, own_base)
    run = _crashed(_recipe(own_base, rows), tmp_path / "run")
    content = rows.read_text()
    rows.write_text(content.replace("number 4,", "number four,"))
    with pytest.raises(RunError, match="the rows of"):
        resume(run.path)
    rows.write_text(content.replace(",money", ",coins"))
    with pytest.raises(RunError, match="labels: was"):
        resume(run.path)
    rows.write_text(content)
    tiny_base(own_base, seed=9)
    with pytest.raises(RunError, match="base: the files"):
        resume(run.path)


class Listener(Silent):
    """Remembers what it was told and warned of."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warnings: list[str] = []

    def say(self, sentence: str) -> None:
        self.said.append(sentence)

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)


def _about_conditions(listener: Listener) -> list[str]:
    """Return the warnings, but for that of so short a run having learnt nothing."""
    return [each for each in listener.warnings if "the model has collapsed" not in each]


def test_other_threads_are_said_and_the_run_continues(base: Path, rows: Path, tmp_path: Path) -> None:
    run = _crashed(_recipe(base, rows), tmp_path / "run")
    listener, before = Listener(), torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        resume(run.path, progress=listener)
    finally:
        torch.set_num_threads(before)
    assert _about_conditions(listener) == [
        f"threads was {before}, now {before + 1}: the run continues, but not bit for bit"
    ]
    assert run.read_record()["state"] == "finished"


def test_features_that_a_resumed_run_has_no_room_for_are_said(
    base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How much of the disk is free may be otherwise by then, and batches of training give other last bits."""
    run = _crashed(_recipe(base, rows, **{"strategy.name": "head_only"}), tmp_path / "run")

    def full(needed: int, folder: Path) -> None:
        raise frozen.NotKept("no room")

    monkeypatch.setattr(frozen, "_check_room", full)
    listener = Listener()
    resume(run.path, progress=listener)
    assert _about_conditions(listener) == [
        "features was kept, now computed in each pass: the run continues, but not bit for bit"
    ]
    assert run.read_record()["state"] == "finished"


@pytest.mark.parametrize("older", [False, True])
def test_missing_kernels_are_said_and_the_run_continues(
    base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, older: bool
) -> None:
    """A checkpoint that says nothing of kernels is older than they are, and was made without."""
    need_library()
    run = _crashed(_recipe(base, rows, **{"training.execution": "padded"}), tmp_path / "run")
    listener, level, real = Listener(), describe(), training_run.newest_checkpoint

    def found(*arguments: Any) -> Any:
        checkpoint = real(*arguments)
        assert checkpoint is not None
        if older:
            del checkpoint.state["conditions"]["kernels"], checkpoint.state["conditions"]["execution"]
        return checkpoint

    monkeypatch.setattr(training_run, "newest_checkpoint", found)
    if not older:
        monkeypatch.setenv("GRAFTLM_KERNELS", "off")
    resume(run.path, progress=listener)
    level = f"{level} {fingerprint()[:8]}"
    then, now = ("none", level) if older else (level, "none")
    assert _about_conditions(listener) == [
        f"kernels was {then}, now {now}: the run continues, but not bit for bit"
    ]
    assert run.read_record()["state"] == "finished"


def test_a_new_run_without_kernels_says_so_once(
    base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFTLM_KERNELS", "off")
    listener = Listener()
    run = finetune(_recipe(base, rows), None, tmp_path / "run", progress=listener)
    assert [each for each in listener.said if "compiled kernels" in each] == [
        "there are no compiled kernels (switched off by GRAFTLM_KERNELS): the same numbers, in more time"
    ]
    assert run.record["execution"]["kernels"] == "none: switched off by GRAFTLM_KERNELS"


@pytest.mark.parametrize("keep", ["best", "last"])
def test_late_rows_change_nothing_of_a_run_crashed_or_not(
    base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: str
) -> None:
    """Trained with every row in time, against rows that are late, a crash and another one: the same bits."""
    need_library()
    recipe = _recipe(base, rows, **{"training.keep": keep, "training.checkpoint_steps": 2})
    dense = finetune(recipe, None, tmp_path / "dense")
    monkeypatch.setattr(lazy_rows, "FEWEST_ROWS", 1)
    _assert_equal_runs(dense.path, finetune(recipe, None, tmp_path / "late").path)
    for step in (3, 6, 9):
        path = tmp_path / f"crashed-{step}"
        with pytest.raises(SystemError):
            finetune(recipe, None, path, StopAt(step))
        with pytest.raises(SystemError):
            resume(path, progress=StopAt(step + 2))
        resume(path)
        _assert_equal_runs(dense.path, path)
    extended = [resume(tmp_path / name, extend_epochs=3).path for name in ("late", "crashed-6")]
    _assert_equal_runs(*extended)


def test_numbers_that_are_read_late_change_nothing_of_a_run_stopped_or_not(
    base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: validations, checkpoints and signals find the weights of their step."""
    monkeypatch.setenv("GRAFTLM_KERNELS", "off")
    recipe = _recipe(base, rows, **{"training.keep": "best", "training.checkpoint_steps": 4})
    in_time = finetune(recipe, None, tmp_path / "in-time")
    monkeypatch.setattr(training_run, "late_steps", lambda *_: 3)
    _assert_equal_runs(in_time.path, finetune(recipe, None, tmp_path / "late").path)
    with pytest.raises(Interrupted):
        finetune(recipe, None, tmp_path / "stopped", StopAt(2, signal.SIGTERM))
    steps = _log(tmp_path / "stopped")
    assert steps[-1]["step"] > 2, "others had begun"
    resume(tmp_path / "stopped")
    _assert_equal_runs(in_time.path, tmp_path / "stopped")


def test_a_half_written_line_of_the_log_is_made_again(base: Path, rows: Path, tmp_path: Path) -> None:
    recipe = _recipe(base, rows)
    whole = finetune(recipe, None, tmp_path / "whole")
    run = _crashed(recipe, tmp_path / "run")
    assert [record["step"] for record in _log(run.path)][-1] == 5, (
        "logged, but not in a checkpoint: a duplicate to be"
    )
    with run.steps.open("a") as file:
        file.write('{"step": 6, "epo')
    resume(run.path)
    _assert_equal_runs(whole.path, run.path)


def test_a_path_in_the_home_folder_is_found_again_on_resume(
    base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a recipe no shell has replaced the tilde."""
    monkeypatch.setenv("HOME", str(rows.parent))
    recipe = _recipe(base, Path("~") / rows.name)
    run = _crashed(recipe, tmp_path / "run")
    assert f"path: ~/{rows.name}\n" in run.recipe.read_text()
    assert resume(run.path).record["state"] == "finished"
    assert run.predictions("test").read_text().startswith(f'{{"row": "~/{rows.name}:')


def test_a_damaged_newest_checkpoint_falls_back_and_says_so(base: Path, rows: Path, tmp_path: Path) -> None:
    recipe = _recipe(base, rows)
    whole = finetune(recipe, None, tmp_path / "whole")
    run = _crashed(recipe, tmp_path / "run")
    newest = max((run.checkpoints).glob("step-*"))
    (newest / "optimizer.safetensors").write_bytes(b"")
    listener = Listener()
    resume(run.path, progress=listener)
    assert any(
        newest.name in sentence and "optimizer.safetensors" in sentence for sentence in listener.warnings
    )
    _assert_equal_runs(whole.path, run.path)


def test_a_run_without_any_checkpoint_starts_again(base: Path, rows: Path, tmp_path: Path) -> None:
    recipe = _recipe(base, rows)
    whole = finetune(recipe, None, tmp_path / "whole")
    run = _crashed(recipe, tmp_path / "run")
    shutil.rmtree(run.checkpoints)
    resume(run.path)
    _assert_equal_runs(whole.path, run.path)


def test_a_finished_run_can_be_extended_and_the_extension_resumed(
    base: Path, rows: Path, tmp_path: Path
) -> None:
    recipe = _recipe(base, rows)
    for name in ("one", "two"):
        finetune(recipe, None, tmp_path / name)
    with pytest.raises(RunError, match="--extend-epochs"):
        resume(tmp_path / "one")
    extended = resume(tmp_path / "one", extend_epochs=3)
    assert extended.recipe.training.epochs == 3
    assert extended.record["steps"] == 18
    with pytest.raises(SystemError):
        resume(tmp_path / "two", extend_epochs=3, progress=StopAt(14))
    resume(tmp_path / "two")
    _assert_equal_runs(tmp_path / "one", tmp_path / "two")
    with pytest.raises(GraftError, match="not more than"):
        resume(tmp_path / "one", extend_epochs=1)


def test_a_non_finite_loss_names_rows_saves_nothing_and_exits_4(
    base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = _recipe(base, rows, **{"training.learning_rate": 1e30, "training.warmup_share": 0.0,
                                    "training.max_gradient_norm": None, "training.weight_decay": 0.0})  # fmt: skip
    with pytest.raises(Diverged, match="rows") as caught:
        finetune(recipe, None, tmp_path / "run")
    assert caught.value.exit_code == 4
    assert "number" not in str(caught.value), "texts stay out of messages"
    for checkpoint in (tmp_path / "run" / "checkpoints").glob("step-*"):
        assert all(
            torch.isfinite(tensor).all() for tensor in load_file(checkpoint / "model.safetensors").values()
        )
    assert not (tmp_path / "run" / "model").exists()


def test_headline_rows_select_nothing(base: Path, rows: Path, tmp_path: Path) -> None:
    """Whatever the labels of test are, the same weights are kept: nothing of test reaches the choice."""
    header, *lines = rows.read_text().splitlines()
    turn = {"order": "money", "money": "account", "account": "order"}
    runs = []
    for name, turned in (("as they are", False), ("turned", True)):
        folder = tmp_path / name
        folder.mkdir()
        test = [
            f"{text},{turn[label] if turned else label}"
            for text, label in (line.rsplit(",", 1) for line in lines[40:])
        ]
        (folder / "train.csv").write_text("\n".join([header, *lines[:40]]) + "\n")
        (folder / "test.csv").write_text("\n".join([header, *test]) + "\n")
        runs.append(
            finetune(_recipe(base, folder, **{"training.keep": "best"}), None, tmp_path / f"run {name}")
        )
    first, second = (_weights(run.path) for run in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (
        runs[0].directory.predictions("test").read_text() != runs[1].directory.predictions("test").read_text()
    )
    for run in runs:
        assert run.headline_split == "test"
        assert run.evaluation("test")["selected"] is False
        assert run.evaluation("validation")["selected"] is True


def test_without_a_test_split_the_headline_is_labelled_selected(
    base: Path, rows: Path, tmp_path: Path
) -> None:
    chosen = _recipe(base, rows, **{"data.test_share": 0, "training.keep": "best"})
    run = finetune(chosen, None, tmp_path / "best")
    assert run.headline_split == "validation"
    assert run.evaluation("validation")["selected"] is True
    assert "selected" in run.report()
    last = finetune(_recipe(base, rows, **{"data.test_share": 0}), None, tmp_path / "last")
    assert last.evaluation("validation")["selected"] is False


def test_early_stopping_keeps_the_best_weights(base: Path, rows: Path, tmp_path: Path) -> None:
    recipe = _recipe(base, rows, **{"training.epochs": 30, "training.patience_evaluations": 2})
    run = finetune(recipe, None, tmp_path / "run")
    values = [record["validation"]["accuracy"] for record in _log(run.path) if "validation" in record]
    steps = [record["step"] for record in _log(run.path) if "validation" in record]
    assert run.record["steps"] < 30 * 6
    first = values.index(max(values))
    equal = [step for step, value in zip(steps, values, strict=True) if value == values[first]]
    assert run.record["kept_step"] == equal[-1]
    assert len(values) - 1 - first == 2
    stored = json.loads(run.directory.evaluation("validation").read_text())["scores"]["values"]["accuracy"][
        "value"
    ]
    assert stored == pytest.approx(max(values))


def test_steps_are_logged_once_each(base: Path, rows: Path, tmp_path: Path) -> None:
    run = finetune(_recipe(base, rows), None, tmp_path / "run")
    steps = [record["step"] for record in _log(run.path) if "loss" in record]
    assert steps == list(range(1, 13))
    assert {"epoch", "loss", "gradient_norm", "learning_rate", "examples", "tokens"} <= set(_log(run.path)[0])


def test_other_rows_are_not_also_called_other_tokens() -> None:
    recipe = load_recipe(None, {"data.path": "a.csv"}).dump()
    before: dict[str, Any] = {
        "recipe": recipe, "labels": ["a"], "base": "b", "data": {"train": "1", "test": "2"},
        "tokens": {"train": "3", "test": "4"}, "speaking_token": "first", "learning_rate": 1e-4,
    }  # fmt: skip
    rows = {**before, "data": {"train": "5", "test": "2"}, "tokens": {"train": "6", "test": "4"}}
    assert describe_changes(before, rows, extending=False) == ["data: the rows of train are not the same"]
    tokens = {**before, "tokens": {"train": "3", "test": "7"}}
    (sentence,) = describe_changes(before, tokens, extending=False)
    assert sentence.startswith("tokens: the same rows are other tokens")
