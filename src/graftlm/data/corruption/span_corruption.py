"""Span corruption: spans are replaced by sentinels, and the model writes what they were.

Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", 2020, section 3.1.4;
the spans are those of ``random_spans_noise_mask`` in its repository.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graftlm.data.corruption.flat import Counts, first_items, owners, positions_within, ragged, sums_before
from graftlm.data.corruption.spans import Spans, picked
from graftlm.data.corruption.uniforms import Keys
from graftlm.data.ragged import Ragged
from graftlm.errors import ConfigurationError


@dataclass(frozen=True, eq=False)
class SpanCorruption:
    """How texts are corrupted.

    Args:
        sentinels: tokens that stand for the first, second, ... span; int [sentinels]. T5 counts them downwards.
        end_token: ends inputs and targets.
        noise_share: of the tokens that are taken out.
        mean_span_tokens: tokens of a span in the mean.
    """

    sentinels: NDArray[np.int64]
    end_token: int
    noise_share: float = 0.15
    mean_span_tokens: float = 3.0

    def __post_init__(self) -> None:
        if not 0.0 < self.noise_share < 1.0 or not self.mean_span_tokens >= 1.0:
            raise ValueError(
                f"no text can lose {self.noise_share} of its tokens in spans of {self.mean_span_tokens}"
            )

    def noise(self, lengths: Counts) -> tuple[Counts, Counts]:
        """Return how many tokens texts lose, and in how many spans; a text of one token loses none."""
        rounded = np.round(lengths * self.noise_share).astype(np.int64)
        tokens = np.clip(rounded, np.minimum(1, lengths), np.maximum(lengths - 1, 0))
        spans = np.maximum(np.round(tokens / self.mean_span_tokens).astype(np.int64), 1)
        return tokens, np.minimum(spans, np.minimum(tokens, lengths - tokens))

    def lengths_of_results(self, lengths: Counts) -> tuple[Counts, Counts]:
        """Return how long inputs and targets become, sentinels and end included."""
        tokens, spans = self.noise(lengths)
        return lengths - tokens + spans + 1, tokens + spans + 1

    def longest_text(self, max_input_tokens: int) -> int:
        """Return how many tokens a text may have for its inputs to have so many at most.

        Raises:
            ValueError: not even one.
        """
        # Inputs never get shorter where a text gets longer, and keep all but the noise of it.
        most = int(max_input_tokens / (1.0 - self.noise_share)) + 2
        fitting = self.lengths_of_results(np.arange(1, most + 1))[0] <= max_input_tokens
        if not fitting.any():
            raise ValueError(f"no text leaves inputs of {max_input_tokens} tokens")
        return int(np.flatnonzero(fitting)[-1]) + 1

    def require_sentinels(self, lengths: Counts) -> None:
        """Refuse texts of so many tokens if one of them has more spans than there are sentinels."""
        _, counts = self.noise(lengths)
        most, known = int(counts.max(initial=0)), len(self.sentinels)
        if most > known:
            raise ConfigurationError(
                f"a text of {int(lengths[counts.argmax()]):,} tokens loses {most:,} spans, and this vocabulary has "
                f"{known:,} sentinels to stand for them",
                where="training.max_length_tokens",
                fix="cut texts shorter (training.max_length_tokens), or make the spans longer "
                "(objective.mean_span_tokens)",
            )


@dataclass(frozen=True)
class Corrupted:
    """What a model reads, and what it writes.

    Args:
        inputs: ``kept <s0> kept <s1> ... end``; a text begins with what is kept and ends with a sentinel.
        targets: ``<s0> span <s1> span ... end``.
    """

    inputs: Ragged
    targets: Ragged


def corrupt_spans(texts: Ragged, keys: Keys, corruption: SpanCorruption) -> Corrupted:
    """Take spans out of texts; how long the results become depends on the lengths only.

    Both the kept and the lost tokens are cut into as many parts, each way of cutting as likely as any other.

    Args:
        texts: without special tokens.
        keys: uint64 [texts], see `corruption_keys`.
        corruption: see there.

    Raises:
        ConfigurationError: a text has more spans than there are sentinels.
    """
    lengths = texts.lengths
    corruption.require_sentinels(lengths)
    noise, counts = corruption.noise(lengths)
    kept = _parts(keys, lengths - noise, counts, "kept parts")
    spans = Spans(
        _parts(keys, noise, counts, "lost parts"), sums_before(kept, counts) + kept, counts, lengths
    )
    sentinels = corruption.sentinels.astype(np.int32)[positions_within(counts)]
    lost = texts.values[spans.numbers() >= 0]
    places = first_items(noise)[owners(counts)] + sums_before(spans.lengths, counts)
    targets = ragged(np.insert(lost, places, sentinels), noise + counts)
    return Corrupted(
        _ended(spans.replaced(texts, sentinels), corruption.end_token), _ended(targets, corruption.end_token)
    )


def _parts(keys: Keys, totals: Counts, counts: Counts, purpose: str) -> NDArray[np.int64]:
    """Return totals as sums of so many numbers of one or more; int64 [sum of counts]."""
    # Each part but the first begins at one of the items behind the first.
    places = np.maximum(totals - 1, 0)
    cuts = np.sort(picked(keys, places, np.maximum(counts - 1, 0), purpose))
    own = np.repeat(first_items(places), np.maximum(counts - 1, 0))
    begins = np.insert(cuts - own + 1, first_items(np.maximum(counts - 1, 0))[counts > 0], 0)
    ends = np.append(begins[1:], 0)
    last = np.cumsum(counts)[counts > 0] - 1
    ends[last] = totals[counts > 0]
    return ends - begins


def _ended(rows: Ragged, end_token: int) -> Ragged:
    values = np.insert(rows.values, rows.starts[1:], np.int32(end_token))
    return ragged(values, rows.lengths + 1)
