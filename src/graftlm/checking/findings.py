"""Every check of a data set that needs neither tokenizer nor model: pure, linear in the rows, torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graftlm.checking.conversation_checks import check_conversations
from graftlm.checking.duplicate_checks import check_duplicates, check_shared
from graftlm.checking.finding import Finding
from graftlm.checking.label_checks import check_label_sets, check_labels, one_row_per_label, singular
from graftlm.checking.number_checks import check_numbers
from graftlm.checking.swallowed_rows import check_swallowed_rows
from graftlm.checking.text_checks import check_texts
from graftlm.data.assembling import assemble
from graftlm.data.dataset import Dataset
from graftlm.data.loading import read_tables
from graftlm.data.roles import INPUT_KINDS, Role, present
from graftlm.errors import DataError
from graftlm.recipe import Recipe

__all__ = ["Finding", "check_dataset", "examine_rows", "require_clean"]

_SMALL_SPLIT_ROWS = 30
_SEVERITIES = ("error", "warning", "note")


def examine_rows(recipe: Recipe, data: object) -> tuple[Dataset, list[Finding]]:
    """Read and split the rows as a training would, and check them.

    Args:
        recipe: its data section, task and seed matter.
        data: rows in memory; None reads ``recipe.data.path``.

    Raises:
        DataError: when the rows cannot even be read as a table of texts and labels.
    """
    task: Any = recipe.task
    dataset = assemble(read_tables(data, recipe.data), task.roles, recipe.data, recipe.seed)
    return dataset, check_dataset(dataset, task.roles, task.loss_roles)


def check_dataset(dataset: Dataset, roles: Sequence[Role], loss_roles: Sequence[str] = ()) -> list[Finding]:
    """Look at every row of every split.

    Args:
        dataset: the splits, their columns named by role.
        roles: what the columns mean.
        loss_roles: whose messages are learnt, where rows are conversations.

    Returns:
        The findings, errors first; empty where there is nothing to say.
    """
    empty = [
        Finding(
            "error", "empty_split", f"the {name} split has no rows", fix="give rows, or leave this split out"
        )
        for name, split in dataset.splits.items()
        if not len(split)
    ]
    if empty:
        return empty
    roles = present(roles, next(iter(dataset.splits.values())))
    text_roles = [role.name for role in roles if role.kind in INPUT_KINDS]
    answer_roles = [role.name for role in roles if role.kind not in INPUT_KINDS]
    # One text has one right label; several passages may answer one question, and several texts be a translation.
    label_roles = [role.name for role in roles if role.kind not in (*INPUT_KINDS, "answers", "target")]
    written_roles = [role.name for role in roles if role.kind == "target"]
    findings = [
        *check_texts(dataset, [*text_roles, *written_roles]),
        *check_swallowed_rows(dataset, text_roles, label_roles),
        *(finding for role in roles if role.kind == "label" for finding in check_labels(dataset, role.name)),
        *(
            finding
            for role in roles
            if role.kind in ("label_set", "tags", "entities")
            for finding in check_labels(one_row_per_label(dataset, role), singular(role), role.kind)
        ),
        *(
            finding
            for role in roles
            if role.kind == "label_set"
            for finding in check_label_sets(dataset, role.name)
        ),
        *(
            finding
            for role in roles
            if role.kind == "number"
            for finding in check_numbers(dataset, role.name)
        ),
        *(
            finding
            for role in roles
            if role.kind == "messages"
            for finding in check_conversations(dataset, role.name, loss_roles)
        ),
        *(finding for role in roles if role.kind == "answers" for finding in _unanswered(dataset, role.name)),
        *check_duplicates(dataset, text_roles, label_roles, answer_roles),
        *(finding for role in roles if role.shared for finding in check_shared(dataset, role.name)),
        *_small_splits(dataset),
    ]
    return sorted(findings, key=lambda finding: _SEVERITIES.index(finding.severity))


def require_clean(findings: Sequence[Finding]) -> None:
    """Raise one `DataError` that lists every finding of severity ``error``; return where there is none."""
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        lines = [f"\n  - {finding}" for finding in errors]
        problems = "1 problem" if len(errors) == 1 else f"{len(errors)} problems"
        raise DataError(f"the data cannot be trained on as they are ({problems}):{''.join(lines)}")


def _small_splits(dataset: Dataset) -> list[Finding]:
    return [
        Finding(
            "note",
            "small_split",
            f"the {name} split has {len(split)} rows: a single row is {100 / len(split):.1f} % of its score",
            len(split),
        )
        for name, split in dataset.splits.items()
        if name != "train" and len(split) < _SMALL_SPLIT_ROWS
    ]


def _unanswered(dataset: Dataset, role: str) -> list[Finding]:
    train = dataset.splits.get("train")
    if train is None or any(train.columns[role]):
        return []
    message = "no question of train has an answer: there is nothing to learn"
    return [
        Finding("error", "no_answer", message, len(train), train.row_ids[:1], "look at the column of answers")
    ]
