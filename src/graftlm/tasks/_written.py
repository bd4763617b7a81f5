"""What tasks that write texts have in common: from outputs to texts, and from texts to scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graftlm.data.features import Features, Outputs
from graftlm.data.places import counted
from graftlm.data.writing import Written
from graftlm.scoring.bootstrap import score
from graftlm.scoring.generated_texts import GeneratedTexts, Scoring, signatures
from graftlm.scoring.metric import metrics_of
from graftlm.scoring.scores import Scores

# Where nobody knows how probable the references were: what simple competitors can still be compared by.
_WITHOUT_PROBABILITIES = "chrf"


@dataclass(frozen=True)
class TextPrediction:
    """What the model writes.

    Args:
        text: without special tokens and without white space at both ends.
        score: geometric mean of the probabilities of its tokens, 0 to 1, as the bare model sees them.
        cut: whether the limit of tokens was reached before the text ended.
        reference_log_probability: natural log-probability of the row's reference, summed over its tokens; None where
            the row has none.
        reference_tokens: how many these are.
    """

    text: str
    score: float
    cut: bool
    reference_log_probability: float | None = None
    reference_tokens: int = 0


def read_texts(outputs: Outputs, features: Features) -> list[TextPrediction]:
    """Return the text of each output."""
    writing = features.writing
    assert writing is not None
    return [_read(Written.of(output), writing.reader) for output in outputs]


def _read(written: Written, reader: Any) -> TextPrediction:
    return TextPrediction(
        reader.text(written.tokens),
        float(np.exp(written.log_probabilities.mean())),
        not reader.ended(written.tokens),
        float(written.given.sum()) if len(written.given) else None,
        len(written.given),
    )


def quoted(text: str) -> TextPrediction:
    """Return what a simple competitor says: nobody knows how probable."""
    return TextPrediction(text, 1.0, False)


def most_frequent(texts: Iterable[str]) -> str:
    """Return the text that occurs most often, the first of several."""
    return Counter(texts).most_common(1)[0][0]


def same_text(text: str) -> str:
    """Return what to call a text that is written for every row, without repeating it."""
    return f"one text of {counted(len(text), 'character')}" if text else "nothing"


def score_texts(
    predictions: Sequence[TextPrediction],
    references: Sequence[str],
    scoring: Scoring,
    kind: str,
    primary: str,
    **options: Any,
) -> Scores:
    """Compare texts with one reference each, all metrics of the kind, see `graftlm.scoring.generated_texts`."""
    known = all(each.reference_log_probability is not None for each in predictions)
    sample = GeneratedTexts.compare(
        [each.text for each in predictions],
        references,
        scoring,
        [each.cut for each in predictions],
        np.array([each.reference_log_probability for each in predictions]) if known else None,
        np.array([float(each.reference_tokens) for each in predictions]) if known else None,
    )
    if primary == "perplexity" and not known:
        primary = _WITHOUT_PROBABILITIES
    return replace(score(sample, (), metrics_of(kind), primary, **options), signatures=signatures(scoring))


def phrase(prediction: TextPrediction) -> str:
    """Return a text in a line for a person; three dots where it was cut."""
    return (prediction.text or "(nothing)") + (" ..." if prediction.cut else "")


def record(prediction: TextPrediction) -> dict[str, Any]:
    """Return a prediction as plain values for JSON Lines."""
    return {"text": prediction.text, "score": prediction.score, "cut": prediction.cut}
