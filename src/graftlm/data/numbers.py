"""One number for each row."""

from __future__ import annotations

import math

from graftlm.data.places import counted, first_places
from graftlm.data.table import Table
from graftlm.errors import DataError, clip

GREATEST = 1e100
"""Of a number without its sign: squares of numbers, and sums of them, must be numbers too."""


def numbers(table: Table, column: str) -> list[object]:
    """Return the values of a column as floats.

    Raises:
        DataError: a value is missing, no number, not finite, or too great; with counts and the first places.
    """
    values = [_number(value) for value in table.columns[column]]
    wrong = [row for row, value in enumerate(values) if value is None]
    if wrong:
        raise DataError(
            f"the number column {clip(column)} holds no finite number in {counted(len(wrong), 'row')} (for "
            f"instance {clip(table.columns[column][wrong[0]])}); first: "
            f"{first_places([table.place(row) for row in wrong[:5]], len(wrong))}",
            where=table.source,
            fix="write numbers such as 3 or 2.75 (a point, no thousands separators, no units), or remove these rows",
        )
    great = [row for row, value in enumerate(values) if value is not None and abs(value) > GREATEST]
    if great:
        raise DataError(
            f"the number column {clip(column)} goes beyond {GREATEST:g} in {counted(len(great), 'row')} (for instance "
            f"{clip(table.columns[column][great[0]])}), where squared errors overflow; first: "
            f"{first_places([table.place(row) for row in great[:5]], len(great))}",
            where=table.source,
            fix="give the column in a greater unit, or its logarithm, or remove these rows",
        )
    return list(values)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):  # too large a whole number is infinite, as 1e400 is
        return None
    return number if math.isfinite(number) else None
