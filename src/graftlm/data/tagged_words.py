"""Columns of words and of their tags -> values that fit together: one tag a word, entities as IOB2."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from graftlm.data.character_spans import holds_spans, tags_of_spans
from graftlm.data.options import DataOptions
from graftlm.data.places import counted, first_places
from graftlm.data.roles import Role
from graftlm.data.table import Table
from graftlm.data.tag_schemes import UNNAMED, Reading, divided, read_scheme
from graftlm.data.words import words_of
from graftlm.errors import DataError, clip

Tags = tuple[str, ...]


def words(table: Table, column: str) -> list[object]:
    """Return a text, or a tuple of words, for each row.

    Raises:
        DataError: a value is neither a string nor a list of words, or a column mixes the two.
    """
    values = table.columns[column]
    wrong = [row for row, value in enumerate(values) if not (isinstance(value, str) or _is_words(value))]
    if wrong:
        raise DataError(
            f"the column {clip(column)} must hold texts, or lists of words none of which is empty, and does not in "
            f"{counted(len(wrong), 'row')}; first: {_first(table, wrong)}",
            where=table.source,
            fix="write words as a list of strings, or the whole text as one string",
        )
    kinds = {isinstance(value, str) for value in values}
    if len(kinds) > 1:
        texts = [row for row, value in enumerate(values) if isinstance(value, str)]
        raise DataError(
            f"the column {clip(column)} mixes texts and lists of words: {counted(len(texts), 'text')}, first "
            f"{_first(table, texts)}",
            where=table.source,
            fix="write all rows in one way",
        )
    return [value if isinstance(value, str) else tuple(cast("list[str]", value)) for value in values]


def tags(
    table: Table, column: str, role: Role, words: Sequence[object], options: DataOptions, said: list[str]
) -> list[object]:
    """Return one tag for each word of each row; those of entities as IOB2.

    Args:
        table: the rows.
        column: lists of tags, or of their numbers where ``options`` name these, or for entities also lists of
            character spans (see `tags_of_spans`).
        role: of kind ``tags`` or ``entities``.
        words: what `words` gave for the same rows.
        options: the ``data`` section of the recipe.
        said: sentences about what was turned, repaired or left out are added here.

    Raises:
        DataError: another type, numbers without names, another number of tags than words, no prefix where entities
            are wanted.
    """
    values = table.columns[column]
    if role.kind == "entities" and holds_spans(values, words):
        return list(tags_of_spans(table, column, words, options.drop_misfit_spans, said))
    known: dict[str, str] = {}  # one object per tag: a million words have a handful
    rows = [
        tuple(known.setdefault(tag, tag) for tag in each) for each in _names(table, column, options.tag_names)
    ]
    _refuse_other_lengths(table, column, rows, words)
    if role.kind == "tags":
        return list(rows)
    _refuse_plain(table, column, known, rows)
    reading = read_scheme(rows)
    said += _sentences(table, column, reading)
    return list(reading.rows)


def _is_words(value: object) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(word, str) and word for word in cast("Sequence[object]", value)
    )


def _names(table: Table, column: str, tag_names: Sequence[str]) -> Iterable[Sequence[str]]:
    values = table.columns[column]
    if any(_is_numbers(value) for value in values):
        return _named(table, column, tag_names)
    wrong = [row for row, value in enumerate(values) if not _is_words(value)]
    if wrong:
        raise DataError(
            f"the column {clip(column)} must hold a list of tag names for each row, and does not in "
            f"{counted(len(wrong), 'row')}, for instance {clip(values[wrong[0]])}; first: {_first(table, wrong)}",
            where=table.source,
            fix='write one name for each word, such as ["O", "B-PER"]',
        )
    return cast("list[Sequence[str]]", values)


def _named(table: Table, column: str, tag_names: Sequence[str]) -> Iterable[Sequence[str]]:
    values = table.columns[column]
    if not tag_names:
        raise DataError(
            f"the column {clip(column)} holds numbers of tags, whose names are not known",
            where=table.source,
            fix="give the names in the order of their numbers, from 0: data.tag_names=[O,B-PER,I-PER]",
        )
    wrong = [
        row
        for row, value in enumerate(values)
        if not isinstance(value, list | tuple)
        or not all(
            type(number) is int and 0 <= number < len(tag_names) for number in cast("Sequence[object]", value)
        )
    ]
    if wrong:
        raise DataError(
            f"the column {clip(column)} must hold a list of numbers from 0 to {len(tag_names) - 1}, each of which "
            f"data.tag_names names, and does not in {counted(len(wrong), 'row')}, for instance "
            f"{clip(values[wrong[0]])}; first: {_first(table, wrong)}",
            where=table.source,
            fix="correct these rows, or name every number in data.tag_names",
        )
    return [[tag_names[number] for number in each] for each in cast("list[Sequence[int]]", values)]


def _is_numbers(value: object) -> bool:
    if not isinstance(value, list | tuple) or not value:
        return False
    return all(type(number) is int for number in cast("Sequence[object]", value))


def _refuse_other_lengths(table: Table, column: str, rows: Sequence[Tags], words: Sequence[object]) -> None:
    lengths = [len(words_of(value)) for value in words]
    wrong = [row for row, each in enumerate(rows) if len(each) != lengths[row]]
    if wrong:
        places = [
            f"{table.place(row)} ({counted(lengths[row], 'word')}, {counted(len(rows[row]), 'tag')})"
            for row in wrong[:5]
        ]
        raise DataError(
            f"{counted(len(wrong), 'row')} of the column {clip(column)} with another number of tags than words: "
            f"{first_places(places, len(wrong))}",
            where=table.source,
            fix="write one tag for each word",
        )


def _refuse_plain(table: Table, column: str, names: Iterable[str], rows: Sequence[Tags]) -> None:
    kinds = {name: divided(name) for name in names}
    # Beside tags with types a prefix alone is a mistake; where all are alone, there is one type without a name.
    typed = any(kind is not None and kind[1] not in ("", UNNAMED) for kind in kinds.values())
    plain = sorted(
        name
        for name, kind in kinds.items()
        if kind is None or (typed and kind[1] == UNNAMED and "-" not in name)
    )
    if plain:
        wrong = [row for row, each in enumerate(rows) if not set(plain).isdisjoint(each)]
        raise DataError(
            f"{counted(len(plain), 'tag')} of the column {clip(column)} marks no entity: "
            f"{', '.join(map(clip, plain[:8]))}; expected O, or a prefix (B, I; E, S, M, L, U) and a type such as "
            f"B-PER; {counted(len(wrong), 'row')}, first: {_first(table, wrong)}",
            where=table.source,
            fix="for tags such as parts of speech set task.name=word_tagging; else name another column: "
            "data.columns.tags=...",
        )


def _sentences(table: Table, column: str, reading: Reading) -> list[str]:
    said = (
        [f"Tags of {table.source} (column {clip(column)}) are {reading.scheme}; they become IOB2."]
        if reading.scheme != "IOB2"
        else []
    )
    if any(f"B-{UNNAMED}" in tags for tags in reading.rows):
        said.append(
            f"Tags of {table.source} (column {clip(column)}) have no type; that of all entities is called {UNNAMED}."
        )
    if reading.misplaced:
        places = [
            f"{table.place(each.row)} (word {each.word + 1}: {clip(each.tag)} after {clip(each.before)})"
            for each in reading.misplaced[:5]
        ]
        said.append(
            f"{table.source}: {counted(len(reading.misplaced), 'tag')} against the scheme {reading.scheme}, read "
            "as conlleval does (what continues no entity begins one): "
            f"{first_places(places, len(reading.misplaced))}."
        )
    return said


def _first(table: Table, rows: Sequence[int]) -> str:
    return first_places([table.place(row) for row in rows[:5]], len(rows))
