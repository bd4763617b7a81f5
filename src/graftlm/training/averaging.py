"""Averages of the weights over the steps: they often predict better than the weights of any step."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from graftlm.errors import RunError
from graftlm.training.checkpoint import named_weights

_UPDATES, _WEIGHT = "updates", "weights/"


class AveragedWeights:
    """An exponential moving average, in float32, of every weight that moves.

        average = d_t * average + (1 - d_t) * weight,   d_t = min(decay, (1 + t) / (10 + t)),   t = 0, 1, ...

    The first steps count more than the decay would have it, so that the weights before the first step are soon
    forgotten (as ``num_updates`` of TensorFlow's ``ExponentialMovingAverage``).

    Args:
        model: before its first step.
        decay: between 0 and 1; about ``1 / (1 - decay)`` steps are averaged.

    Raises:
        ValueError: a decay out of its range.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"a decay lies between 0 and 1, not at {decay}")
        self._decay, self._updates = decay, 0
        moving = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        self._averages = {
            name: weight.to(torch.float32, copy=True)
            for name, weight in named_weights(model).items()
            if name in moving
        }

    def update(self, model: nn.Module) -> None:
        """Take the weights after a step in.

        Late rows are brought up to date for it, so with averages no step is spared (see `graftlm.training.lazy_rows`).
        """
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        weights = named_weights(model)
        for name, average in self._averages.items():
            average.lerp_(weights[name].float(), 1.0 - decay)
        self._updates += 1

    @contextmanager
    def swapped(self, model: nn.Module) -> Generator[None]:
        """Let the model have the averages inside the block; afterwards its weights are what they were, bit for bit.

        Nothing is to be trained within.
        """
        weights = named_weights(model)
        before = {name: weights[name].clone() for name in self._averages}
        try:
            self.take_over(model)
            yield
        finally:
            for name, weight in before.items():
                weights[name].copy_(weight)

    def take_over(self, model: nn.Module) -> None:
        """Give the model the averages for good."""
        weights = named_weights(model)
        for name, average in self._averages.items():
            weights[name].copy_(average)

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps of it."""
        kept = {f"{_WEIGHT}{name}": average for name, average in self._averages.items()}
        return {_UPDATES: torch.tensor(self._updates), **kept}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what a checkpoint kept.

        Raises:
            RunError: it is of other weights.
        """
        own = self.tensors()
        if own.keys() != tensors.keys():
            raise RunError(
                f"the checkpoint has averages of other weights: {sorted(own.keys() ^ tensors.keys())[:5]}"
            )
        for name, average in self._averages.items():
            average.copy_(tensors[f"{_WEIGHT}{name}"])
        self._updates = int(tensors[_UPDATES])
