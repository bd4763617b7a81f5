"""Which tokens of a row are learnt, and which are only read: what `graft check --show-loss` shows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

from graftlm.data.dataset import Split
from graftlm.data.features import IGNORED
from graftlm.errors import ConfigurationError
from graftlm.preparation import open_encoder
from graftlm.recipe import Recipe


@dataclass(frozen=True)
class Piece:
    """Tokens of a row that stand together.

    Args:
        text: what they say, special tokens by their names.
        learnt: whether the loss is over them.
        tokens: how many they are.
    """

    text: str
    learnt: bool
    tokens: int


def show_loss(recipe: Recipe, train: Split, rows: int) -> list[list[Piece]]:
    """Return the pieces of each of the first rows of ``train``, in the order in which the model sees them.

    Raises:
        ConfigurationError: the task writes no texts: there the whole loss is over labels.
    """
    task: Any = recipe.task
    if task.decoding is None:
        raise ConfigurationError(
            f"{task.name} learns labels, not tokens of a text",
            where="--show-loss",
            fix="leave --show-loss out",
        )
    _, _, encoder = open_encoder(recipe)
    learnt, split = task.learn(train), train.take(range(min(rows, len(train))))
    features = task.encode(split, encoder)
    targets = task.targets(split, features, learnt)
    tokenizer: Any = encoder.tokenizer

    def pieces(ids: list[int], learnt: list[bool]) -> list[Piece]:
        found: list[Piece] = []
        for flag, group in groupby(zip(ids, learnt, strict=True), key=lambda pair: pair[1]):
            tokens = [token for token, _ in group]
            found.append(Piece(tokenizer.decode(tokens, skip_special_tokens=False), flag, len(tokens)))
        return found

    shown: list[list[Piece]] = []
    for ids, target in zip(features.inputs["input_ids"], targets, strict=True):
        if features.writing.prompts is None:
            wanted = target.tolist()
            shown.append([*pieces(ids, [False] * len(ids)), *pieces(wanted, [True] * len(wanted))])
        else:
            shown.append(pieces(ids, [False, *(target[:-1] != IGNORED).tolist()]))
    return shown
