"""What is held out of raw text measures the model: nothing learns from it, and its documents are drawn."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from tests.pretraining_objectives.corpora import corpus_of
from tests.tiny import WORDS

from graftlm.data.corpus.holding_out import trained_on
from graftlm.pretraining_evaluation import scored
from graftlm.pretraining_objectives._examples import CorpusExamples, windows
from graftlm.pretraining_preparation import begin_with
from graftlm.pretraining_recipe import load_pretraining
from graftlm.progress import Silent


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_a_new_tokenizer_has_not_seen_it(kind: str, tmp_path: Path) -> None:
    """Each document has a letter of its own; those of the held-out ones are unknown."""
    letters = [chr(0x4E00 + number) for number in range(60)]
    draw = random.Random(5)
    documents = [
        f"{' '.join(draw.choices(WORDS[:80], k=12))} {letter} {letter}{letter}." for letter in letters
    ]
    (tmp_path / "texts.txt").write_text("\n".join(documents), encoding="utf-8")
    recipe = load_pretraining(
        None,
        {
            "base": "bert-tiny", "corpus.path": str(tmp_path / "texts.txt"), "corpus.document": "line",
            "corpus.held_out_share": 0.2, "tokenizer.kind": kind, "tokenizer.vocabulary_size": 260,
            "training.max_length_tokens": 24,
        },
    )  # fmt: skip
    tokenizer = begin_with(recipe, tmp_path / "tokenizer", Silent()).tokenizer
    seen = "".join(trained_on(documents, 0.2, recipe.seed))
    assert 0 < sum(letter not in seen for letter in letters) < 40
    unknown = tokenizer.unk_token_id
    for letter in letters:
        assert (unknown in tokenizer(letter, add_special_tokens=False)["input_ids"]) == (letter not in seen)


def test_documents_that_are_scored_are_drawn_and_always_the_same() -> None:
    sizes = np.random.default_rng().integers(5, 40, 200).tolist()
    print(sizes)
    corpus = corpus_of([[[7] * size] for size in sizes])

    def cut(number: int, short: bool):
        return windows(corpus.document_starts, 16, 2)

    examples = CorpusExamples(corpus, cut, None, 1, {})  # pyright: ignore[reportArgumentType]
    chosen, rows = scored(examples, 1_000)
    documents = chosen.documents()[rows]
    read = int(chosen.lengths[rows].sum())
    assert 1_000 <= read <= 1_000 + 40 + 3 * 2
    # Whole documents, from all over the text.
    counts = np.bincount(chosen.documents(), minlength=200)
    assert all((documents == each).sum() == counts[each] for each in np.unique(documents))
    assert documents.max() > 100
    assert np.array_equal(scored(examples, 1_000)[1], rows)
    assert len(scored(examples, 10**9)[1]) == len(chosen.lengths)
