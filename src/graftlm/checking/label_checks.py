"""Labels: known from train, more than one, not spelled in two ways, not too rare; and how they are spread."""

from __future__ import annotations

from collections import Counter
from typing import cast

from graftlm.checking.finding import PLACES, Finding
from graftlm.checking.label_names import check_label_names, first_rows
from graftlm.data.dataset import Dataset, Split
from graftlm.data.normalising import normalised
from graftlm.data.places import counted
from graftlm.data.roles import Role
from graftlm.data.row_labels import row_labels
from graftlm.errors import clip, nearest

_RARE_ROWS = 5
_IMBALANCE = 10
_LISTED = 20


def check_labels(dataset: Dataset, role: str, kind: str = "label") -> list[Finding]:
    """Check one label column over all splits; the labels of train are the known ones.

    Args:
        dataset: with one label in each row (see `one_row_per_label`).
        role: the column.
        kind: of the role; entities may all be of one type, since most words are none.
    """
    train = dataset.splits.get("train")
    if train is None:
        return []
    counts = Counter(map(str, train.columns[role]))
    others = [split for name, split in dataset.splits.items() if name != "train"]
    exclusive = kind == "label"
    return [
        *_one_class(train, counts, role, fewest=1 if kind == "entities" else 2),
        *_lone_surrogates(counts, role),
        *(finding for split in others for finding in _unseen(split, counts, role)),
        *_similar(train, counts, role),
        *(check_label_names(train, counts, role, exclusive) if kind in ("label", "label_set") else ()),
        *_rare(train, counts, role),
        *_spread(counts, role, exclusive),
        *(finding for split in others for finding in _unmeasured(split, counts, role)),
    ]


def check_label_sets(dataset: Dataset, role: str) -> list[Finding]:
    """Check sets of labels as sets: a label of every row of train tells no row from another."""
    train = dataset.splits.get("train")
    if train is None or len(train) < 2:
        return []
    sets = cast("list[tuple[str, ...]]", train.columns[role])
    always = sorted(set(sets[0]).intersection(*sets[1:]))
    if not always:
        return []
    message = f"{counted(len(always), 'label')} on every row of train, so that there is nothing to tell: "
    fix = "look at how the labels are written; one that every row has can be left out"
    return [
        Finding(
            "warning", "label_on_every_row", message + _names(always), len(always), train.row_ids[:1], fix
        )
    ]


def singular(role: Role) -> str:
    """Return the name of a role for one of its names: label for labels."""
    return role.name.removesuffix("s")


def one_row_per_label(dataset: Dataset, role: Role) -> Dataset:
    """Return the data with a row for each name of a row, as column `singular`, to be checked like labels."""
    splits: dict[str, Split] = {}
    for name, split in dataset.splits.items():
        sets = row_labels(split.columns[role.name], role)
        pairs = [(label, row) for labels, row in zip(sets, split.row_ids, strict=True) for label in labels]
        column: list[object] = [label for label, _ in pairs]
        splits[name] = Split(name, {singular(role): column}, [row for _, row in pairs])
    return Dataset(splits, dataset.origin)


def _one_class(train: Split, counts: Counter[str], role: str, fewest: int) -> list[Finding]:
    if len(counts) >= fewest:
        return []
    if not counts:
        return [Finding("error", "no_label", f"no row of train has any {role}", fix="look at the column")]
    message = f"train holds only one {role}, {clip(next(iter(counts)))}; there is nothing to tell apart"
    fix = "give rows of at least two classes, or name another column (data.columns)"
    return [Finding("error", "one_class", message, len(train), train.row_ids[:1], fix)]


def _lone_surrogates(counts: Counter[str], role: str) -> list[Finding]:
    broken = [name for name in counts if any("\ud800" <= character <= "\udfff" for character in name)]
    if not broken:
        return []
    message = f"{counted(len(broken), f'{role} name')} with half of a surrogate pair: {_names(broken)}"
    return [Finding("error", "lone_surrogate", message, len(broken), fix="rename these labels")]


def _unseen(split: Split, known: Counter[str], role: str) -> list[Finding]:
    labels = list(map(str, split.columns[role]))
    unseen = {name: count for name, count in Counter(labels).items() if name not in known}
    if not unseen:
        return []
    listed = ", ".join(
        f"{clip(name)} ({count:,}){nearest(name, known).rstrip('?').replace(' Did you mean', ', near')}"
        for name, count in list(unseen.items())[:PLACES]
    )
    places = [split.row_ids[row] for row, name in enumerate(labels) if name in unseen][:PLACES]
    return [
        Finding(
            "error",
            "unseen_label",
            f"{split.name}: {counted(sum(unseen.values()), 'row')} with {counted(len(unseen), role)} that "
            f"train never has: {listed}; known: {_names(sorted(known))}",
            sum(unseen.values()),
            places,
            "rename the labels as in train, add such rows to train, or remove these rows",
        )
    ]


def _similar(train: Split, counts: Counter[str], role: str) -> list[Finding]:
    spellings: dict[str, list[str]] = {}
    for name in counts:
        spellings.setdefault(normalised(name), []).append(name)
    double = [names for names in spellings.values() if len(names) > 1]
    if not double:
        return []
    listed = "; ".join(
        " / ".join(f"{clip(name)} ({counts[name]:,})" for name in names) for names in double[:PLACES]
    )
    rows = first_rows(train, role, (names[-1] for names in double))
    return [
        Finding(
            "warning",
            "similar_labels",
            f"{counted(len(double), role)} in several spellings that differ only by case or space, "
            f"each counted as a class of its own: {listed}",
            len(double),
            rows,
            "write each label in one way",
        )
    ]


def _rare(train: Split, counts: Counter[str], role: str) -> list[Finding]:
    rare = [name for name, count in counts.items() if count < _RARE_ROWS]
    if not rare:
        return []
    listed = ", ".join(f"{clip(name)} ({counts[name]})" for name in rare[:_LISTED])
    more = f" and {len(rare) - _LISTED} more" if len(rare) > _LISTED else ""
    return [
        Finding(
            "warning",
            "rare_label",
            f"{counted(len(rare), role)} with fewer than {_RARE_ROWS} training rows: {listed}{more}",
            len(rare),
            first_rows(train, role, rare),
            "collect more rows of them, or merge them with a neighbour",
        )
    ]


def _spread(counts: Counter[str], role: str, exclusive: bool) -> list[Finding]:
    total = counts.total()
    if not counts:
        return []
    ordered = counts.most_common()
    listed = ", ".join(f"{clip(name)} {count:,}" for name, count in ordered[:_LISTED])
    more = f" and {len(ordered) - _LISTED} more" if len(ordered) > _LISTED else ""
    (largest, most), (smallest, least) = ordered[0], ordered[-1]
    notes = [
        Finding("note", "label_counts", f"train: {counted(len(counts), role)}: {listed}{more}", len(counts))
    ]
    if exclusive and most >= _IMBALANCE * least:
        message = (
            f"train is imbalanced: {clip(largest)} has {most / least:.0f} times as many rows as "
            f"{clip(smallest)}; answering {clip(largest)} is right in {100 * most / total:.1f} % of rows"
        )
        notes.append(Finding("note", "imbalance", message, most, fix="read macro F1 beside accuracy"))
    return notes


def _unmeasured(split: Split, known: Counter[str], role: str) -> list[Finding]:
    absent = sorted(set(known) - set(map(str, split.columns[role])))
    if not absent:
        return []
    message = f"{split.name}: without {counted(len(absent), role)} of train, for which nothing is measured"
    return [Finding("note", "unmeasured_label", f"{message}: {_names(absent)}", len(absent))]


def _names(names: list[str]) -> str:
    shown = ", ".join(map(clip, names[:_LISTED]))
    return f"{shown} and {len(names) - _LISTED} more" if len(names) > _LISTED else shown
