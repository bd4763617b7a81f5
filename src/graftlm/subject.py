"""What a training is about: what every verb that trains hands to `graftlm.training_run`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from transformers import PreTrainedModel

from graftlm.objectives._objective import Loss
from graftlm.training.batching import Source
from graftlm.training.frozen import KeptFeatures
from graftlm.training.loop import Forward, Plan
from graftlm.training.optimisation import Stepping
from graftlm.training.order import Due


@dataclass(frozen=True)
class Judgement:
    """How good the weights of the moment are on held-out data.

    Args:
        metric: its name.
        value: of the metric.
        greater_is_better: its direction.
    """

    metric: str
    value: float
    greater_is_better: bool


class StoryOptions(Protocol):
    """What the story asks of a recipe; see `graftlm.recipe.TrainingOptions`."""

    @property
    def patience_evaluations(self) -> int | None:
        """Judgements without improvement after which it stops; None never stops."""
        ...

    @property
    def keeps_best(self) -> bool:
        """Whether the judgement chooses the weights."""
        ...

    @property
    def checkpoint_steps(self) -> int | None:
        """Steps between checkpoints; None: about one a minute."""
        ...

    @property
    def execution(self) -> str:
        """``padded`` asks for padding, ``flat`` for neither padding nor CUDA graphs, ``auto`` leaves both to us."""
        ...

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether layers are computed again on the way back instead of being kept."""
        ...


class Subject(Protocol):
    """What is trained, and how it is judged. It is complete when it is made: nothing of it can refuse later."""

    resume_command: str
    """What continues an interrupted run, but for its directory."""
    plan: Plan
    model: PreTrainedModel

    @property
    def averaging(self) -> float | None:
        """Decay of an average of the weights, which is then judged and kept; None: no average."""
        ...

    @property
    def options(self) -> StoryOptions:
        """What the recipe says about the training."""
        ...

    @property
    def forward(self) -> Forward:
        """What runs the model on a batch."""
        ...

    @property
    def examples(self) -> Source:
        """What is trained on."""
        ...

    def optimizer(self) -> Stepping:
        """Return what moves the weights, made anew; all that it does not move are frozen."""
        ...

    def loss(self) -> Loss:
        """Return the objective."""
        ...

    def identity(self) -> dict[str, Any]:
        """Return everything that decides the numbers of the run, as JSON values."""
        ...

    def changes(self, before: dict[str, Any], now: dict[str, Any], extending: bool) -> list[str]:
        """Return a sentence for each difference between two identities that forbids to continue.

        Where a run is ``extended``, its length may differ.
        """
        ...

    def validations(self) -> frozenset[int]:
        """Return the numbers of the steps after which it is judged; none where nothing is held out."""
        ...

    def judge(self, on_batch: Callable[[int], None]) -> Judgement:
        """Judge the weights of the moment; what ``on_batch`` raises stops it. With several ranks all get the same."""
        ...

    def places(self, due: Due) -> list[str]:
        """Return where the examples of a step stand in the user's files."""
        ...

    def kept_features(self, folder: Path) -> KeptFeatures | None:
        """Return what a frozen body says about all examples, where it need not be run again in each pass."""
        ...
