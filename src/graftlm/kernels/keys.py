"""What a random decision about a token depends on, as numbers: a key for each example, token and site.

    example key  = f(seed, step, forward pass, occurrence of the example)
    token key    = f(example key, position in the example)
    base of site = upper 32 bits of f(token key, site)

f is that of `graftlm.splitmix`. A key says nothing of the batch, so that neither the split into micro-batches nor the
neighbours change a mask.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from graftlm.kernels.sending import sent
from graftlm.splitmix import FACTORS, absorbed, chained, finalised, word

Keys = NDArray[np.uint64]


def example_keys(seed: int, step: int, rows: ArrayLike, *, forward_pass: int = 0) -> Keys:
    """Return the key of each example of a step.

    Args:
        seed: of the run; any integer, of which the lowest 64 bits count.
        step: the optimiser step.
        rows: [examples] integers, one for each occurrence: an example that occurs twice in a step needs two numbers,
            or both get one mask.
        forward_pass: tells apart passes over one example within one step.

    Returns:
        uint64 [examples].
    """
    occurrences = np.asarray(rows, dtype=np.int64).reshape(-1).view(np.uint64)
    return chained(word(seed), word(step), word(forward_pass), occurrences)


def keys_of_pass(examples: Keys, forward_pass: int) -> Keys:
    """Return keys of the same examples for another network that reads them in the same step.

    Args:
        examples: uint64 [examples].
        forward_pass: any integer; another for each network.
    """
    return absorbed(examples, word(forward_pass))


def token_keys(examples: Keys, lengths: ArrayLike) -> Keys:
    """Return the key of each token of examples that lie one after the other.

    Args:
        examples: uint64 [examples].
        lengths: [examples] numbers of tokens, zero or more.

    Returns:
        uint64 [sum of lengths].

    Raises:
        ValueError: as many lengths as examples are needed, none of them negative.
    """
    counts = np.asarray(lengths, dtype=np.int64).reshape(-1)
    if counts.shape != examples.shape or (counts < 0).any():
        raise ValueError(
            f"{len(examples)} examples need as many lengths of zero or more, not {len(counts)} numbers"
        )
    starts = np.cumsum(counts) - counts
    positions = np.arange(counts.sum()) - np.repeat(starts, counts)
    return absorbed(np.repeat(examples, counts), positions.astype(np.uint64))


def site_bases(tokens: Keys, site: int) -> torch.Tensor:
    """Return the base of each token at one site, a place of the model where something is dropped.

    Args:
        tokens: uint64 [tokens].
        site: any integer; another for each place.

    Returns:
        int32 [tokens] on the CPU, holding the bit patterns of unsigned 32-bit numbers.
    """
    bases = (finalised(tokens ^ chained(word(site))) >> np.uint64(32)).astype(np.uint32)
    return torch.from_numpy(bases.view(np.int32))


def sites_bases(tokens: torch.Tensor, sites: range) -> torch.Tensor:
    """Return what `site_bases` returns, of several sites and on any device.

    Args:
        tokens: int64 [tokens], the bit patterns of the keys.
        sites: their numbers.

    Returns:
        int32 [sites, tokens] on the device of the keys.
    """
    mixed = tokens ^ _salts(sites, tokens.device)[:, None]
    for shift, factor in zip((30, 27), FACTORS, strict=True):
        mixed = (mixed ^ _shifted(mixed, shift)) * _signed(factor)
    return ((mixed ^ _shifted(mixed, 31)) >> 32).to(torch.int32)


@functools.cache
def _salts(sites: range, device: torch.device) -> torch.Tensor:
    """Return what tells sites apart, int64 [sites]; kept, as every forward pass asks for the same ones."""
    salts = np.concatenate([chained(word(site)) for site in sites])
    return sent(torch.from_numpy(salts.view(np.int64)), device)


def _shifted(bits: torch.Tensor, count: int) -> torch.Tensor:
    # >> repeats the sign; masked, it is the shift of an unsigned number.
    return (bits >> count) & ((1 << (64 - count)) - 1)


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number
