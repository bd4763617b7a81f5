"""``graft minimal-pairs``: how often a base model finds the acceptable sentence of two the more probable one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.metadata import version
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftlm.data.minimal_pairs import Paradigm, fingerprint, read_minimal_pairs
from graftlm.data.places import counted
from graftlm.errors import ConfigurationError, ModelError
from graftlm.models.base_model import load_model, load_tokenizer
from graftlm.models.flat.probe import make_flat
from graftlm.models.locating import locate
from graftlm.progress import Progress, Silent
from graftlm.rundir import write_json
from graftlm.scoring.bootstrap import score
from graftlm.scoring.minimal_pairs import MinimalPairAccuracy, PairOutcomes
from graftlm.scoring.scores import Scores
from graftlm.training.devices import choose_device
from graftlm.training.likelihood import log_likelihoods
from graftlm.training.memory import place

# Pairs of networks are asked first: BART's would also be taken for one that fills gaps.
ARCHITECTURES = ("AutoModelForSeq2SeqLM", "AutoModelForMaskedLM", "AutoModelForCausalLM")


def score_minimal_pairs(
    base: str,
    path: Path,
    rows: int | None = None,
    within_word: bool = False,
    device: str = "auto",
    output: Path | None = None,
    progress: Progress | None = None,
    **bootstrap: Any,
) -> dict[str, Any]:
    """Return accuracies with intervals, and how they came about, as plain JSON values.

    Args:
        base: a base model, see `graftlm.models.locating.locate`; its language modelling head must be trained.
        path: a folder of paradigms, or one file, see `graftlm.data.minimal_pairs`.
        rows: take the first so many pairs of each paradigm; None takes all.
        within_word: of an encoder, mask the later tokens of a word with each, see `graftlm.training.likelihood`.
        device: auto, cpu, cuda or mps.
        output: a file to write the result to.
        progress: who listens.
        bootstrap: confidence, resamples, seed.

    Raises:
        DataError: a file is malformed, with its line, or a sentence is too long.
        ModelError: there is no such model, or its head is not pretrained.
        ConfigurationError: ``within_word`` for a model that writes.
    """
    progress = progress or Silent()
    chosen = choose_device(device)
    paradigms = read_minimal_pairs(path, rows)
    files = locate(base)
    tokenizer = load_tokenizer(files, positions=within_word)
    loaded = load_model(files, ARCHITECTURES, {}, seed=0)
    if new := [name for name in loaded.new_parameters if "pooler." not in name]:
        raise ModelError(
            f"this base model has no pretrained language modelling head (missing: {', '.join(new[:3])}), so its "
            "likelihoods would be chance",
            where=base,
            fix="choose a base model that was saved with the head it was pretrained with",
        )
    model = loaded.model
    fills = not (model.can_generate() or model.config.is_encoder_decoder)
    if within_word and not fills:
        raise ConfigurationError(
            "this model writes from left to right and hides nothing",
            where="--within-word",
            fix="leave it out; it is for models that fill gaps",
        )
    place(model, chosen)
    if reason := make_flat(model, gradients=False):
        progress.say(f"Padding is computed, because {reason}.")
    pairs = sum(len(paradigm.good) for paradigm in paradigms)
    progress.stage(f"scoring {counted(pairs, 'pair')} of {counted(len(paradigms), 'paradigm')}")
    began = time.perf_counter()
    texts = [text for paradigm in paradigms for text in (*paradigm.good, *paradigm.bad)]
    found = log_likelihoods(model, tokenizer, texts, within_word=within_word, on_texts=progress.advance)
    seconds = time.perf_counter() - began
    scores = _scored(paradigms, found, **bootstrap)
    result = {
        "base": {"name": files.name, "revision": files.revision, "fingerprint": files.fingerprint},
        "method": ("pseudo-log-likelihood" + (", later tokens of a word masked too" if within_word else ""))
        if fills
        else "log-likelihood",
        "data": {
            "path": str(path),
            "fingerprint": fingerprint(paradigms),
            "paradigms": len(paradigms),
            "pairs": pairs,
            "first_rows_of_each_paradigm": rows,
        },
        "scores": scores.dump(),
        "seconds": round(seconds, 1),
        "device": model.device.type,
        "graftlm_version": version("graftlm"),
    }
    if output is not None:
        write_json(output, result)
    return result


def _scored(paradigms: Sequence[Paradigm], found: NDArray[np.float64], **bootstrap: Any) -> Scores:
    """Return the scores of log-likelihoods that lie paradigm by paradigm, good sentences before bad ones."""
    ends = accumulate((2 * len(paradigm.good) for paradigm in paradigms), initial=0)
    halves = [np.split(found[start:end], 2) for start, end in pairwise(ends)]
    phenomena: dict[str, list[int]] = {}
    for number, paradigm in enumerate(paradigms):
        if paradigm.phenomenon:
            phenomena.setdefault(paradigm.phenomenon, []).append(number)
    sample = PairOutcomes.of([good for good, _ in halves], [bad for _, bad in halves])
    names = [paradigm.name for paradigm in paradigms]
    return score(sample, names, [MinimalPairAccuracy(phenomena)], "accuracy", **bootstrap)
