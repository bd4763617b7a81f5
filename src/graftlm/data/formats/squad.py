"""Questions about paragraphs as the SQuAD data sets store them: one JSON document; other .json is JSON Lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, cast

from graftlm.data.formats.json_lines import JsonLines
from graftlm.data.options import DataOptions
from graftlm.data.places import counted, first_places
from graftlm.data.reading import read_lines
from graftlm.data.strict_json import Refused, json_kind, refuse_lone_surrogates, strict_decoder
from graftlm.data.table import Table
from graftlm.errors import DataError

# Such a document is often a single line, so no limit for lines holds.
_NO_LIMIT = 1 << 40
_LONGEST_NAME = 80
_HEAD_LINES, _HEAD_CHARACTERS = 50, 10_000
# Scalars such as the version may stand before the articles.
_DOCUMENT = re.compile(r'\s*\{\s*("[^"]*"\s*:\s*("[^"]*"|[\w.+-]+)\s*,\s*)*"data"\s*:\s*\[\s*(\{\s*"|\])')
_EXPECTED = (
    'expected {"data": [{"title": ..., "paragraphs": [{"context": ..., "qas": [{"id": ..., "question": ..., '
    '"answers": [{"text": ..., "answer_start": ...}]}]}]}]}'
)


class Squad:
    """JSON documents of SQuAD 1.1 and 2.0: one row for each question, with the columns ``question``, ``context`` and
    ``answers``, and ``title`` (of the article) where the file has titles.

    Answers that mark an impossible question as plausible are not read. A .json file of another layout is read as
    JSON Lines.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".json",)

    def read(self, path: Path, source: str, options: DataOptions) -> Table:
        """Read the whole file. Raises `DataError` naming article, paragraph and question."""
        head = "".join(islice(read_lines(path, source, options.encoding, _NO_LIMIT), _HEAD_LINES))
        if not _DOCUMENT.match(head[:_HEAD_CHARACTERS]):
            return JsonLines().read(path, source, options)
        text = "".join(read_lines(path, source, options.encoding, _NO_LIMIT))
        try:
            document = strict_decoder().decode(text)
        except json.JSONDecodeError as problem:
            raise DataError(
                f"is not whole JSON: {problem.msg}, line {problem.lineno}, character {problem.colno}",
                where=source,
                fix="copy or write the file again; a file that was cut short ends like this",
            ) from None
        except RecursionError:
            raise DataError("the JSON is nested too deeply", where=source, fix=_EXPECTED) from None
        except Refused as problem:
            raise DataError(problem.what, where=source, fix=problem.fix) from None
        if "\\u" in text:
            refuse_lone_surrogates(document, source)
        return _table(cast("dict[str, object]", document), source)


def _table(document: dict[str, object], source: str) -> Table:
    columns: dict[str, list[object]] = {"question": [], "context": [], "answers": [], "title": []}
    names: list[str] = []
    contradictions: list[str] = []
    for title, context, question, name in _questions(document, source):
        answers, impossible = question.get("answers"), question.get("is_impossible")
        if isinstance(impossible, bool) and "answers" in question and impossible is bool(answers):
            contradictions.append(f"{source}, {name}")
        columns["question"].append(question.get("question"))
        columns["context"].append(context)
        columns["answers"].append([] if impossible and answers is None else answers)
        columns["title"].append(title)
        names.append(name)
    if contradictions:
        raise DataError(
            f"{counted(len(contradictions), 'question')} with an answer and is_impossible true, or with none and "
            f"is_impossible false; first: {first_places(contradictions)}",
            where=source,
            fix="correct answers or is_impossible of these questions",
        )
    if not names:
        raise DataError("holds no question", where=source, fix="give a file with questions")
    if not any(columns["title"]):
        del columns["title"]
    if all(answers is None for answers in columns["answers"]):  # questions to be answered
        del columns["answers"]
    return Table(source, columns, None, typed=True, names=names)


def _questions(
    document: dict[str, object], source: str
) -> Iterator[tuple[object, object, dict[str, Any], str]]:
    """Yield title, context, question and the name of each question."""
    for article_at, article in _objects(document, "data", "the document", source):
        where = f"article {article_at}"
        for paragraph_at, paragraph in _objects(article, "paragraphs", where, source):
            place = f"paragraph {paragraph_at} of {where}"
            for at, question in _objects(paragraph, "qas", place, source):
                identity = question.get("id")
                known = isinstance(identity, str | int) and not isinstance(identity, bool)
                name = f"question {str(identity)[:_LONGEST_NAME]}" if known else f"question {at} of {place}"
                yield article.get("title", ""), paragraph.get("context"), question, name


def _objects(
    parent: dict[str, Any], key: str, place: str, source: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    values = parent.get(key)
    if not isinstance(values, list):
        found = f"{key} is {json_kind(values)}" if key in parent else f"no {key}"
        raise DataError(f"{place} has no list of {key} ({found}); {_EXPECTED}", where=source)
    for number, value in enumerate(cast("list[object]", values), 1):
        if not isinstance(value, dict):
            raise DataError(
                f"entry {number} of {key} in {place} is {json_kind(value)}; {_EXPECTED}", where=source
            )
        yield number, cast("dict[str, Any]", value)
