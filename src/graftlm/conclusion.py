"""The second half of the story: evaluate -> save -> prove -> report."""

from __future__ import annotations

import json
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from graftlm.data.features import Outputs
from graftlm.data.roles import present
from graftlm.models.artefact import ArtefactFacts, save_artefact
from graftlm.models.base_model import architecture_of
from graftlm.preparation import resolve_learning_rate
from graftlm.proof import Agreement, compare, predict_afresh
from graftlm.reports.model_card import write_model_card
from graftlm.reports.run_report import write_report
from graftlm.rundir import sync_folder, write_bytes, write_json
from graftlm.tasks._task import Learnt
from graftlm.training_run import Fitted, TrainingRun


def conclude(training: TrainingRun, fitted: Fitted) -> None:
    """Score every held-out split, save the model, prove it in a fresh process, write card and report.

    Raises:
        ProofFailed: when the saved model decides differently from the trained one.
    """
    recipe, run, progress = training.recipe, training.run, training.progress
    progress.stage("evaluating")
    held_out = [name for name in ("validation", "test") if name in training.prepared.examples]
    outputs = {name: training.predict(name) for name in held_out}
    if not training.accelerator.is_main_process:
        return
    headline = held_out[-1] if held_out else None
    learnt = training.tuned(outputs["validation"]) if "validation" in held_out else training.prepared.learnt
    for name in held_out:
        selected = name == "validation" and (fitted.selected or learnt != training.prepared.learnt)
        _write_evaluation(training, name, outputs[name], learnt, selected)
    progress.stage("saving the model")
    facts = _facts(training, learnt, held_out)
    # A model that is not proved yet must not be taken for one that is.
    unproved = run.model.with_name("model.unproved")
    prepared = training.prepared
    save_artefact(
        unproved, training.model, prepared.encoder.tokenizer, prepared.base, facts, recipe.to_yaml()
    )
    proof: dict[str, Any] = {"done": False}
    if recipe.evaluation.proof == "fresh_process" and headline is not None:
        progress.stage("proving the saved model in a fresh process")
        agreement = _prove(training, unproved, headline, outputs[headline], learnt)
        proof = {
            "done": True,
            "split": headline,
            "rows": len(training.prepared.dataset.splits[headline]),
            "largest_difference": agreement.difference,
            "ties": agreement.ties,
        }
    shutil.rmtree(run.model, ignore_errors=True)  # that of a run which was extended
    unproved.rename(run.model)
    sync_folder(run.path)
    run.update_record(
        headline=headline,
        proof=proof,
        steps=fitted.steps,
        learning_rate=resolve_learning_rate(recipe),
        kept_step=fitted.best_step,
        training_seconds=round(fitted.seconds, 3),
        execution={
            "path": "padded" if training.padded_because else "flat",
            "because": training.padded_because,
        },
    )
    write_model_card(run)
    write_report(run)
    run.update_record(state="finished")
    # The newest checkpoint stays, so that the run can be extended.
    for old in sorted(run.checkpoints.glob("step-*"))[:-1]:
        shutil.rmtree(old, ignore_errors=True)


def _prove(
    training: TrainingRun, model_folder: Path, name: str, outputs: Outputs, learnt: Learnt
) -> Agreement:
    """Return how well the outputs agree with those of the saved model in a fresh process."""
    task: Any = training.recipe.task
    split, features = training.prepared.dataset.splits[name], training.prepared.features[name]
    again = predict_afresh(
        model_folder,
        split,
        training.recipe.evaluation.batch_size,
        training.accelerator.device.type,
        "fp32" if training.autocast is None else "bf16",
    )

    def decide(each: Outputs) -> list[Any]:
        return [task.decision(prediction) for prediction in task.decode(each, split, features, learnt)]

    return compare(outputs, again, decide, split.row_ids, written=features.writing is not None)


def describe_machine() -> dict[str, Any]:
    """Return versions and hardware for the run record."""
    names = (
        "graftlm",
        "torch",
        "transformers",
        "accelerate",
        "tokenizers",
        "safetensors",
        "numpy",
        "datasets",
    )
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: version(name) for name in names},
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _facts(training: TrainingRun, learnt: Learnt, held_out: list[str]) -> ArtefactFacts:
    prepared, run = training.prepared, training.run
    task: Any = training.recipe.task
    return ArtefactFacts(
        task={"name": task.name, **task.dump()},
        labels=list(learnt.labels),
        rule=learnt.rule,
        roles=[role.name for role in present(task.roles, prepared.dataset.splits["train"])],
        reading={
            "columns": prepared.dataset.columns,
            "label_separator": training.recipe.data.label_separator,
            "label_columns": training.recipe.data.label_columns,
        },
        max_length_tokens=prepared.encoder.max_length_tokens,
        architecture=architecture_of(training.model, task.architectures),
        graftlm_version=version("graftlm"),
        base={
            "name": prepared.base.name,
            "revision": prepared.base.revision,
            "fingerprint": prepared.base.fingerprint,
        },
        data=prepared.dataset.fingerprints(),
        metrics={name: json.loads(run.evaluation(name).read_text(encoding="utf-8")) for name in held_out},
    )


def _write_evaluation(
    training: TrainingRun, name: str, outputs: Outputs, learnt: Learnt, selected: bool
) -> None:
    """Write scores with intervals, the baseline beside them, and one line per row (no text)."""
    prepared, recipe, run = training.prepared, training.recipe, training.run
    task: Any = recipe.task
    split = prepared.dataset.splits[name]
    options = {
        "confidence": recipe.evaluation.confidence,
        "resamples": recipe.evaluation.resamples,
        "seed": recipe.seed,
    }
    predictions = task.decode(outputs, split, prepared.features[name], learnt)
    scores = task.score(predictions, split, learnt, **options)
    baselines = [
        {"name": name, "scores": task.score(simplest, split, learnt, **options).dump()}
        for name, simplest in task.baselines(prepared.dataset.splits["train"], split, learnt).items()
    ]
    write_json(
        run.evaluation(name),
        {
            "split": name,
            "selected": selected,
            "truncated_rows": len(prepared.truncated[name]),
            "scores": scores.dump(),
            "baseline": baselines[0],
            "other_baselines": baselines[1:],
        },
    )
    lines = [
        json.dumps({"row": row, "reference": reference, **_unquoted(task, prediction)}, ensure_ascii=False)
        for row, reference, prediction in zip(split.row_ids, task.references(split), predictions, strict=True)
    ]
    write_bytes(run.predictions(name), ("\n".join(lines) + "\n").encode())


def _unquoted(task: Any, prediction: Any) -> dict[str, Any]:
    return {key: value for key, value in task.record(prediction).items() if key not in task.quotes}
