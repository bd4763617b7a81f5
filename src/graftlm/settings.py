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
    "per_device_eval_batch_size": "evaluation.batch_tokens (tokens, not rows)",
    "train_batch_size": "training.batch_size",
    "gradient_accumulation_steps": "training.batch_size together with training.micro_batch",
    "gradient_checkpointing": "training.gradient_checkpointing",
    "activation_checkpointing": "training.gradient_checkpointing",
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
    "output_dir": "the option --run-dir (in Python run_directory=)",
    "run_dir": "the option --run-dir (in Python run_directory=)",
    "optim": "training.optimizer for graft pretrain, and always AdamW for graft finetune",
    "optimizer": "training.optimizer for graft pretrain, and always AdamW for graft finetune",
    "fp16": "training.precision",
    "bf16": "training.precision",
    "use_cpu": "training.device",
}


_OVERRIDE = "override"


class _Loader(yaml.SafeLoader):
    """SafeLoader with the YAML 1.2 core scalar rules for null, booleans and numbers."""


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes every text which YAML 1.1 or our own rules would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # The other styles fold line ends, and lose NEL and U+2028.
        style = None if data.isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


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
    # \Z and not $: a text that ends with a line end is no number.
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)
_Dumper.add_representer(str, _Dumper.represent_str)
_Dumper.yaml_implicit_resolvers = {
    first: [
        *yaml.SafeDumper.yaml_implicit_resolvers.get(first, []),
        *_Loader.yaml_implicit_resolvers.get(first, []),
    ]
    for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
}


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
        settings = Settings()
        if node is None:
            return settings
        if not isinstance(node, yaml.MappingNode):
            raise ConfigurationError("a recipe is a mapping of keys to values", where=f"{file}:1")
        settings.values = _mapping(node, (), str(file), settings.places)
        return settings
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{file}:{mark.line + 1}" if mark else str(file)
        reason = getattr(error, "problem", None) or str(error)
        raise ConfigurationError(f"this is not valid YAML: {reason}", where=place) from None
    except RecursionError:
        raise ConfigurationError(
            "a value contains itself, or is nested too deeply", where=str(file)
        ) from None


def dump_yaml(value: Mapping[str, Any], **style: Any) -> str:
    """Return YAML that `read_yaml` reads back as the same values; ``style`` is passed on to PyYAML."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, **style)


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
            node = yaml.compose(text, Loader=_Loader)
            value = _value(node, tuple(key.split(".")), "override", {}) if node else None
        except (yaml.YAMLError, RecursionError) as error:
            reason = getattr(error, "problem", None) or "it is nested too deeply"
            raise ConfigurationError(
                f"the value of {key} is not valid YAML: {clip(text)} ({reason})"
            ) from None
    else:  # one plain scalar, never YAML's block or list syntax: `data.delimiter=|` means the bar
        loader = _Loader("")
        tag = loader.resolve(yaml.ScalarNode, text, (True, False))
        value = loader.construct_object(yaml.ScalarNode(tag, text))
    return tuple(part.strip() for part in key.split(".")), value


def apply_overrides(
    settings: Settings, overrides: Iterable[tuple[KeyPath, Any]], default_members: Mapping[str, str]
) -> Settings:
    """Return new settings with overrides written over the file's values.

    Choosing another member (``strategy.name=lora``) replaces the whole section of the file: the options of the old
    member mean nothing to the new one. Members are chosen first, wherever the word stands, so that an option given
    beside the choice is never lost; everything else is applied in order.

    Args:
        settings: what the file says.
        overrides: key path and value.
        default_members: plug-in section -> the member that a section without a name means.
    """
    values, places = _copy(settings.values), dict(settings.places)
    for section in default_members:  # strategy: full means the same in a file
        if isinstance(values.get(section), str):
            values[section] = {"name": values[section]}
    pairs: list[tuple[KeyPath, Any]] = []
    for path, value in overrides:
        chosen = path[0] in default_members and len(path) == 1 and isinstance(value, str)
        pairs.append(((path[0], "name") if chosen else path, value))  # strategy=lora: strategy.name=lora
    names = {(section, "name") for section in default_members}
    for path, value in sorted(pairs, key=lambda pair: pair[0] not in names):
        target = values
        for depth, key in enumerate(path[:-1]):
            inner = target.setdefault(key, {})
            if not isinstance(inner, dict):
                raise ConfigurationError(f"{'.'.join(path[: depth + 1])} is a value, not a section")
            target = inner
        if path in names and target.get("name", default_members[path[0]]) != value:
            target.clear()
        target[path[-1]] = _copy(value)
        places[path] = _OVERRIDE
    return Settings(values, places)


def explain(
    error: ValidationError, settings: Settings, known_keys: Iterable[str], listing: str
) -> ConfigurationError:
    """Turn pydantic's report into one readable error: place, key, what is wrong, nearest name.

    Args:
        error: the report.
        settings: what it is about.
        known_keys: every dotted key that could have been meant.
        listing: the command that lists keys; it takes a section, and a member of it.
    """
    known = list(known_keys)
    lines: list[str] = []
    about: set[str] = set()
    for item in error.errors(include_url=False):
        path = tuple(str(part) for part in item["loc"])
        key = ".".join(path) or "recipe"
        place = settings.where(path)
        prefix = f"{place}: " if place not in ("", _OVERRIDE) else ""
        about.add(_listed_under(path, settings, known))
        if item["type"] == "extra_forbidden":
            lines.append(f"{prefix}{key}: unknown option.{suggestion(key, known)}")
        elif isinstance(cause := (item.get("ctx") or {}).get("error"), ConfigurationError):
            lines.append(f"{prefix}{key}: {cause.what}")
        else:
            message = _bound(item) or item["msg"].removeprefix("Value error, ")
            if item["type"] == "string_type" and isinstance(item["input"], int | float):
                message = "a text is wanted here, put the number in quotes"
            if item["type"] in ("list_type", "tuple_type") and isinstance(item["input"], str):
                message = f"a list is wanted here, write '[{item['input'][:60]}]'"
            # Names that are known may be followed by the one that was meant, as a question.
            comma = " Got" if message.endswith("?") else ", got"
            got = "" if isinstance(item["input"], dict) else f"{comma} {clip(item['input'])}"
            message = message.removesuffix(".")
            lines.append(f"{prefix}{key}: {message}{got}")
    asked = " ".join([listing, *about]) if len(about) == 1 and about != {""} else listing
    return ConfigurationError(
        "\n  ".join(dict.fromkeys(lines)), fix=f"`{asked}` lists the keys with type and default"
    )


def _bound(item: Any) -> str | None:
    """Return what a number may be, where it is too great or too small; None where something else is wrong with it."""
    limits: dict[str, Any] = item.get("ctx") or {}
    wordings = {"gt": "more than {:g}", "ge": "{:g} or more", "lt": "less than {:g}", "le": "{:g} or less"}
    return next(
        (f"must be {form.format(limits[key])}" for key, form in wordings.items() if key in limits), None
    )


def _listed_under(path: Sequence[str], settings: Settings, known: Iterable[str]) -> str:
    """Return the section of a key, with the member that was chosen where the key is one of its own; else nothing."""
    section = path[0] if path else ""
    if not any(name.startswith(f"{section}.") for name in known):
        return ""
    values = settings.values.get(section)
    member = values.get("name") if isinstance(values, dict) and f"{section}.name" in known else None
    return f"{section}.{member}" if member and len(path) > 1 else section


def suggestion(key: str, known: Sequence[str]) -> str:
    """Return a hint for an unknown key: the key of ours for a foreign word, else the nearest name."""
    leaf = key.rsplit(".", 1)[-1]
    if leaf in FOREIGN_KEYS:
        return f" Here it is {FOREIGN_KEYS[leaf]}."
    by_leaf = [name for name in known if name.rsplit(".", 1)[-1] == leaf]
    if by_leaf:
        return f" Did you mean {by_leaf[0]!r}?"
    sections = {name.partition(".")[0] for name in known}
    if hint := nearest(key, known if "." in key else sections) or nearest(key, known):
        return hint
    leaves = {name.rsplit(".", 1)[-1]: name for name in known}
    hint = nearest(leaf, leaves)
    return hint.replace(found, leaves[found]) if hint and (found := hint.split("'")[1]) else ""


def _mapping(
    node: yaml.MappingNode, path: KeyPath, source: str, places: dict[KeyPath, str]
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        place = f"{source}:{key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigurationError("a key must be a plain word", where=place)
        key = str(key_node.value)
        if key in result:
            raise ConfigurationError(f"the key {'.'.join((*path, key))} stands here twice", where=place)
        places[(*path, key)] = place
        result[key] = _value(value_node, (*path, key), source, places)
    return result


def _value(node: yaml.Node, path: KeyPath, source: str, places: dict[KeyPath, str]) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, source, places)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, path, source, places) for item in node.value]
    try:
        return _Loader("").construct_object(node, deep=True)
    except yaml.YAMLError as error:  # tags such as !!python/object
        place = f"{source}:{node.start_mark.line + 1}"
        reason = getattr(error, "problem", None) or "a value of this kind is not allowed"
        raise ConfigurationError(f"{'.'.join(path)}: {reason}", where=place) from None


def _copy(value: Any) -> Any:
    return {key: _copy(inner) for key, inner in value.items()} if isinstance(value, dict) else value
