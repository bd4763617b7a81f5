"""How well a base model says held-out text, with intervals over documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from graftlm.data.features import IGNORED
from graftlm.data.places import counted
from graftlm.errors import DataError
from graftlm.pretraining_objectives._examples import PAIRS, REPLACED, TOKENS, CorpusExamples
from graftlm.pretraining_objectives._objective import CrossEntropies, PretrainingObjective, Said, losses
from graftlm.scoring.bits_per_byte import bits_per_byte
from graftlm.scoring.scores import Score, Scores
from graftlm.training.batching import Batch
from graftlm.training.memory import SMALLER_STEPS, memory_for

RESAMPLES = 2_000
_COUNTED_AT_ONCE = 1_000_000
_ASKED_AT_ONCE = 256
_EXAMPLES_ASKED = 2_000


@dataclass(frozen=True, eq=False)
class Sums:
    """What was said about held-out examples, in one place for each document.

    Args:
        nats: kind of target -> summed loss of each document.
        right: kind of target -> right answers in each document.
        counts: kind of target -> targets in each document.
        bytes: UTF-8 bytes of each document; None where its tokens do not give all of them back, or are not all asked.
        documents: how many there are.
        objective: what the losses of all kinds make together.
    """

    nats: Mapping[str, NDArray[np.float64]]
    right: Mapping[str, NDArray[np.float64]]
    counts: Mapping[str, NDArray[np.float64]]
    bytes: NDArray[np.float64] | None
    documents: int
    objective: CrossEntropies

    @property
    def loss(self) -> float:
        """The objective over all examples."""
        return float(
            self.objective.sum({kind: self.nats[kind].sum() / self.counts[kind].sum() for kind in self.nats})
        )

    def scores(
        self, objective: PretrainingObjective, confidence: float, seed: int, before: Sums | None = None
    ) -> Scores:
        """Return every value with its interval: whole documents are drawn with replacement.

        Args:
            objective: names what is measured.
            confidence: level of the intervals.
            seed: of the draws.
            before: what another model says about the same documents; every value is then the difference from that
                of the other model on the same draws.
        """
        documents = self.documents
        draws = np.random.default_rng(seed).multinomial(
            documents, np.full(documents, 1 / documents), RESAMPLES
        )

        def values(draws: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
            found = self._values(draws, objective)
            other = {} if before is None else before._values(draws, objective)
            return {name: each - other.get(name, 0.0) for name, each in found.items()}

        points, resampled = values(np.ones((1, documents))), values(draws.astype(np.float64))
        ends = [(1 - confidence) / 2, (1 + confidence) / 2]
        return Scores(
            values={
                name: Score(float(values[0]), *map(float, np.nanquantile(resampled[name], ends)))
                for name, values in points.items()
            },
            primary="loss",
            greater_is_better=False,
            rows=documents,
            confidence=confidence,
            resamples=RESAMPLES,
            labels=(),
            references=[],
            confusion=[],
        )

    def _values(
        self, draws: NDArray[np.float64], objective: PretrainingObjective
    ) -> dict[str, NDArray[np.float64]]:
        """Return each value for every draw, [draws]; ``draws`` say how often each document counts."""
        with np.errstate(invalid="ignore", divide="ignore"):
            means = {kind: (draws @ self.nats[kind]) / (draws @ self.counts[kind]) for kind in self.nats}
            values: dict[str, NDArray[np.float64]] = {"loss": self.objective.sum(means)}
            values["perplexity"] = np.exp(means[TOKENS])
            if self.bytes is not None:
                values["bits_per_byte"] = bits_per_byte(draws @ self.nats[TOKENS], draws @ self.bytes)
            for name, kind in objective.measures.items():
                if kind in self.right:
                    values[name] = (draws @ self.right[kind]) / (draws @ self.counts[kind])
        return values


@dataclass(frozen=True)
class Budget:
    """What is scored, and how much of it at once.

    Args:
        at_once: tokens of a forward pass.
        most_examples: of a forward pass; None for any number.
        in_all: tokens that are scored, see `scored`.
    """

    at_once: int
    most_examples: int | None
    in_all: int

    def examples(self, tokens: int) -> int:
        """Return how many examples of so many tokens are scored at once, one at least."""
        fitting = self.at_once // tokens
        return max(1, fitting if self.most_examples is None else min(fitting, self.most_examples))


Saying = Callable[[Batch], tuple[Said, Said]]
"""A batch -> outputs and targets."""


def frequencies(source: CorpusExamples, size: int, judged: Saying) -> Saying:
    """Return what says tokens as often as they occur in a corpus, whatever stands beside them, and nothing of pairs.

    ``p(token) = (1 - a) (occurrences + 1) / (tokens + size)``, over a vocabulary of ``size``, where ``a`` is the share
    of what the objective adds to the text, such as sentinels and ends, among what some of the examples ask for; to each
    of these their share there is added. Of tokens that may be replaced it says that none is, as surely as their share
    in the batch allows.

    Args:
        source: of the examples that are trained on, whose corpus is counted.
        size: of the vocabulary.
        judged: the model, asked which tokens it has replaced.
    """
    corpus, counts = source.corpus, np.zeros(size)
    for start in range(0, corpus.num_tokens, _COUNTED_AT_ONCE):
        tokens = corpus.window(start, min(start + _COUNTED_AT_ONCE, corpus.num_tokens))
        counts += np.bincount(tokens, minlength=size)
    examples = source.in_pass(0).at(1.0)
    rows = np.random.default_rng(0).permutation(len(examples.lengths))[:_EXAMPLES_ASKED]
    asked = examples.targets_of(rows)[TOKENS].numpy()
    asked = np.bincount(asked[asked != IGNORED], minlength=size).astype(np.float64)
    added = np.where(counts == 0, asked, 0.0) / max(asked.sum(), 1.0)
    chances = (1 - added.sum()) * (counts + 1) / (counts.sum() + size) + added
    logits = torch.from_numpy(np.log(chances)).float()

    def say(batch: Batch) -> tuple[Said, Said]:
        assert batch.targets is not None
        targets = batch.targets[batch.targets != IGNORED].cpu()
        outputs, said = {TOKENS: logits.expand(len(targets), size)}, {TOKENS: targets}
        if batch.in_order is not None:
            outputs[PAIRS], said[PAIRS] = torch.zeros(len(batch.in_order), 2), 1 - batch.in_order.cpu()
        if batch.judged is not None:
            replaced = judged(batch)[1][REPLACED].cpu()
            share = min(0.5, float(replaced.sum() + 1) / (len(replaced) + 2))
            outputs[REPLACED] = torch.tensor([1.0 - share, share]).log().expand(len(replaced), 2)
            said[REPLACED] = replaced
        return outputs, said

    return say


def evaluate(
    saying: Saying,
    source: CorpusExamples,
    budget: Budget,
    device: torch.device,
    objective: CrossEntropies,
    all_bytes: bool,
    on_batch: Callable[[int], None] = lambda examples: None,
) -> Sums:
    """Score examples of a source; what chance decides about them is always the same.

    Args:
        saying: what is scored.
        source: of held-out examples.
        budget: of the forward passes.
        device: of the model.
        objective: what is minimised.
        all_bytes: whether what is asked gives back every byte of the text, so that bits per byte can be told.
        on_batch: told how many examples each batch had.
    """
    examples, rows = scored(source, budget.in_all)
    lengths, document = examples.lengths, examples.documents()
    rows = rows[np.argsort(-lengths[rows], kind="stable")]
    last = int(document[rows].max())
    sums: dict[str, dict[str, NDArray[np.float64]]] = {"nats": {}, "right": {}, "counts": {}}
    at = 0
    with torch.inference_mode():
        while at < len(rows):
            part = rows[at : at + budget.examples(int(lengths[rows[at]]))]
            batch = examples.batch(part, device)
            with memory_for(f"evaluation, batch of {batch.size}", SMALLER_STEPS):
                outputs, targets = saying(batch)
            assert batch.targets is not None
            owners = {TOKENS: _repeated(document[part], batch.targets), PAIRS: document[part]}
            if batch.judged is not None:
                owners[REPLACED] = _repeated(document[part], batch.judged)
            for kind, logits in outputs.items():
                said = targets[kind]
                values = {
                    "nats": losses(logits, said), "right": logits.argmax(dim=-1) == said,
                    "counts": torch.ones_like(said),
                }  # fmt: skip
                for name, each in values.items():
                    found = np.bincount(owners[kind], each.double().cpu().numpy(), minlength=last + 1)
                    sums[name][kind] = sums[name].get(kind, np.zeros(last + 1)) + found
            at += len(part)
            on_batch(len(part))
    seen = np.unique(document[rows])
    kept = {name: {kind: values[seen] for kind, values in each.items()} for name, each in sums.items()}
    sizes = source.corpus.document_bytes[seen].astype(np.float64)
    return Sums(**kept, bytes=sizes if all_bytes else None, documents=len(seen), objective=objective)


def scored(source: CorpusExamples, tokens: int) -> tuple[CorpusExamples, NDArray[np.int64]]:
    """Return examples as they are scored, and which are: those of whole documents until so many tokens are spent.

    The documents are drawn, always the same ones: the first of a file are often of one kind.
    """
    examples = source.in_pass(0).at(1.0)
    lengths, document = examples.lengths, examples.documents()
    if not len(document):
        return examples, document
    sizes = np.bincount(document, lengths)
    drawn = np.random.default_rng(0).permutation(len(sizes))
    enough = int(np.searchsorted(np.cumsum(sizes[drawn]), tokens)) + 1
    return examples, np.flatnonzero(np.isin(document, drawn[:enough]))


def require_scores(source: CorpusExamples, tokens: int, where: str, fix: str) -> None:
    """Refuse a text of which nothing can be scored, before hours are spent on what it is to judge.

    Args:
        source: of its examples.
        tokens: that are scored at most.
        where: the key of the recipe that gave the text.
        fix: what the user can do.

    Raises:
        DataError: it gives no examples, or none in which the model is asked anything.
    """
    try:
        examples, rows = scored(source, tokens)
    except DataError as error:
        raise DataError(error.what, where=where, fix=fix) from error
    for start in range(0, len(rows), _ASKED_AT_ONCE):
        asked = examples.targets_of(rows[start : start + _ASKED_AT_ONCE])[TOKENS]
        if bool((asked != IGNORED).any()):
            return
    size = f"{counted(len(source.corpus.document_bytes), 'document')}, {counted(source.corpus.num_tokens, 'token')}"
    raise DataError(
        f"this text ({size}) is too little for the objective: nothing of it can be scored",
        where=where,
        fix=fix,
    )


def _repeated(documents: NDArray[np.int64], targets: torch.Tensor) -> NDArray[np.int64]:
    """Return the document of each target of some examples."""
    return documents.repeat((targets != IGNORED).sum(dim=1).cpu().numpy())
