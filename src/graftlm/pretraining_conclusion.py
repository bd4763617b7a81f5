"""The second half of a pretraining's story: evaluate -> save -> prove -> card."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from graftlm.data.places import counted
from graftlm.models.artefact import save_base
from graftlm.models.generator import generator_of, remove_generator
from graftlm.pretraining import HELD_OUT, Pretraining
from graftlm.pretraining_evaluation import Sums
from graftlm.pretraining_objectives._examples import REPLACED
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
    evaluations = _evaluate(training)
    if not training.accelerator.is_main_process:
        return
    for name, evaluation in evaluations.items():
        write_json(run.evaluation(name), evaluation)
    progress.stage("saving the model")
    generator = generator_of(subject.model)
    remove_generator(subject.model)
    files = subject.beginning.files
    architecture = objective.architecture(subject.model.config)
    facts: dict[str, Any] = {
        "format_version": 1,
        "graftlm_version": version("graftlm"),
        "architecture": architecture,
        "objective": objective.name,
        "base": {"name": recipe.base, "revision": files.revision if files else None},
        "identity": {key: value for key, value in training.identity.items() if key != "recipe"},
        "corpus": subject.corpus.facts,
        "scores": evaluations[HELD_OUT]["scores"] if HELD_OUT in evaluations else None,
    }
    unproved = run.model.with_name("model.unproved")
    save_base(unproved, subject.model, subject.beginning.tokenizer, facts, recipe.to_yaml())
    if generator is not None:
        own = {**facts, "architecture": "AutoModelForMaskedLM", "scores": None}
        save_base(run.generator, generator, subject.beginning.tokenizer, own, recipe.to_yaml())
    proof: dict[str, Any] = {"done": False}
    if recipe.evaluation.proof == "fresh_process":
        progress.stage("proving the saved model in a fresh process")
        examples = subject.judging.get(HELD_OUT, subject.examples).in_pass(0).at(1.0)
        rows = np.arange(min(EXAMPLES, len(examples.lengths)))
        batch = examples.batch(rows, torch.device("cpu"))
        model: Any = subject.model.eval()
        proof = prove(model.to("cpu"), batch, objective, unproved, architecture)
    training.accept(
        unproved,
        fitted,
        headline=HELD_OUT if HELD_OUT in evaluations else None,
        proof=proof,
        optimizer=subject.optimizer_name,
        learning_rate=subject.learning_rate,
        parameters=sum(parameter.numel() for parameter in subject.model.parameters()),
        added_tokens=len(subject.beginning.tokenizer) - len(subject.beginning.known) or None,
        new_parameters=subject.new_parameters if subject.beginning.files else "all",
    )
    write_base_card(run)
    training.finish()


def _evaluate(training: TrainingRun[Pretraining]) -> dict[str, dict[str, Any]]:
    """Return name of a text -> scores of the model, of token frequencies, and of the base model it was made from."""
    subject, progress, recipe = training.subject, training.progress, training.subject.recipe
    progress.stage("evaluating")
    untrained = subject.untrained() if subject.judging else None
    guesses = "how often each token occurs"
    if REPLACED in subject.objective.measures.values():
        guesses += ", and that none is replaced"
    evaluations: dict[str, dict[str, Any]] = {}
    for name in subject.judging:
        found = subject.evaluate(name, subject.model)
        other = None if untrained is None else subject.evaluate(name, untrained)

        def scores(sums: Sums, before: Sums | None = None) -> dict[str, Any]:
            return sums.scores(subject.objective, recipe.evaluation.confidence, recipe.seed, before).dump()

        documents = found.documents
        baseline = subject.baseline(name)
        if name == HELD_OUT and found.loss >= baseline.loss:
            progress.warn(
                f"{name}: a loss of {found.loss:.3f} is not below {baseline.loss:.3f}, which {guesses} gives alone: "
                "next to nothing is learnt; train longer (training.epochs), or in more, smaller steps "
                "(training.batch_tokens)"
            )
        if documents < FEW_DOCUMENTS:
            progress.warn(
                f"{name}: {counted(documents, 'document')}, so few that the intervals are too narrow"
            )
        evaluations[name] = {
            "split": name, "selected": False, "scores": scores(found),
            "baseline": {"name": guesses, "scores": scores(baseline)},
            "other_baselines": [],
            "before": None if other is None else {"scores": scores(other), "change": scores(found, other)},
        }  # fmt: skip
    return evaluations
