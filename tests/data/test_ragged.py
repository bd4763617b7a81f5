from __future__ import annotations

import numpy as np
import pytest

from graftlm.data.ragged import Ragged, lengths_of


def test_it_reads_as_the_lists_it_was_made_of(seed: int) -> None:
    chance = np.random.default_rng(seed)
    rows = [chance.integers(-100, 2**31, length).tolist() for length in chance.integers(0, 9, 30)]
    ragged = Ragged.joined([Ragged.of(rows[:7]), Ragged.of([]), Ragged.of(rows[7:])])
    assert list(ragged) == rows and len(ragged) == 30
    assert ragged[3] == rows[3] and ragged[-1] == rows[-1] and ragged[4:20:3] == rows[4:20:3]
    assert lengths_of(ragged).tolist() == lengths_of(rows).tolist() == [len(row) for row in rows]
    assert all(type(number) is int for number in ragged[0])
    for outside in (30, -31):
        with pytest.raises(IndexError):
            ragged[outside]


def test_nothing_is_nothing() -> None:
    for empty in (Ragged.of([]), Ragged.joined([])):
        assert len(empty) == 0 and list(empty) == [] and lengths_of(empty).shape == (0,)
