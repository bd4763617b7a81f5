"""A hook of the site: puts lists made from the code in the place of marks.

``<!-- options -->`` becomes the recipe keys, ``<!-- pretraining options -->`` those of a pretraining, ``<!-- trainer
arguments -->`` what becomes of those of `graftlm.Trainer`.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from graftlm.bridges.arguments import HARMLESS, HONOURED, OPTIMIZERS, REFUSED, SCHEDULES_BY_METRIC
from graftlm.composition import Composition
from graftlm.config import Config
from graftlm.pretraining_recipe import PRETRAINING
from graftlm.recipe import FINE_TUNING

MARKS: dict[str, Composition[Any]] = {
    "<!-- options -->": FINE_TUNING,
    "<!-- pretraining options -->": PRETRAINING,
}
ARGUMENTS_MARK = "<!-- trainer arguments -->"
_NUMBERS = (
    ("exclusiveMinimum", "above"), ("minimum", "at least"), ("exclusiveMaximum", "below"), ("maximum", "at most"),
)  # fmt: skip


def on_page_markdown(markdown: str, **context: Any) -> str:
    """Fill a page before it is rendered; called by mkdocs for every page."""
    if ARGUMENTS_MARK in markdown:
        return markdown.replace(ARGUMENTS_MARK, arguments_as_markdown())
    for mark, kind in MARKS.items():
        if mark in markdown:
            return markdown.replace(mark, options_as_markdown(kind))
    return markdown


def arguments_as_markdown() -> str:
    """Return a table of every field of `TrainingArguments` that is honoured, harmless or refused."""
    some = {
        "optim": f"honoured where it is {' or '.join(f'`{each}`' for each in OPTIMIZERS)}",
        "lr_scheduler_type": f"honoured, but for {' and '.join(f'`{each}`' for each in SCHEDULES_BY_METRIC)}",
    }
    rows = [
        *((name, some.get(name, "honoured")) for name in HONOURED),
        *((name, f"changes nothing: {why}") for name, why in HARMLESS.items()),
        *((name, f"refused: {instead}") for name, instead in REFUSED.items()),
    ]
    return "\n".join(
        ["| field | here |", "|---|---|", *(f"| `{name}` | {_cell(said)} |" for name, said in rows)]
    )


def options_as_markdown(composition: Composition[Any]) -> str:
    """Return one table per section of a kind of recipe, and one per member of each catalog."""
    tables: list[str] = []
    for name, info in composition.kind.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, Config):
            tables.append(_table(name, inner, f"{name}."))
    for section, catalog in composition.sections.items():
        for name in catalog.names():
            standard = ", the default" if composition.defaults[section] == name else ""
            tables.append(_table(f"{section}: {name}{standard}", catalog.get(name), f"{section}."))
    return "\n\n".join([_table("At the top", composition.kind, ""), *tables])


def _table(title: str, options: type[BaseModel], prefix: str) -> str:
    schema = options.model_json_schema()
    rows = [
        f"| `{prefix}{key}` | {_words(entry)} | {_default(entry)} | {_cell(entry.get('description', ''))} |"
        for key, entry in schema["properties"].items()
        if "$ref" not in entry and not (prefix == "" and options.model_fields[key].annotation is BaseModel)
    ]
    about = " ".join((options.__doc__ or "").replace("``", "`").split())
    return "\n".join(
        [f"## {title}", "", about, "", "| key | value | default | meaning |", "|---|---|---|---|", *rows]
    )


def _words(entry: dict[str, Any]) -> str:
    """Return what a value may be, in words."""
    if "anyOf" in entry:
        return " or ".join(_words(one) for one in entry["anyOf"])
    if "const" in entry:
        return f"`{entry['const']}`"
    if "enum" in entry:
        return ", ".join(f"`{value}`" for value in entry["enum"])
    kind = entry.get("type")
    if kind == "null":
        return "`null`"
    if kind == "object":
        return f"mapping of names to {_words(entry.get('additionalProperties', {}))}"
    bounds = " and ".join(f"{word} {entry[key]:g}" for key, word in _NUMBERS if key in entry)
    word = {
        "integer": "whole number",
        "number": "number",
        "boolean": "`true`, `false`",
        "string": "text",
        "array": "list",
    }.get(kind, "value")
    return f"{word} {bounds}".strip()


def _default(entry: dict[str, Any]) -> str:
    if "default" not in entry:
        return "empty"
    value = entry["default"]
    return (
        "`null`"
        if value is None
        else "empty"
        if value == ""
        else f"`{str(value).lower() if isinstance(value, bool) else _written(value)}`"
    )


def _written(value: Any) -> str:
    """Return a value in one line: a line break as it is written in a recipe."""
    return json.dumps(value) if isinstance(value, str) and not value.isprintable() else str(value)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("None:", "`null`:")
