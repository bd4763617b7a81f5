"""A YAML file and ``key=value`` overrides become one nested dictionary, with the line of every key.

YAML is read with the scalar rules of YAML 1.2 where 1.1 surprises people: ``2e-5`` is a number, ``no``, ``yes``,
``on`` and ``off`` are words, a date is text. Duplicate keys are errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from graftlm.errors import ConfigurationError, clip, nearest

KeyPath = tuple[str, ...]

# The words people bring from other trainers, and ours for the same thing.
FOREIGN_KEYS: Mapping[str, str] = {
    "num_train_epochs": "training.epochs",
    "max_steps": "training.epochs",
    "per_device_train_batch_size": "training.micro_batch",
    "per_device_eval_batch_size": "evaluation.batch_size",
    "train_batch_size": "training.batch_size",
    "gradient_accumulation_steps": "training.batch_size together with training.micro_batch",
    "lr": "training.learning_rate",
    "warmup_ratio": "training.warmup_share",
    "warmup_steps": "training.warmup_share",
    "max_grad_norm": "training.max_gradient_norm",
    "lr_scheduler_type": "training.schedule",
    "early_stopping_patience": "training.patience_evaluations",
    "save_steps": "training.checkpoint_steps",
    "load_best_model_at_end": "training.keep",
    "label_smoothing_factor": "objective.label_smoothing",
    "max_length": "task.max_length_tokens",
    "max_seq_length": "task.max_length_tokens",
    "metric_for_best_model": "task.primary_metric",
    "model_name_or_path": "base",
    "model": "base",
    "train_file": "data.path",
    "validation_file": "data.validation",
    "test_file": "data.test",
    "output_dir": "the option --run-dir",
    "fp16": "training.precision",
    "bf16": "training.precision",
    "use_cpu": "training.device",
}


class _Loader(yaml.SafeLoader):
    """SafeLoader with the YAML 1.2 core scalar rules for null, booleans and numbers."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:(?:0|[1-9][0-9_]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan",
        list("-+0123456789."),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


@dataclass
class Settings:
    """Nested plain values and where each key was written.

    Args:
        values: the nested dictionary.
        places: key path -> ``file:line`` or ``override``.
    """

    values: dict[str, Any] = field(default_factory=dict[str, Any])
    places: dict[KeyPath, str] = field(default_factory=dict[KeyPath, str])

    def where(self, path: Sequence[str]) -> str:
        """Return the place of the longest known prefix of ``path``, or an empty string."""
        keys = tuple(path)
        while keys and keys not in self.places:
            keys = keys[:-1]
        return self.places.get(keys, "")


def read_yaml(file: Path) -> Settings:
    """Read a YAML mapping; syntax errors, duplicate keys and other surprises carry file and line."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        siblings = [path.name for path in file.parent.glob("*.y*ml")] if file.parent.is_dir() else []
        raise ConfigurationError(f"there is no recipe {str(file)!r}.{nearest(file.name, siblings)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the recipe cannot be read: {error}", where=str(file)) from None
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{file}:{mark.line + 1}" if mark else str(file)
        reason = getattr(error, "problem", None) or str(error)
        raise ConfigurationError(f"this is not valid YAML: {reason}", where=place) from None
    settings = Settings()
    if node is None:
        return settings
    if not isinstance(node, yaml.MappingNode):
        raise ConfigurationError("a recipe is a mapping of keys to values", where=f"{file}:1")
    settings.values = _mapping(node, (), file, settings.places)
    return settings


def parse_override(word: str) -> tuple[KeyPath, Any]:
    """Split ``training.learning_rate=2e-5`` into its key path and its YAML value."""
    key, equals, text = word.partition("=")
    if not equals or not key.strip():
        raise ConfigurationError(
            f"{clip(word)} is not an override", fix="write key=value, for instance training.epochs=3"
        )
    value: Any = text
    if text[:1] in ("[", "{", '"', "'"):
        try:
            value = yaml.load(text, Loader=_Loader)
        except yaml.YAMLError as error:
            raise ConfigurationError(
                f"the value of {key} is not valid YAML: {clip(text)} ({error})"
            ) from None
    else:  # one plain scalar, never YAML's block or list syntax: `data.delimiter=|` means the bar
        loader = _Loader("")
        tag = loader.resolve(yaml.ScalarNode, text, (True, False))
        value = loader.construct_object(yaml.ScalarNode(tag, text))
    return tuple(part.strip() for part in key.split(".")), value


def apply_overrides(
    settings: Settings, overrides: Iterable[tuple[KeyPath, Any]], plug_in_sections: Iterable[str]
) -> Settings:
    """Return new settings with overrides written over the file's values, in order.

    Choosing another member (``strategy.name=lora``) replaces the whole section: the options of the old
    member mean nothing to the new one.
    """
    values, places = _copy(settings.values), dict(settings.places)
    sections = set(plug_in_sections)
    for path, value in overrides:
        if path[0] in sections and len(path) == 1 and isinstance(value, str):
            path = (path[0], "name")  # strategy=lora means strategy.name=lora
        target = values
        for depth, key in enumerate(path[:-1]):
            inner = target.setdefault(key, {})
            if not isinstance(inner, dict):
                raise ConfigurationError(f"{'.'.join(path[: depth + 1])} is a value, not a section")
            target = inner
        if path[0] in sections and path[1:] == ("name",) and target.get("name") != value:
            target.clear()
        target[path[-1]] = value
        places[path] = "override"
    return Settings(values, places)


def explain(error: ValidationError, settings: Settings, known_keys: Iterable[str]) -> ConfigurationError:
    """Turn pydantic's report into one readable error: place, key, what is wrong, nearest name."""
    known = list(known_keys)
    lines: list[str] = []
    for item in error.errors(include_url=False):
        path = tuple(str(part) for part in item["loc"])
        key = ".".join(path) or "recipe"
        place = settings.where(path)
        prefix = f"{place}: " if place else ""
        if item["type"] == "extra_forbidden":
            lines.append(f"{prefix}{key}: unknown option.{suggestion(key, known)}")
        elif isinstance(cause := (item.get("ctx") or {}).get("error"), ConfigurationError):
            lines.append(f"{prefix}{key}: {cause.what}")
        else:
            message = item["msg"].removeprefix("Value error, ")
            got = "" if isinstance(item["input"], dict) else f", got {clip(item['input'])}"
            lines.append(f"{prefix}{key}: {message}{got}")
    return ConfigurationError(
        "\n  ".join(dict.fromkeys(lines)), fix="`graft options` lists every key with its type and default"
    )


def suggestion(key: str, known: Sequence[str]) -> str:
    """Return a hint for an unknown key: the key of ours for a foreign word, else the nearest name."""
    leaf = key.rsplit(".", 1)[-1]
    if leaf in FOREIGN_KEYS:
        return f" Here it is {FOREIGN_KEYS[leaf]}."
    by_leaf = [name for name in known if name.rsplit(".", 1)[-1] == leaf]
    if by_leaf:
        return f" Did you mean {by_leaf[0]!r}?"
    if hint := nearest(key, known):
        return hint
    leaves = {name.rsplit(".", 1)[-1]: name for name in known}
    hint = nearest(leaf, leaves)
    return hint.replace(found, leaves[found]) if hint and (found := hint.split("'")[1]) else ""


def _mapping(node: yaml.MappingNode, path: KeyPath, file: Path, places: dict[KeyPath, str]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        place = f"{file}:{key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigurationError("a key must be a plain word", where=place)
        key = str(key_node.value)
        if key in result:
            raise ConfigurationError(f"the key {'.'.join((*path, key))} stands here twice", where=place)
        places[(*path, key)] = place
        result[key] = _value(value_node, (*path, key), file, places)
    return result


def _value(node: yaml.Node, path: KeyPath, file: Path, places: dict[KeyPath, str]) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, file, places)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, path, file, places) for item in node.value]
    try:
        return _Loader("").construct_object(node, deep=True)
    except yaml.YAMLError as error:  # tags such as !!python/object
        place = f"{file}:{node.start_mark.line + 1}"
        reason = getattr(error, "problem", None) or "a value of this kind is not allowed"
        raise ConfigurationError(f"{'.'.join(path)}: {reason}", where=place) from None


def _copy(value: Any) -> Any:
    return {key: _copy(inner) for key, inner in value.items()} if isinstance(value, dict) else value
