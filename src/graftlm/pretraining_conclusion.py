"""The second half of a pretraining's story: evaluate -> save -> prove -> card."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from graftlm.data.places import counted
from graftlm.models.artefact import save_base
from graftlm.models.base_model import architecture_of
from graftlm.pretraining import Pretraining
from graftlm.pretraining_proof import EXAMPLES, prove
from graftlm.reports.base_card import FEW_DOCUMENTS, write_base_card
from graftlm.rundir import write_json
from graftlm.training_run import Fitted, TrainingRun


def conclude(training: TrainingRun[Pretraining], fitted: Fitted) -> None:
    """Score the held-out text, save the base model, prove it in a fresh process, and write its card.

    Raises:
        ProofFailed: when the saved model says something else than the trained one.
    """
    subject, run, progress = training.subject, training.run, training.progress
    recipe, objective = subject.recipe, subject.objective
    evaluation: dict[str, Any] | None = None
    if subject.held_out is not None:
        progress.stage("evaluating")
        found, baseline = (
            sums.scores(objective, recipe.evaluation.confidence, recipe.seed).dump()
            for sums in (subject.evaluate(), subject.baseline())
        )
        if found["rows"] < FEW_DOCUMENTS:
            progress.warn(
                f"{counted(found['rows'], 'document')} of held-out text: so few that the intervals are too narrow"
            )
        evaluation = {
            "split": "held_out", "selected": False, "scores": found,
            "baseline": {"name": "how often each token occurs", "scores": baseline}, "other_baselines": [],
        }  # fmt: skip
    if not training.accelerator.is_main_process:
        return
    if evaluation is not None:
        write_json(run.evaluation("held_out"), evaluation)
    progress.stage("saving the model")
    files = subject.beginning.files
    architecture = architecture_of(subject.model, objective.architectures)
    facts: dict[str, Any] = {
        "format_version": 1,
        "graftlm_version": version("graftlm"),
        "architecture": architecture,
        "objective": objective.name,
        "base": {"name": recipe.base, "revision": files.revision if files else None},
        "identity": {key: value for key, value in training.identity.items() if key != "recipe"},
        "corpus": subject.corpus.facts,
        "scores": None if evaluation is None else evaluation["scores"],
    }
    unproved = run.model.with_name("model.unproved")
    save_base(unproved, subject.model, subject.beginning.tokenizer, facts, recipe.to_yaml())
    proof: dict[str, Any] = {"done": False}
    if recipe.evaluation.proof == "fresh_process" and subject.held_out is not None:
        progress.stage("proving the saved model in a fresh process")
        examples = subject.held_out.in_pass(0).at(1.0)
        rows = np.arange(min(EXAMPLES, len(examples.lengths)))
        batch = examples.batch(rows, torch.device("cpu"))
        model: Any = subject.model.eval()
        proof = prove(model.to("cpu"), batch, objective, unproved, architecture)
    training.accept(
        unproved,
        fitted,
        headline=None if evaluation is None else "held_out",
        proof=proof,
        learning_rate=subject.learning_rate,
        parameters=sum(parameter.numel() for parameter in subject.model.parameters()),
        new_parameters=subject.new_parameters if subject.beginning.files else "all",
    )
    write_base_card(run)
    training.finish()
