"""Which numbers dropout keeps, in torch for every device; the compiled kernels decide the same bits.

    hidden      pair = hash(base + feature // 2 * STEP)
    attention   pair = hash(hash(base + (head + 1) * HEAD_STEP) + key // 2 * STEP)
    bits        the lower 16 of its pair where the feature or key is even, the upper 16 where it is odd
    kept        bits >= threshold(p), all modulo 2**32

So a mask is never stored: the way back computes it again. 16 bits tell probabilities apart by a 65,536th; what is kept
is scaled by the share that is kept then, so that means stay what they were.
"""

from __future__ import annotations

import torch
from torch import Tensor

FORMULA = 3
"""Changes where the same seed comes to drop otherwise: 1 had a hash for each number, 2 scaled by 1 / (1 - p)."""
_STEP, _HEAD_STEP = 0x9E3779B9, 0x85EBCA6B
_AT_A_TIME = 1 << 19
"""So many numbers, 2 MiB of them, stay in the caches of a CPU while several operations go over them."""


def threshold(probability: float) -> int:
    """Return the least of the 2**16 random numbers that keeps what it decides about.

    Raises:
        ValueError: the probability is not in [0, 1).
    """
    if not 0.0 <= probability < 1.0:
        raise ValueError(f"a dropout probability is at least 0 and below 1, not {probability}")
    return min(round(probability * 2**16), 2**16 - 1)


def kept_factor(probability: float) -> float:
    """Return by what is multiplied what is kept: one over the share that `threshold` keeps."""
    return 2**16 / (2**16 - threshold(probability))


def kept_features(bases: Tensor, features: int, probability: float) -> Tensor:
    """Return which features of each row are kept.

    Args:
        bases: int32 [rows], of `keys.site_bases`.
        features: how many numbers a row has.
        probability: of dropping, in [0, 1).

    Returns:
        bool [rows, features].
    """
    kept = torch.empty(len(bases), features, dtype=torch.bool, device=bases.device)
    parts = in_cache(bases, features)
    for part, into in zip(parts, kept.split([len(part) for part in parts]), strict=True):
        _keep(part, probability, into)
    return kept


def in_cache(tensor: Tensor, numbers: int = 1) -> tuple[Tensor, ...]:
    """Return the parts of a contiguous tensor, as one row, of as many places as a CPU should work on at a time.

    Args:
        tensor: on a CPU; of another device there is one part.
        numbers: how many are worked on for each place.
    """
    row = tensor.view(-1)
    return row.split(max(1, _AT_A_TIME // max(1, numbers))) if tensor.device.type == "cpu" else (row,)


def kept_keys(bases: Tensor, heads: int, keys: int, probability: float) -> Tensor:
    """Return which keys of its sequence each query attends to after dropout.

    Args:
        bases: int32 [..., queries], of `keys.site_bases`.
        heads: how many heads of queries there are.
        keys: how many tokens the sequence has.
        probability: of dropping, in [0, 1).

    Returns:
        bool [..., heads, queries, keys].
    """
    rows = rows_of_heads(bases, heads)
    kept = torch.empty(*rows.shape, keys, dtype=torch.bool, device=bases.device)
    _keep(rows, probability, kept)
    return kept


def rows_of_heads(bases: Tensor, heads: int) -> Tensor:
    """Return the base of each row of probabilities, whose keys are then dropped as features of a row are.

    Args:
        bases: int32 [..., queries], of `keys.site_bases`.
        heads: how many heads of queries there are.

    Returns:
        int32 [..., heads, queries].
    """
    of_heads = _multiples(1, heads + 1, _HEAD_STEP, bases.device)
    return _hash_in_place(bases[..., None, :] + of_heads[:, None])


def _multiples(begin: int, end: int, factor: int, device: torch.device) -> Tensor:
    # int32 stands for unsigned numbers: sums and products wrap around to the same bits.
    return torch.arange(begin, end, dtype=torch.int32, device=device) * _signed(factor)


def _keep(rows: Tensor, probability: float, kept: Tensor) -> None:
    """Decide about [..., features] by the base of each row, int32 [...]."""
    features = kept.shape[-1]
    pairs = _hash_in_place(rows[..., None] + _multiples(0, (features + 1) // 2, _STEP, rows.device))
    # Flipping the sign bits brings unsigned numbers into signed order.
    bits = pairs.bitwise_xor_(_number(0x80008000, pairs)).view(torch.int16)
    torch.ge(bits[..., :features], threshold(probability) - (1 << 15), out=kept)


def _hash_in_place(bits: Tensor) -> Tensor:
    """The same as graft_hash in source/dropout.h."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        _fold(bits, shift).mul_(_number(factor, bits))
    return _fold(bits, 16)


def _fold(bits: Tensor, shift: int) -> Tensor:
    # >> repeats the sign; masked, it is the shift of an unsigned number.
    shifted = (bits >> _number(shift, bits)).bitwise_and_(_number((1 << (32 - shift)) - 1, bits))
    return bits.bitwise_xor_(shifted)


def _number(number: int, beside: Tensor) -> int | Tensor:
    """Return an operand of int32; ready as a tensor on a CPU, where torch would else make one in each call."""
    return _NUMBERS[number] if beside.device.type == "cpu" else _signed(number)


def _signed(number: int) -> int:
    return number - (1 << 32) if number >= 1 << 31 else number


_NUMBERS = {
    number: torch.tensor(_signed(number), dtype=torch.int32, device="cpu")  # whatever the default is
    for number in (15, 16, 0xFFFF, 0x1FFFF, 0x7FEB352D, 0x846CA68B, 0x80008000)
}
