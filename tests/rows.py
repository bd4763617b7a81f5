"""Small labelled data sets that a tiny random model can learn, as rows and as files."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graftlm.data.dataset import Split

LABELS = ("anger", "joy", "travel", "weather")
_FILLER = "the a this my is was of to and or with for on at by about very too also always".split()  # noqa: SIM905
_TELLING = (
    "terrible awful worst hate broken wrong".split(),  # noqa: SIM905
    "lovely great best love nice fine".split(),  # noqa: SIM905
    "train bus car ticket road city".split(),  # noqa: SIM905
    "blue green red water night day".split(),  # noqa: SIM905
)


def classified_rows(count: int, labels: Sequence[str] = LABELS, seed: int = 0) -> list[dict[str, str]]:
    """Return ``count`` different rows with ``text`` and ``label``; three words of each text tell the label."""
    if len(labels) > len(_TELLING):
        raise ValueError(f"at most {len(_TELLING)} labels")
    source = random.Random(seed)
    rows: dict[str, dict[str, str]] = {}
    while len(rows) < count:
        kind = len(rows) % len(labels)
        words = source.choices(_FILLER, k=source.randint(2, 12)) + source.sample(_TELLING[kind], 3)
        source.shuffle(words)
        text = " ".join(words)
        if text not in rows:
            rows[text] = {"text": text, "label": labels[kind]}
    return list(rows.values())


def write_csv(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    """Write rows as CSV and return the path."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def first_baseline(task: Any, train: Split, split: Split, learnt: Any) -> Any:
    """The predictions of the baseline that a task is to beat."""
    return next(iter(task.baselines(train, split, learnt).values()))
