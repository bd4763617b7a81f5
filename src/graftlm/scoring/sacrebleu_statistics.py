"""BLEU and chrF by sacreBLEU, as functions of numbers that add up over rows.

Source: Papineni et al. 2002 and Popovic 2015; Post, A Call for Clarity in Reporting BLEU Scores, 2018. sacreBLEU is
loaded where it is needed: every metric is loaded to know its name, most runs score no texts.

`_extract_corpus_statistics` and `_compute_score_from_stats` are private to sacreBLEU, and used here alone: they are
what its own bootstrap is made of, and the public functions would tokenise all texts again for each resample.
"""
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftlm.scoring.writing_systems import Scoring, spaced


def bleu_statistics(texts: Sequence[str], references: Sequence[str], scoring: Scoring) -> NDArray[np.float64]:
    """Return [rows, 10]: tokens of text and reference, then right and all n-grams of 1 to 4 tokens."""
    if scoring == "characters":
        texts, references = [spaced(text) for text in texts], [spaced(text) for text in references]
    return np.array(_bleu(scoring)._extract_corpus_statistics(texts, [references]), np.float64)


def chrf_statistics(texts: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
    """Return [rows, 18]: n-grams of text, of reference and of both, for 1 to 6 characters."""
    return np.array(_chrf()._extract_corpus_statistics(texts, [references]), np.float64)


def bleu(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return BLEU [...], 0 to 1, from sums over rows of `bleu_statistics` [..., 10]."""
    return _scores(_bleu("english")._compute_score_from_stats, sums)


def chrf(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return chrF2 [...], 0 to 1, from sums over rows of `chrf_statistics` [..., 18]."""
    return _scores(_chrf()._compute_score_from_stats, sums)


def sacrebleu_signatures(scoring: Scoring) -> dict[str, str]:
    """Return name of the value -> what sacreBLEU asks to be reported beside it."""
    # Kana, Thai, Lao, Khmer and Myanmar characters are spaced before zh sees them, which it cannot know.
    ours = "|spaced:kana.thai.lao.khmer.myanmar" if scoring == "characters" else ""
    return {"bleu": f"{_bleu(scoring).get_signature()}{ours}", "chrf": str(_chrf().get_signature())}


def _bleu(scoring: Scoring) -> Any:
    from sacrebleu.metrics.bleu import BLEU

    # Forced: a model that ends sentences in " ." is scored like any other, without advice on standard error.
    # One reference, of a text that does not matter here: the signature tells how many there are.
    return BLEU(tokenize="zh" if scoring == "characters" else "13a", force=True, references=[[""]])


def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF(references=[[""]])


def _scores(score: Callable[[list[float]], Any], sums: NDArray[np.float64]) -> NDArray[np.float64]:
    flat = sums.reshape(-1, sums.shape[-1])
    values = [score(numbers).score / 100 for numbers in flat.tolist()]
    return np.array(values).reshape(sums.shape[:-1])
