"""Where sequences lie among flat tokens, known to an accelerator, so that nothing is counted on the CPU meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from graftlm.kernels.sending import sent


@dataclass(frozen=True)
class Sequences:
    """Sequences that lie one behind the other on a device; one object serves all layers of a forward pass.

    Args:
        starts: int32 [sequences + 1] on the device: sequence i is tokens starts[i] to starts[i + 1].
        tokens: of all.
        longest: at least as many tokens as the longest has.
    """

    starts: Tensor
    tokens: int
    longest: int

    @classmethod
    def of(cls, starts: Tensor, device: torch.device) -> Sequences:
        """Return what is known from int64 [sequences + 1] on the CPU."""
        longest = int(starts.diff().max()) if len(starts) > 1 else 0
        return cls(sent(starts.to(torch.int32), device), int(starts[-1]), longest)

    @cached_property
    def lengths(self) -> Tensor:
        """Tokens of each sequence, int32 [sequences], on the device."""
        return self.starts.diff()

    @cached_property
    def places(self) -> Tensor:
        """For each token its place in a padded batch [sequences, longest] read row by row, int64, on the device."""
        numbers = torch.arange(self.tokens, dtype=torch.int32, device=self.starts.device)
        owners = torch.searchsorted(self.starts[1:], numbers, right=True)
        return owners * self.longest + numbers - self.starts[owners]

    def padded(self, flat: Tensor) -> Tensor:
        """Return [sequences, longest, ...], zero at padding, from [tokens, ...]."""
        shape = (len(self.starts) - 1, self.longest)
        rest = flat.shape[1:]
        return flat.new_zeros(shape[0] * shape[1], *rest).index_copy(0, self.places, flat).view(*shape, *rest)

    def flat(self, padded: Tensor) -> Tensor:
        """Return [tokens, ...] from [sequences, longest, ...]."""
        return padded.flatten(0, 1).index_select(0, self.places)
