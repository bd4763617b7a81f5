from __future__ import annotations

import pytest

from graftlm import errors
from graftlm.errors import GraftError, Interrupted, clip, nearest


def test_place_and_remedy_are_in_the_message() -> None:
    error = GraftError("the column is missing", where="a.csv:1", fix="add it")
    assert str(error) == "a.csv:1: the column is missing\n  What to do: add it"
    assert str(GraftError("bare")) == "bare"


@pytest.mark.parametrize(
    ("name", "code"),
    {
        "ConfigurationError": 2, "DataError": 2, "ModelError": 2, "RunError": 2, "MissingResource": 3, "Diverged": 4,
        "ProofFailed": 4,
    }.items(),
)  # fmt: skip
def test_exit_codes(name: str, code: int) -> None:
    assert getattr(errors, name).exit_code == code


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143)])
def test_interruption_tells_the_signal(number: int, code: int) -> None:
    assert Interrupted("stopped", signal_number=number).exit_code == code


def test_nearest_ignores_case_and_stays_silent_without_a_match() -> None:
    assert nearest("Reviw", ["review", "label"]) == " Did you mean 'review'?"
    assert nearest("zzz", ["review", "label"]) == ""
    assert nearest("text", []) == ""


def test_clip_cuts_and_escapes() -> None:
    assert clip("a\x1b[31mb\n") == r"'a\x1b[31mb\n'"
    assert len(clip("x" * 500)) == 60
    assert clip("x" * 500).endswith("…")
