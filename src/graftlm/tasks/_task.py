"""What every task answers. Tasks are torch-free: they speak in rows, token ids and numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from graftlm.data.columns import Role
from graftlm.data.dataset import Split
from graftlm.data.features import Encoder, Features
from graftlm.scoring.scores import Scores


class Task(Protocol):
    """What the labels mean. One file per task; the file name is the name in a recipe."""

    name: ClassVar[str]
    roles: ClassVar[tuple[Role, ...]]
    """The columns it reads."""
    architecture: ClassVar[str]
    """The transformers class that carries its head, so that the artefact loads without GraftLM."""
    baseline_name: ClassVar[str]
    """The simplest honest competitor, in words."""
    max_length_tokens: int | None
    primary_metric: str

    def label_names(self, train: Split) -> tuple[str, ...]:
        """Return the labels in the order of the head's outputs; always learnt from train, by name."""
        ...

    def model_options(self, labels: Sequence[str]) -> dict[str, Any]:
        """Return the config entries that give the head its size and label names."""
        ...

    def encode(self, split: Split, encoder: Encoder) -> Features:
        """Turn rows into token ids, in row order."""
        ...

    def targets(self, split: Split, labels: Sequence[str]) -> NDArray[np.int64]:
        """Return what the objective compares the logits with, one entry per row."""
        ...

    def score(
        self, logits: NDArray[np.float32], targets: NDArray[np.int64], labels: Sequence[str], **options: Any
    ) -> Scores:
        """Return all metrics with intervals; ``logits`` is [rows, labels] in row order."""
        ...

    def decode(self, logits: NDArray[np.float32], labels: Sequence[str]) -> Sequence[Any]:
        """Return one typed prediction per row of ``logits`` [rows, labels]."""
        ...

    def record(self, prediction: Any) -> dict[str, Any]:
        """Return one prediction as plain values for JSON Lines."""
        ...

    def baseline(self, train: Split, split: Split, labels: Sequence[str]) -> NDArray[np.float32]:
        """Return the logits [rows, labels] of the simplest honest competitor (for scores beside ours)."""
        ...
