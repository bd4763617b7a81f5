"""Conversations: there is something to learn, a reply at the end of each, and speakers are called as one calls them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import cast

from graftlm.checking.finding import PLACES, Finding
from graftlm.data.dataset import Dataset, Split
from graftlm.data.messages import REPLY_ROLE, Conversation, speakers, unanswered, unheard
from graftlm.data.places import counted
from graftlm.errors import clip

# Whom chat templates know. A role near one of them, and itself none, is a slip of the pen rather than a character.
_USUAL = (REPLY_ROLE, "user", "system", "developer", "tool", "function")
_NEAR = 0.75
_LISTED = 20


def check_conversations(dataset: Dataset, role: str, learnt: Sequence[str]) -> list[Finding]:
    """Check one column of conversations over all splits.

    Args:
        dataset: with conversations as `graftlm.data.messages` reads them.
        role: the column.
        learnt: the speakers whose messages are learnt.
    """
    findings: list[Finding] = []
    for split in dataset.splits.values():
        talks = cast("list[Conversation]", split.columns[role])
        if split.name == "train":
            if problem := unheard(talks, split.name, learnt):
                findings.append(Finding("error", "unheard_role", problem.what, fix=problem.fix))
            findings.append(_counts(talks))
        if problem := unanswered(talks, split.name):
            places = [split.row_ids[row] for row in problem.rows[:PLACES]]
            findings.append(
                Finding("error", "no_reply", problem.what, len(problem.rows), places, problem.fix)
            )
        findings += _misspelt(split, talks, learnt)
    return findings


def _counts(talks: Sequence[Conversation]) -> Finding:
    ordered = speakers(talks).most_common()
    listed = ", ".join(f"{name} {count:,}" for name, count in ordered[:_LISTED])
    more = f" and {len(ordered) - _LISTED} more" if len(ordered) > _LISTED else ""
    return Finding("note", "roles", f"messages of train by role: {listed}{more}", len(ordered))


def _misspelt(split: Split, talks: Sequence[Conversation], learnt: Sequence[str]) -> list[Finding]:
    known = sorted({*_USUAL, *learnt})
    found: list[Finding] = []
    for name in sorted(set(speakers(talks)) - set(known)):
        near = difflib.get_close_matches(name, known, n=1, cutoff=_NEAR)
        if not near:
            continue
        rows = [row for row, talk in enumerate(talks) if any(message.role == name for message in talk)]
        message = (
            f"{split.name}: {counted(len(rows), 'row')} with messages of the role {clip(name)}, which are not learnt; "
            f"did you mean {near[0]!r}?"
        )
        places = [split.row_ids[row] for row in rows[:PLACES]]
        fix = "correct the name, or add it to task.loss_roles if it is another speaker to be learnt"
        found.append(Finding("warning", "misspelt_role", message, len(rows), places, fix))
    return found
