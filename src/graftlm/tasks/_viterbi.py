"""The most probable sequence of IOB2 tags in which every ``I-`` continues an entity of its type."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from graftlm.data.tag_schemes import OUTSIDE


@lru_cache(maxsize=8)
def allowed_transitions(labels: tuple[str, ...]) -> NDArray[np.bool_]:
    """Return [labels, labels]: whether the second tag may follow the first. Only ``I-X`` is bound: to B-X and I-X."""
    return np.array(
        [[not after.startswith("I-") or before[2:] == after[2:] for after in labels] for before in labels]
    )


def best_tags(scores: NDArray[np.float64], labels: tuple[str, ...]) -> list[int]:
    """Return the positions of the tags of one row: the allowed sequence with the largest sum of scores.

    What begins a row follows ``O``. Of equal sequences, the one whose last differing tag comes first in ``labels``.

    Args:
        scores: log-probabilities [words, labels]; -inf rules a tag out.
        labels: IOB2 tags with ``O`` among them.
    """
    if not len(scores):
        return []
    wall = np.where(allowed_transitions(labels), 0.0, -np.inf)
    total = scores[0] + wall[labels.index(OUTSIDE)]
    came_from: list[NDArray[np.int64]] = []
    for each in scores[1:]:
        reached = total[:, None] + wall
        came_from.append(reached.argmax(axis=0))
        total = reached.max(axis=0) + each
    path = [int(total.argmax())]
    for step in reversed(came_from):
        path.append(int(step[path[-1]]))
    return path[::-1]
