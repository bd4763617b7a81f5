"""Where the tokens of several examples stand when they lie one behind the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graftlm.kernels.keys import site_bases, token_keys


@dataclass(frozen=True)
class Layout:
    """The tokens of a padded batch of ``examples x width`` places, laid flat.

    Args:
        lengths: real tokens of each example, [examples].
        width: places of each example in the padded batch.
        starts: where each example starts in the flat row, and where the last one ends, int64 [examples + 1], CPU.
        places: for each token its place in the padded batch read row by row, int64 [tokens], on the device.
        positions: for each token its number within its example, from 0, int64 [tokens], on the device.
    """

    lengths: NDArray[np.int64]
    width: int
    starts: Tensor
    places: Tensor
    positions: Tensor

    @classmethod
    def of(cls, attention_mask: Tensor, device: torch.device) -> Layout:
        """Return the layout of a padded batch.

        Args:
            attention_mask: 1 at real tokens, 0 at padding, integers [examples, width], on the CPU: a device would have
                to be waited for.
            device: that the network is on.
        """
        mask = attention_mask.numpy() != 0
        lengths = mask.sum(axis=1)
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        positions = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
        return cls(
            lengths,
            mask.shape[1],
            torch.from_numpy(starts),
            torch.from_numpy(np.flatnonzero(mask)).to(device),
            torch.from_numpy(positions).to(device),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Examples and width of the padded batch."""
        return len(self.lengths), self.width

    def flat(self, padded: Tensor) -> Tensor:
        """Return [1, tokens, ...] from values [examples, width, ...]."""
        return padded.flatten(0, 1).index_select(0, self.places)[None]

    def padded(self, flat: Tensor) -> Tensor:
        """Return [examples, width, ...], zero at padding, from values [1, tokens, ...]."""
        examples, width = self.shape
        rest = flat.shape[2:]
        return (
            flat.new_zeros(examples * width, *rest)
            .index_copy(0, self.places, flat[0])
            .view(examples, width, *rest)
        )


class DropoutKeys:
    """What decides the dropout of one forward pass: the examples, and which layer asks.

    Every place where a forward pass drops something is a site; sites are numbered as the pass comes to them, which is
    the same order each time. So a mask depends on the run's seed, the step, the example, the token and the site, not on
    which other examples are in the batch.

    Args:
        examples: a key of each example, uint64 [examples], see `graftlm.kernels.keys.example_keys`.
        layout: of their tokens.
        site: the number of the site that was there last.
    """

    def __init__(self, examples: NDArray[np.uint64], layout: Layout, site: int = 0) -> None:
        self._layout, self._keys = layout, examples
        self._examples = token_keys(examples, np.ones(len(examples), dtype=np.int64))
        self._tokens = token_keys(examples, layout.lengths)
        self._site = site

    def within(self, layout: Layout) -> DropoutKeys:
        """Return the keys of other tokens of the same examples, at the sites that follow."""
        return DropoutKeys(self._keys, layout, self._site)

    def of_tokens(self) -> Tensor:
        """Return the bases of the next site, where values are flat, [tokens]."""
        return self._next(self._tokens)

    def of_first_tokens(self) -> Tensor:
        """Return of the bases of the next site those of the first token of each example, [examples]."""
        return self._next(self._tokens[self._layout.starts[:-1].numpy()])

    def of_values(self, shape: torch.Size) -> Tensor:
        """Return the bases of the next site outside the flat part, one for each row of features.

        Raises:
            ValueError: the values are neither [examples, features] nor [examples, width, features].
        """
        examples, width = self._layout.shape
        if len(shape) == 2 and shape[0] == examples:
            return self._next(self._examples)
        if len(shape) == 3 and shape[:2] == (examples, width):
            bases = self._next(self._tokens)
            return bases.new_zeros(examples * width).index_copy(0, self._layout.places, bases)
        raise ValueError(f"dropout of values {list(shape)} in a batch of {examples} x {width} tokens")

    def _next(self, keys: NDArray[np.uint64]) -> Tensor:
        self._site += 1
        return site_bases(keys, self._site).to(self._layout.places.device)
