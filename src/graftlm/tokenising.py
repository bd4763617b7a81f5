"""Rows -> token ids, in portions, with a rate and the time left where that takes long."""

from __future__ import annotations

import time
from collections.abc import Callable

from graftlm.data.dataset import Split
from graftlm.data.features import Features
from graftlm.models.encoder import TextEncoder
from graftlm.progress import Progress
from graftlm.tasks._task import Task

# Rows tokenised at a time: enough for every core, few enough to be held as Python objects.
PORTION_ROWS = 2048
# Tokenising that takes longer shows how far it is.
WATCHED_SECONDS = 1.0


class Watched:
    """Tells how many rows are tokenised, once that takes long enough to be watched.

    Args:
        progress: who listens.
        total: rows in all.
    """

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total, self.done, self.began = progress, total, 0, time.perf_counter()

    def add(self, rows: int) -> None:
        """So many more are done."""
        self.done += rows
        seconds = time.perf_counter() - self.began
        if seconds > WATCHED_SECONDS:
            self.progress.advance(self.done, self.total, rows_per_second=self.done / seconds)


def encoded(task: Task, split: Split, encoder: TextEncoder, on_rows: Callable[[int], None]) -> Features:
    """Return the features of a split, in order of its rows.

    Rows are tokenised in portions, on all cores where the tokenizer can (``TOKENIZERS_PARALLELISM``), so that what a
    tokenizer says beside the ids is never held for more than a portion.

    Args:
        task: says what is tokenised.
        split: any number of rows; the features of each must depend on that row alone.
        encoder: of the base model.
        on_rows: is told the number of rows of each portion when it is done.
    """
    parts, sizes = list[Features](), list[int]()
    for start in range(0, len(split), PORTION_ROWS) or (0,):
        portion = split.take(range(start, min(start + PORTION_ROWS, len(split))))
        # As one array at once: lists of integers take several times the memory.
        parts.append(Features.joined([task.encode(portion, encoder)], [len(portion)]))
        sizes.append(len(portion))
        on_rows(len(portion))
    return Features.joined(parts, sizes)
