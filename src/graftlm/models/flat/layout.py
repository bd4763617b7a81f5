"""Where the tokens of several examples stand when they lie one behind the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graftlm.kernels.keys import Keys, site_bases, sites_bases, token_keys
from graftlm.kernels.sending import sent
from graftlm.kernels.sequences import Sequences

_SITES_AT_ONCE = 32
"""On an accelerator: a call for each site would take longer than what it computes."""


@dataclass(frozen=True)
class Layout:
    """The tokens of a padded batch of ``examples x width`` places, laid flat.

    Args:
        lengths: real tokens of each example, [examples].
        width: places of each example in the padded batch.
        starts: where each example starts in the flat row, and where the last one ends, int64 [examples + 1], CPU.
        places: for each token its place in the padded batch read row by row, int64 [tokens], on the device.
        positions: for each token its number within its example, from 0, int64 [tokens], on the device.
        begins: what ``starts`` says, on the device.
    """

    lengths: NDArray[np.int64]
    width: int
    starts: Tensor
    places: Tensor
    positions: Tensor
    begins: Tensor

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
        on_cpu = torch.from_numpy(starts)
        return cls(
            lengths,
            mask.shape[1],
            on_cpu,
            sent(torch.from_numpy(np.flatnonzero(mask)), device),
            sent(torch.from_numpy(positions), device),
            sent(on_cpu, device),
        )

    @cached_property
    def sequences(self) -> Sequences:
        """The examples as attention on an accelerator wants to know them."""
        return Sequences(self.begins.to(torch.int32), len(self.places), max(self.width, 1))

    @cached_property
    def alone(self) -> Sequences:
        """Likewise one token of each example by itself."""
        examples = len(self.lengths)
        starts = torch.arange(examples + 1, dtype=torch.int32, device=self.places.device)
        return Sequences(starts, examples, 1)

    @property
    def first(self) -> Tensor:
        """The number of the first token of each example, int64 [examples], on the device."""
        return self.begins[:-1]

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
        there: what ``examples`` comes to (`keys_of_layout`) where it lies on the device already.
    """

    def __init__(
        self,
        examples: NDArray[np.uint64],
        layout: Layout,
        site: int = 0,
        there: Sequence[Tensor] | None = None,
    ) -> None:
        self._layout, self._keys, self._site = layout, examples, site
        device = layout.places.device
        made = keys_of_layout(examples, layout) if there is None else there
        self._tokens, self._first_tokens, self._examples = (_Bases(keys, device) for keys in made)

    def within(self, layout: Layout) -> DropoutKeys:
        """Return the keys of other tokens of the same examples, at the sites that follow."""
        return DropoutKeys(self._keys, layout, self._site)

    def of_tokens(self) -> Tensor:
        """Return the bases of the next site, where values are flat, [tokens]."""
        return self._tokens.at(self._next())

    def of_first_tokens(self) -> Tensor:
        """Return of the bases of the next site those of the first token of each example, [examples]."""
        return self._first_tokens.at(self._next())

    def of_values(self, shape: torch.Size) -> Tensor:
        """Return the bases of the next site outside the flat part, one for each row of features.

        Raises:
            ValueError: the values are neither [examples, features] nor [examples, width, features].
        """
        examples, width = self._layout.shape
        if len(shape) == 2 and shape[0] == examples:
            return self._examples.at(self._next())
        if len(shape) == 3 and shape[:2] == (examples, width):
            bases = self._tokens.at(self._next())
            return bases.new_zeros(examples * width).index_copy(0, self._layout.places, bases)
        raise ValueError(f"dropout of values {list(shape)} in a batch of {examples} x {width} tokens")

    def _next(self) -> int:
        self._site += 1
        return self._site


def keys_of_layout(examples: NDArray[np.uint64], layout: Layout) -> tuple[Keys, Keys, Keys]:
    """Return the keys of all tokens, of the first of each example that has one, and of the examples themselves."""
    tokens = token_keys(examples, layout.lengths)
    first = layout.starts[:-1].numpy()[layout.lengths > 0]
    return tokens, tokens[first], token_keys(examples, np.ones(len(examples), dtype=np.int64))


class _Bases:
    """What decides about dropout of some tokens, site by site, made where it is needed.

    Args:
        keys: of the tokens, uint64 [tokens]; or their bits on the device, int64 [tokens].
        device: that asks.
    """

    def __init__(self, keys: Keys | Tensor, device: torch.device) -> None:
        self._keys, self._device = keys, device
        self._blocks: dict[int, Tensor] = {}

    def at(self, site: int) -> Tensor:
        """Return the bases of a site, int32 [tokens] on the device."""
        if not isinstance(self._keys, Tensor):
            if self._device.type == "cpu":
                return site_bases(self._keys, site)
            self._keys = sent(torch.from_numpy(self._keys.view(np.int64)), self._device)
        block, within = divmod(site, _SITES_AT_ONCE)
        if block not in self._blocks:
            begin = block * _SITES_AT_ONCE
            self._blocks[block] = sites_bases(self._keys, range(begin, begin + _SITES_AT_ONCE))
        return self._blocks[block][within]
