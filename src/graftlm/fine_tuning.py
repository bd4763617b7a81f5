"""What `graftlm.training_run` tells its story about when a model is fine-tuned on labelled rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from graftlm.data.features import Outputs
from graftlm.errors import Diverged
from graftlm.models.heads import body_is_frozen
from graftlm.objectives._objective import Loss
from graftlm.preparation import (
    Prepared,
    build_model,
    build_objective,
    build_strategy,
    evaluation_steps,
    make_plan,
    prepare,
)
from graftlm.progress import Progress
from graftlm.recipe import Recipe
from graftlm.run_identity import describe_changes, identity
from graftlm.scoring.scores import Scores
from graftlm.subject import Judgement
from graftlm.tasks._task import Learnt
from graftlm.training.batching import Examples
from graftlm.training.evaluation import predict_outputs
from graftlm.training.frozen import KeptFeatures, NotKept, keep_features
from graftlm.training.loop import Plan
from graftlm.training.optimisation import Stepping
from graftlm.training.order import Due, steps_per_epoch
from graftlm.training.outputs import forward_where_targets


class FineTuning:
    """Labelled rows, and a base model with a new head; see `graftlm.subject.Subject`.

    Args:
        recipe: complete.
        accelerator: where to compute.
        autocast: dtype of forward passes, or None for float32.
        progress: who listens.
        data: rows in memory; None reads ``recipe.data.path``.
    """

    resume_command = "graft finetune --resume"
    forward = staticmethod(forward_where_targets)
    averaging = None

    def __init__(
        self,
        recipe: Recipe,
        accelerator: Accelerator,
        autocast: torch.dtype | None,
        progress: Progress,
        data: object = None,
    ) -> None:
        self.recipe, self.accelerator, self.autocast, self.progress = recipe, accelerator, autocast, progress
        self.options = recipe.training
        self.prepared: Prepared = prepare(recipe, data, progress)
        self.plan: Plan = make_plan(recipe, len(self.examples), autocast)
        self.model: PreTrainedModel = build_model(recipe, self.prepared, progress)

    @property
    def examples(self) -> Examples:
        """What is trained on."""
        return self.prepared.examples["train"]

    def optimizer(self) -> Stepping:
        """Return what moves the weights that the strategy lets move."""
        return build_strategy(self.recipe, self.model)

    def loss(self) -> Loss:
        """Return the objective, bound to the training labels."""
        return build_objective(self.recipe, self.prepared)

    def identity(self) -> dict[str, Any]:
        """Return what decides the numbers of the run."""
        return identity(self.recipe, self.prepared)

    def changes(self, before: dict[str, Any], now: dict[str, Any], extending: bool) -> list[str]:
        """Return one sentence for each difference that forbids to continue."""
        return describe_changes(before, now, extending)

    def validations(self) -> frozenset[int]:
        """Return the numbers of the steps after which the validation rows are scored."""
        if "validation" not in self.prepared.examples:
            return frozenset()
        return evaluation_steps(self.recipe, len(self.examples), self.plan.total_steps)

    def judge(self, on_batch: Callable[[int], None]) -> Judgement:
        """Score the validation rows."""
        outputs = self.predict("validation", on_batch)
        scores = self.score("validation", outputs, self.tuned(outputs))
        return Judgement(scores.primary, scores.headline.value, scores.greater_is_better)

    def places(self, due: Due) -> list[str]:
        """Return where the rows of a step stand in the user's files."""
        ids, row_of = self.prepared.dataset.splits["train"].row_ids, self.prepared.features["train"].rows
        return [ids[row_of[example]] for example in np.sort(due.rows)]

    def kept_features(self, folder: Path) -> KeptFeatures | None:
        """Return what a frozen body says about the training rows, unless each is read once only.

        Nothing that an interruption could change decides about it, since last bits depend on it.
        """
        once = self.plan.total_steps <= steps_per_epoch(len(self.examples), self.options.batch_size)
        if not body_is_frozen(self.model) or once:
            return None
        batch_tokens = self.recipe.evaluation.batch_tokens
        try:
            if self.accelerator.num_processes > 1:
                raise NotKept("there are several processes")
            return keep_features(
                self.model, self.examples, batch_tokens, self.accelerator.device, self.autocast, folder
            )
        except NotKept as reason:
            self.progress.say(f"the frozen body is run in each pass: {reason}")
            return None

    def tuned(self, outputs: Outputs) -> Learnt:
        """Return labels and rule as tuned on the outputs for the validation rows."""
        task: Any = self.recipe.task
        prepared = self.prepared
        split, features = prepared.dataset.splits["validation"], prepared.features["validation"]
        return task.tune(outputs, split, features, prepared.learnt)

    def score(self, split: str, outputs: Outputs, learnt: Learnt) -> Scores:
        """Return the scores of a split, with a few resamples only: for choosing, not for telling."""
        task: Any = self.recipe.task
        rows = self.prepared.dataset.splits[split]
        predictions = task.decode(outputs, rows, self.prepared.features[split], learnt)
        return task.score(predictions, rows, learnt, resamples=100, seed=self.recipe.seed)

    def predict(self, split: str, on_batch: Callable[[int], None] = lambda examples: None) -> Outputs:
        """Return the outputs for every example of a split, in order; non-finite ones are refused."""
        outputs = predict_outputs(
            self.model,
            self.prepared.examples[split],
            self.recipe.evaluation.batch_tokens,
            self.accelerator.device,
            self.autocast,
            on_batch,
            (self.accelerator.process_index, self.accelerator.num_processes),
        )
        broken = [example for example, output in enumerate(outputs) if not np.isfinite(output).all()]
        if broken:
            ids, rows = self.prepared.dataset.splits[split].row_ids, self.prepared.features[split].rows
            raise Diverged(
                f"the model's outputs are not finite for {len(broken)} of {len(outputs)} examples of {split}, "
                f"first {', '.join(ids[rows[example]] for example in broken[:5])}",
                fix="lower training.learning_rate",
            )
        return outputs
