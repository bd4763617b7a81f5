"""``graft new``: a complete recipe with a comment on every key; ``graft options``: the same as help."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from graftlm.catalog import Catalog
from graftlm.composition import Composition, options
from graftlm.config import Config
from graftlm.data.assembling import with_joined_labels
from graftlm.data.columns import assign_roles
from graftlm.data.table import Tables
from graftlm.pretraining_recipe import PretrainingRecipe
from graftlm.recipe import FINE_TUNING, Recipe
from graftlm.settings import dump_yaml


def new_recipe(recipe: Recipe, tables: Tables | None = None) -> str:
    """Return the recipe as commented YAML; columns that can be inferred from its data are written out."""
    if tables is not None and not recipe.data.columns:
        task: Any = recipe.task
        tables = with_joined_labels(tables, task.roles, recipe.data)
        reserved = {recipe.data.split_column, recipe.data.group_column} - {None}
        first = tables.splits.get("train") or next(iter(tables.splits.values()))
        found = assign_roles(first, task.roles, {}, reserved, tables.known_columns)  # pyright: ignore[reportArgumentType]
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"columns": found.columns})})
    return commented(recipe)


def commented(recipe: Recipe | PretrainingRecipe) -> str:
    """Return a recipe as YAML with the help of each key above it."""
    heading = "# A complete GraftLM recipe: every default is written out."
    return "\n".join([heading, *_section(recipe, recipe.dump(), "")]) + "\n"


def _section(model: BaseModel, values: dict[str, Any], indent: str) -> list[str]:
    lines: list[str] = []
    if "name" in values and "name" not in type(model).model_fields:
        lines.append(f"{indent}name: {values['name']}")
    for key, info in type(model).model_fields.items():
        inner = getattr(model, key)
        if isinstance(inner, Config):
            lines += [*(["", f"{indent}{key}:"]), *_section(inner, values[key], indent + "  ")]
        else:
            text = dump_yaml({key: values[key]}, default_flow_style=True, width=float("inf"))
            lines.append(f"{indent}# {one_line(info)}")
            lines.append(indent + text.strip()[1:-1])
    return lines


def option_lines(
    prefix: str = "", composition: Composition[Any] = FINE_TUNING
) -> list[tuple[str, str, str, str]]:
    """Return (key, type, default, help) of every option of a kind of recipe whose key starts with ``prefix``.

    Options of plug-ins are there when the prefix asks for them: ``strategy``, ``strategy.full`` or
    ``strategy.layer_decay``. Without, they are left out, so that nothing heavy is imported.
    """
    rows = [
        _row(key, info, text) for key, info, text in options(composition.kind, "") if key.startswith(prefix)
    ]
    for section, catalog in composition.sections.items():
        key, names = f"{section}.name", catalog.names()
        if key.startswith(prefix):
            known = f"Known: {', '.join(names)}; `{composition.listing} {section}` lists the keys of each."
            rows.append((key, "one of the names", composition.defaults[section], known))
        if prefix and (section.startswith(prefix) or prefix.startswith(f"{section}.")):
            rows += _member_rows(section, catalog, prefix)
    return rows


def _member_rows(section: str, catalog: Catalog, prefix: str) -> list[tuple[str, str, str, str]]:
    """Return a row for each option of a section's members; one that several members have alike names them all."""
    members: dict[tuple[str, str, str, str], list[str]] = {}
    for name in catalog.names():
        for leaf, info, text in options(catalog.get(name), ""):
            if f"{section}.{leaf}".startswith(prefix) or f"{section}.{name}.{leaf}".startswith(prefix):
                members.setdefault(_row(f"{section}.{leaf}", info, text), []).append(name)
    # Rows that differ in their text only stand together, where the first of them is.
    firsts = {row[:3]: at for at, row in reversed(list(enumerate(members)))}
    return [
        (*row[:3], f"({', '.join(members[row])}) {row[3]}")
        for row in sorted(members, key=lambda row: firsts[row[:3]])
    ]


def one_line(info: FieldInfo) -> str:
    """Return the help of an option on one line, in the words of YAML."""
    return " ".join((info.description or "").split()).replace("None:", "null:")


def _row(key: str, info: FieldInfo, text: str) -> tuple[str, str, str, str]:
    default = "required" if info.is_required() else _in_yaml(info.get_default(call_default_factory=True))
    return key, _kind(info.annotation), default, text


def _in_yaml(value: Any) -> str:
    return dump_yaml({"": value}, default_flow_style=True).strip()[1:-1].split(": ", 1)[1]


def _kind(annotation: Any) -> str:
    """Return a type in the words of YAML: ``float or null``, ``auto or fp32``, ``mapping of str to float``."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(inner[0])
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin in (Union, UnionType):
        return " or ".join(_kind(one) for one in inner)
    if origin is dict:
        return f"mapping of {_kind(inner[0])} to {_kind(inner[1])}"
    return "null" if annotation is NoneType else annotation.__name__
