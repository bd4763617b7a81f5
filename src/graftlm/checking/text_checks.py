"""Texts that hold nothing, or characters that are none."""

from __future__ import annotations

import re
from collections.abc import Sequence

from graftlm.checking.finding import PLACES, Finding
from graftlm.data.dataset import Dataset, Split
from graftlm.data.places import counted
from graftlm.data.words import as_text

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# C0 and C1 controls without tab, LF, VT, FF, CR and NEL, which are white space.
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")
_REPLACEMENT = "\ufffd"


def check_texts(dataset: Dataset, text_roles: Sequence[str]) -> list[Finding]:
    """Find empty texts and lone surrogates (errors), control and replacement characters (warnings)."""
    return [
        finding
        for split in dataset.splits.values()
        for role in text_roles
        for finding in _check_column(split, role)
    ]


def _check_column(split: Split, role: str) -> list[Finding]:
    rows: dict[str, list[int]] = {"empty": [], "surrogate": [], "control": [], "replacement": []}
    for row, value in enumerate(split.columns[role]):
        text = as_text(value)
        if not text or text.isspace():
            rows["empty"].append(row)
        # One quick test clears nearly every text: a printable one has neither controls nor surrogates.
        elif not text.isprintable():
            if _LONE_SURROGATE.search(text):
                rows["surrogate"].append(row)
            if _CONTROL.search(text):
                rows["control"].append(row)
        if _REPLACEMENT in text:
            rows["replacement"].append(row)

    def finding(severity: str, kind: str, key: str, message: str, fix: str) -> list[Finding]:
        found = rows[key]
        if not found:
            return []
        places = [split.row_ids[row] for row in found[:PLACES]]
        text = f"{split.name}: {counted(len(found), 'row')} with {message}"
        return [Finding("error" if severity == "error" else "warning", kind, text, len(found), places, fix)]

    return [
        *finding(
            "error",
            "empty_text",
            "empty",
            f"no {role}" if role.endswith("s") else f"an empty {role}",
            "give these rows a text, or set data.drop_empty_text=true to leave them out",
        ),
        *finding(
            "error",
            "lone_surrogate",
            "surrogate",
            f"half of a surrogate pair in the {role}, which is no character",
            "repair the texts; they were probably cut inside an emoji",
        ),
        *finding(
            "warning",
            "control_characters",
            "control",
            f"control characters (such as NUL) in the {role}; most tokenizers drop them",
            "remove them if they mean nothing",
        ),
        *finding(
            "warning",
            "replacement_characters",
            "replacement",
            f"the replacement character U+FFFD in the {role}: these texts were once decoded wrongly",
            "export the texts again from where they are whole",
        ),
    ]
