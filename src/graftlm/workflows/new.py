"""``graft new``: a complete recipe with a comment on every key; ``graft options``: the same as help."""

from __future__ import annotations

import re
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from graftlm.config import Config
from graftlm.data.columns import assign_roles
from graftlm.data.loading import read_tables
from graftlm.recipe import PLUG_IN_SECTIONS, Recipe, options


def new_recipe(recipe: Recipe) -> str:
    """Return the recipe as commented YAML; columns that can be inferred from its data are written out."""
    if recipe.data.path and not recipe.data.columns:
        task: Any = recipe.task
        tables = read_tables(None, recipe.data)
        reserved = {recipe.data.split_column, recipe.data.group_column} - {None}
        first = tables.splits.get("train") or next(iter(tables.splits.values()))
        found = assign_roles(first, task.roles, {}, reserved)  # pyright: ignore[reportArgumentType]
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"columns": found.columns})})
    return (
        "\n".join(
            [
                "# A complete GraftLM recipe: every default is written out.",
                *_section(recipe, recipe.dump(), ""),
            ]
        )
        + "\n"
    )


def _section(model: BaseModel, values: dict[str, Any], indent: str) -> list[str]:
    lines: list[str] = []
    if "name" in values and "name" not in type(model).model_fields:
        lines.append(f"{indent}name: {values['name']}")
    for key, info in type(model).model_fields.items():
        inner = getattr(model, key)
        if isinstance(inner, Config):
            lines += [*(["", f"{indent}{key}:"]), *_section(inner, values[key], indent + "  ")]
        else:
            text = yaml.safe_dump(
                {key: values[key]}, allow_unicode=True, default_flow_style=True, width=10_000
            )
            lines.append(f"{indent}# {one_line(info)}")
            lines.append(indent + text.strip()[1:-1])
    return lines


def option_lines(prefix: str = "") -> list[tuple[str, str, str, str]]:
    """Return (key, type, default, help) of every option whose key starts with ``prefix``.

    Without a plug-in's prefix (``strategy.full``) its options are left out, so that nothing heavy is imported.
    """
    rows = [_row(key, info, text) for key, info, text in options(Recipe, "")]
    for section, catalog in PLUG_IN_SECTIONS.items():
        names = catalog.names()
        rows.append(
            (f"{section}.name", "one of the names", _default(section, names), f"Known: {', '.join(names)}.")
        )
        for name in names:
            if prefix and f"{section}.{name}".startswith(prefix):
                rows += [
                    _row(f"{section}.{key}", info, f"({name}) {text}")
                    for key, info, text in options(catalog.get(name), "")
                ]
    section, _, member = prefix.partition(".")
    shown = section if member and section in PLUG_IN_SECTIONS else prefix
    return [row for row in rows if row[0].startswith(shown)]


def one_line(info: FieldInfo) -> str:
    """Return the help of an option on one line."""
    return " ".join((info.description or "").split())


def _default(section: str, names: list[str]) -> str:
    return {"task": "text_classification", "objective": "cross_entropy", "strategy": "full"}.get(
        section, names[0]
    )


def _row(key: str, info: FieldInfo, text: str) -> tuple[str, str, str, str]:
    kind = re.sub(
        r"typing\.|Annotated\[|, FieldInfo.*|<class '|'>|annotated_types\.", "", str(info.annotation)
    )
    default = (
        "required"
        if info.is_required()
        else yaml.safe_dump(info.default, default_flow_style=True).split("\n")[0]
    )
    return key, kind, default, text
