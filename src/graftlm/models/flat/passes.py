"""One forward pass on flat tokens, and what is done in it by other means than usual."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Generator
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from graftlm.kernels.dropout import keyed_dropout
from graftlm.kernels.gelu import gelu
from graftlm.models.flat.layout import DropoutKeys, Layout


class NotFlat(Exception):
    """This network asks for something that flat execution does not give."""


@dataclass
class LastLayer:
    """What the last layer works with where it is computed for the first token of each example alone.

    Args:
        given: what the layer before has made of all tokens, [1, tokens, features].
        first: of it, the first tokens, [1, examples, features].
        keys: of all tokens, [1, tokens, features], once they are made.
        values: likewise.
    """

    given: Tensor
    first: Tensor
    keys: Tensor | None = None
    values: Tensor | None = None


@dataclass
class Pass:
    """A forward pass. ``inside`` the body values are flat, before and behind it padded.

    Args:
        layout: of the tokens at work: of the batch, or of its targets once a decoder of its own has begun.
        dropout: what decides it; None where nothing is dropped.
        read: the tokens that the head gets, all where it is None.
        inside: whether the body is at work.
        entered: whether it has been.
        windows: how far the masks reach that the family asked for, and that are not made; None where a token sees all.
        last: the last layer, from where it begins, if it is computed for the first tokens alone.
        target: where the tokens stand that a decoder of its own is given.
        source: the layout of what the encoder read, once the decoder has begun.
    """

    layout: Layout
    dropout: DropoutKeys | None
    read: Tensor | None
    inside: bool = False
    entered: bool = False
    windows: set[int | None] = field(default_factory=set[int | None])
    last: LastLayer | None = None
    target: Layout | None = None
    source: Layout | None = None

    def begin_target(self) -> None:
        """Go on from what the encoder read to what the decoder writes."""
        if self.target is None:
            raise NotFlat("nobody has said where its decoder's tokens stand")
        self.source, self.layout = self.layout, self.target
        self.dropout = None if self.dropout is None else self.dropout.within(self.layout)

    def here(self) -> Pass:
        """Return the pass as it stands, which goes on apart from this one."""
        last = None if self.last is None else replace(self.last)
        return replace(self, dropout=copy.copy(self.dropout), last=last)

    def bases(self, tokens: int) -> Tensor:
        """Return what decides about dropout at the next site, of all tokens or, in a last layer, of so many first ones.

        There, keys and values are made of all tokens, so an adapter on them drops for all.
        """
        if self.dropout is None:
            raise NotFlat("its attention drops though nothing else does")
        first = self.last is not None and tokens == len(self.layout.lengths)
        return self.dropout.of_first_tokens() if first else self.dropout.of_tokens()


_current: ContextVar[Pass | None] = ContextVar("graftlm_flat_pass", default=None)


def current_pass() -> Pass | None:
    """Return the flat pass that this thread is in, if any."""
    return _current.get()


@contextlib.contextmanager
def laid_flat(
    layout: Layout,
    examples: NDArray[np.uint64] | DropoutKeys | None,
    read: Tensor | None = None,
    target: Layout | None = None,
) -> Generator[None]:
    """Let a forward pass of an `install`-ed model inside the block work flat.

    Args:
        layout: of its batch.
        examples: keys of the examples for dropout, uint64 [examples], or what is made of them; None where nothing is
            dropped.
        read: the head gets these tokens only, as one row: their numbers among all tokens, int64. For heads that answer
            for each token and are dear, as the projection onto a vocabulary. None gives it padded examples.
        target: of what a decoder of its own is given, which ``read`` then counts in.
    """
    dropout = DropoutKeys(examples, layout) if isinstance(examples, np.ndarray) else examples
    with going_on(Pass(layout, dropout, read, target=target)):
        yield


@contextlib.contextmanager
def going_on(current: Pass) -> Generator[None]:
    """Work in a pass inside the block."""
    token = _current.set(current)
    try:
        with _OurFunctions():
            yield
    finally:
        _current.reset(token)


class _OurFunctions(TorchFunctionMode):
    """Functions that we compute otherwise, whichever module calls them.

    Dropout by the keys of the pass instead of a generator's next numbers; activations by kernels.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        ours = _OURS.get(func, func)
        return ours(*args, **(kwargs or {}))


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    current = _current.get()
    assert current is not None
    if current.dropout is None:
        return functional.dropout(input, p, training, inplace)
    if not training or p == 0.0:
        return input
    bases = current.bases(input.shape[1]) if current.inside else current.dropout.of_values(input.shape)
    return keyed_dropout(input, bases, p)


def _gelu(input: Tensor, *, approximate: str = "none") -> Tensor:
    return gelu(input) if approximate == "none" else functional.gelu(input, approximate=approximate)


_OURS: dict[Any, Any] = {functional.dropout: _dropout, functional.gelu: _gelu}
