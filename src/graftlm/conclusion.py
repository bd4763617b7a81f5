"""The second half of the story: evaluate -> save -> prove -> report."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from graftlm.data.features import Outputs
from graftlm.data.roles import present
from graftlm.fine_tuning import FineTuning
from graftlm.models.artefact import ArtefactFacts, save_artefact
from graftlm.models.base_model import architecture_of
from graftlm.preparation import resolve_learning_rate
from graftlm.proof import Agreement, compare, predict_afresh
from graftlm.reports.figures import collapsed
from graftlm.reports.model_card import write_model_card
from graftlm.reports.run_report import write_report
from graftlm.rundir import write_bytes, write_json
from graftlm.tasks._task import Learnt
from graftlm.training_run import Fitted, TrainingRun


def conclude(training: TrainingRun[FineTuning], fitted: Fitted) -> None:
    """Score every held-out split, save the model, prove it in a fresh process, write card and report.

    Raises:
        ProofFailed: when the saved model decides differently from the trained one.
    """
    subject, run, progress = training.subject, training.run, training.progress
    recipe = subject.recipe
    progress.stage("evaluating")
    held_out = [name for name in ("validation", "test") if name in subject.prepared.examples]
    outputs = {name: subject.predict(name) for name in held_out}
    if not training.accelerator.is_main_process:
        return
    headline = held_out[-1] if held_out else None
    learnt = subject.tuned(outputs["validation"]) if "validation" in held_out else subject.prepared.learnt
    for name in held_out:
        selected = name == "validation" and (fitted.selected or learnt != subject.prepared.learnt)
        _write_evaluation(training, name, outputs[name], learnt, selected)
    progress.stage("saving the model")
    facts = _facts(training, learnt, held_out)
    # A model that is not proved yet must not be taken for one that is.
    unproved = run.model.with_name("model.unproved")
    save_artefact(
        unproved,
        training.model,
        subject.prepared.encoder.tokenizer,
        subject.prepared.base,
        facts,
        recipe.to_yaml(),
    )
    proof: dict[str, Any] = {"done": False}
    if recipe.evaluation.proof == "fresh_process" and headline is not None:
        progress.stage("proving the saved model in a fresh process")
        agreement = _prove(training, unproved, headline, outputs[headline], learnt)
        proof = {
            "done": True,
            "split": headline,
            "rows": len(subject.prepared.dataset.splits[headline]),
            "largest_difference": agreement.difference,
            "ties": agreement.ties,
        }
    training.accept(
        unproved, fitted, headline=headline, proof=proof, learning_rate=resolve_learning_rate(recipe)
    )
    write_model_card(run)
    write_report(run)
    training.finish()


def _prove(
    training: TrainingRun[FineTuning], model_folder: Path, name: str, outputs: Outputs, learnt: Learnt
) -> Agreement:
    """Return how well the outputs agree with those of the saved model in a fresh process."""
    subject = training.subject
    task: Any = subject.recipe.task
    split, features = subject.prepared.dataset.splits[name], subject.prepared.features[name]
    again = predict_afresh(
        model_folder,
        split,
        subject.recipe.evaluation.batch_tokens,
        training.accelerator.device.type,
        "fp32" if subject.autocast is None else "bf16",
    )

    def decide(each: Outputs) -> list[Any]:
        return [task.decision(prediction) for prediction in task.decode(each, split, features, learnt)]

    return compare(outputs, again, decide, split.row_ids, written=features.writing is not None)


def _facts(training: TrainingRun[FineTuning], learnt: Learnt, held_out: list[str]) -> ArtefactFacts:
    subject, run = training.subject, training.run
    prepared = subject.prepared
    task: Any = subject.recipe.task
    options = task.dump()
    if "max_target_tokens" in options:  # the recipe may leave it to the base model, the model itself may not
        options["max_target_tokens"] = prepared.encoder.max_target_tokens
    return ArtefactFacts(
        task={"name": task.name, **options},
        labels=list(learnt.labels),
        rule=learnt.rule,
        roles=[role.name for role in present(task.roles, prepared.dataset.splits["train"])],
        reading={
            "columns": prepared.dataset.columns,
            "label_separator": subject.recipe.data.label_separator,
            "label_columns": subject.recipe.data.label_columns,
            "tag_names": subject.recipe.data.tag_names,
            "split_column": subject.recipe.data.split_column,
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
    training: TrainingRun[FineTuning], name: str, outputs: Outputs, learnt: Learnt, selected: bool
) -> None:
    """Write scores with intervals, the baseline beside them, and one line per row (no text)."""
    prepared, recipe, run = training.subject.prepared, training.subject.recipe, training.run
    task: Any = recipe.task
    split = prepared.dataset.splits[name]
    options = {
        "confidence": recipe.evaluation.confidence,
        "resamples": recipe.evaluation.resamples,
        "seed": recipe.seed,
    }
    predictions = task.decode(outputs, split, prepared.features[name], learnt)
    scores = task.score(predictions, split, learnt, **options)
    same = task.same_answer(predictions, split)
    if same is not None:
        training.progress.warn(f"{name}: {collapsed(same)}")
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
            "same_answer": same,
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
