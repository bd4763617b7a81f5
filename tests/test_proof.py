from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tests.rows import classified_rows, write_csv

from graftlm import conclusion, proof
from graftlm.cli.app import run
from graftlm.data.dataset import Split
from graftlm.data.features import Outputs
from graftlm.errors import ProofFailed
from graftlm.predictor import Predictor
from graftlm.proof import compare, predict_afresh
from graftlm.run import Run

IDS = ["a.csv:2", "a.csv:3", "a.csv:4"]
LOGITS = np.array([[0.0, 1.0], [2.0, 1.0], [0.5, 0.500001]], dtype=np.float32)


def words(base: Path, folder: Path) -> list[str]:
    data = write_csv(folder / "data.csv", classified_rows(60))
    return [
        "finetune", str(data), f"base={base}", "training.epochs=2", "training.device=cpu",
        "evaluation.resamples=100", "--run-dir", str(folder / "run"), "--quiet",
    ]  # fmt: skip


def test_a_run_is_proved_by_a_fresh_process(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Files in the user's folder that bear the names of libraries must not be taken for them.
    for name in ("tokenizers", "safetensors", "json", "csv", "random"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the file of the user was imported')")
    monkeypatch.chdir(tmp_path)
    asked: list[list[str]] = []
    start = subprocess.run

    def watched(command: list[str], **options: Any) -> Any:
        asked.append(command)
        return start(command, **options)

    monkeypatch.setattr(proof.subprocess, "run", watched)
    assert run(words(tiny_bert, tmp_path)) == 0
    record = Run.open("run").record
    assert [command[0] for command in asked if "graftlm.proof" in command] == [sys.executable]
    assert record["proof"]["done"] is True
    assert (record["proof"]["split"], record["proof"]["rows"]) == ("test", 12)
    assert record["proof"]["largest_difference"] < 1e-5
    assert (
        "Proved: a fresh process reloaded the saved model and decided all 12 rows alike"
        in Run.open("run").report()
    )


def test_weights_that_change_on_their_way_to_disk_fail_the_run(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    save = conclusion.save_artefact

    def tampering(folder: Path, *rest: Any) -> None:
        save(folder, *rest)
        weights = load_file(folder / "model.safetensors")
        head = next(name for name in weights if name.startswith("classifier") and name.endswith("weight"))
        weights[head] = -weights[head]
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    start = subprocess.run

    def in_process(command: list[str], **options: Any) -> Any:
        """What the child does, without the seconds of its start; the test above starts a real one."""
        if "graftlm.proof" not in command:  # what describes the machine asks other programs
            return start(command, **options)
        rows = json.loads(options["input"])
        folder, output, batch_tokens, device, precision = command[-5:]
        split = Split("proof", rows["columns"], rows["row_ids"])
        predictor = Predictor.open(folder, device, precision)
        np.savez(output, *predictor.outputs(split, predictor.encode(split), int(batch_tokens)))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(conclusion, "save_artefact", tampering)
    monkeypatch.setattr(proof.subprocess, "run", in_process)
    assert run(words(tiny_bert, tmp_path)) == 4
    errors = capfd.readouterr().err
    assert "the reloaded model decides" in errors
    assert "of 12 rows differently" in errors
    assert f"{tmp_path / 'data.csv'}:" in errors
    assert "do not use this model" in errors
    record = Run.open(tmp_path / "run").record
    assert record["state"] == "failed"
    assert record["problem"].startswith("ProofFailed: the reloaded model decides")
    monkeypatch.setattr(conclusion, "save_artefact", save)
    assert run(["finetune", "--resume", str(tmp_path / "run"), "--quiet"]) == 0
    assert Run.open(tmp_path / "run").record["state"] == "finished"


def test_a_child_that_cannot_load_fails_the_run_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = tmp_path / "python"
    child.write_text(
        "#!/bin/sh\necho first >&2\necho 'OSError: disk' >&2\necho '  What to do: less' >&2\nexit 1\n"
    )
    child.chmod(0o755)
    monkeypatch.setattr(proof.sys, "executable", str(child))
    split = Split("test", {"text": ["a"], "label": ["b"]}, ["a.csv:2"])
    with pytest.raises(ProofFailed, match="cannot be loaded in a fresh process: OSError: disk") as caught:
        predict_afresh(tmp_path, split, 8, "cpu", "fp32")
    assert caught.value.where == str(tmp_path)
    child.write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(ProofFailed, match="cannot be loaded in a fresh process: exit code 0"):
        predict_afresh(tmp_path, split, 8, "cpu", "fp32")


def largest(outputs: Outputs) -> list[int]:
    return [int(output.argmax()) for output in outputs]


def test_rounding_may_turn_a_tie_and_nothing_else() -> None:
    assert compare(LOGITS, LOGITS, largest, IDS) == (0.0, 0)
    turned = LOGITS.copy()
    turned[2] = [0.500001, 0.5]
    assert compare(LOGITS, turned, largest, IDS) == (pytest.approx(1e-6, rel=0.1), 1)
    turned[1] = [1.0, 1.00002]
    with pytest.raises(ProofFailed, match=r"decides 2 of 3 rows differently .* first rows: a.csv:3"):
        compare(LOGITS, turned, largest, IDS)
    assert compare([], [], largest, []) == (0.0, 0)


def test_numbers_may_differ_by_rounding_only() -> None:
    nothing = lambda outputs: [None] * len(outputs)  # noqa: E731
    assert compare(LOGITS, LOGITS + np.float32(5e-4), nothing, IDS).difference == pytest.approx(
        5e-4, rel=1e-2
    )
    with pytest.raises(ProofFailed, match=r"outputs differ by up to 0\.01, more than by rounding"):
        compare(LOGITS, LOGITS + np.float32(0.01), nothing, IDS)


def test_the_number_of_a_token_excuses_no_difference_of_its_probability() -> None:
    """Outputs of models that write have columns of other kinds."""
    nothing = lambda outputs: [None] * len(outputs)  # noqa: E731
    before = [np.array([[30_000.0, -2.5, 0.0], [7.0, -0.5, 0.0]], dtype=np.float32)]
    assert compare(before, [before[0] + np.float32([0, 1e-3, 0])], nothing, IDS[:1]).difference < 2e-3
    with pytest.raises(ProofFailed, match=r"differ by up to 0\.01, more than by rounding \(0\.00"):
        compare(before, [before[0] + np.float32([0, 0.01, 0])], nothing, IDS[:1])


def said(own: list[tuple[int, float]], given: tuple[float, ...] = ()) -> Any:
    """The outputs of a model that writes: tokens with their log-probabilities, and those of a reference."""
    rows = [*((token, value, 0) for token, value in own), *((9, value, 1) for value in given)]
    return np.array(rows, dtype=np.float32)


def texts(outputs: Outputs) -> list[str]:
    return [" ".join(str(int(token)) for token, _, given in output if not given) for output in outputs]


TEXT = [(5, -1.0), (30_000, -0.7), (2, -0.1)]


def test_a_text_may_go_on_otherwise_from_a_tie_and_the_row_is_counted() -> None:
    before = [said(TEXT, (-2.0, -3.0)), said(TEXT)]
    # The second token was a tie; what follows it is another text, of another length.
    turned = [(5, -1.0), (7, -0.700001), (8, -4.0), (8, -5.0), (2, -0.2)]
    found = compare(before, [said(turned, (-2.0, -3.0)), before[1]], texts, IDS[:2], written=True)
    assert found == (pytest.approx(1e-6, rel=0.1), 1)
    assert compare(before, before, texts, IDS[:2], written=True) == (0.0, 0)
    # Also where one of them ends there.
    ended = [(5, -1.0), (2, -0.7)]
    assert compare(before, [said(ended, (-2.0, -3.0)), before[1]], texts, IDS[:2], written=True).ties == 1


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        # The token was none of equal ones.
        (said([(5, -1.0), (7, -0.7001), (2, -0.1)], (-2.0,)), "decides 1 of 1 rows differently"),
        # What both wrote before, or the reference, has other probabilities.
        (said([(5, -1.0001), (7, -0.7), (2, -0.1)], (-2.0,)), "decides 1 of 1 rows differently"),
        (said([(5, -1.0), (7, -0.7), (2, -0.1)], (-2.0001,)), "decides 1 of 1 rows differently"),
        # No token is another: a text that stops in the middle, or goes on.
        (said(TEXT[:2], (-2.0,)), "outputs of other shapes"),
        (said([*TEXT, (2, -0.1)], (-2.0,)), "outputs of other shapes"),
        (said(TEXT), "outputs of other shapes"),
        # The next token of the vocabulary, in the same text: as a number it is close.
        (said([(5, -1.0), (30_001, -0.701), (2, -0.1)], (-2.0,)), "decides 1 of 1 rows differently"),
    ],
)
def test_no_tie_excuses_another_model(after: Any, reason: str) -> None:
    for decide in (texts, lambda outputs: [None] * len(outputs)):
        with pytest.raises(ProofFailed, match=reason):
            compare([said(TEXT, (-2.0,))], [after], decide, IDS[:1], written=True)


@pytest.mark.parametrize("after", [LOGITS[:2], LOGITS[:, :1], [LOGITS[0], LOGITS[1], LOGITS[:2]]])
def test_other_shapes_fail(after: Any) -> None:
    with pytest.raises(ProofFailed, match="gives outputs of other shapes"):
        compare(LOGITS, after, largest, IDS)


def test_broken_numbers_fail() -> None:
    with pytest.raises(ProofFailed, match="gives outputs that are not finite"):
        compare(LOGITS, np.full_like(LOGITS, np.nan), largest, IDS)


def test_texts_are_given_to_the_child_through_its_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def child(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        seen.update(command=command, input=options["input"])
        np.savez(command[5], *LOGITS[:1])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(proof.subprocess, "run", child)
    split = Split("test", {"text": ["secret 😀"], "label": ["b"]}, ["a.csv:2"])
    (again,) = predict_afresh(tmp_path, split, 8, "cpu", "bf16")
    assert (again == LOGITS[0]).all()
    assert "secret" not in " ".join(seen["command"])
    assert seen["command"][-3:] == ["8", "cpu", "bf16"]
    assert json.loads(seen["input"]) == {"columns": split.columns, "row_ids": ["a.csv:2"]}
    assert not os.path.exists(seen["command"][5])  # noqa: PTH110
