"""A model folder is hostile input until it has been checked here; nothing in it is ever run.

What is refused, and why: `auto_map` and `trust_remote_code` ask for code from the folder to be imported;
private keys (leading underscore) and choices of kernels have run code from the hub in transformers before
(CVE-2026-4372); huge sizes allocate before anybody looks at the weights; pickle runs code when it is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from graftlm.errors import ModelError, clip, nearest
from graftlm.models.weight_files import (
    ADAPTER,
    ADAPTER_WEIGHTS,
    EXPORT_REPORT,
    WEIGHTS,
    WeightFiles,
    find_weights,
    inside,
)

CONFIG_BYTES = 1_000_000
LARGEST = 2**24
"""Largest integer of a configuration; above the longest context in use (10,485,760 positions)."""
CAPS = (
    (re.compile(r"layers?$"), 1_000),
    (re.compile(r"experts?$"), 10_000),
    (re.compile(r"^num_labels$"), 100_000),
)
"""Keys that count things which cost time or memory each, and how many are accepted."""
REFUSED = {
    "auto_map": "GraftLM never runs code from a model folder",
    "trust_remote_code": "GraftLM never runs code from a model folder",
    "quantization_config": "quantised weights cannot be trained; use the unquantised model",
    "transformers_weights": "the weights are model.safetensors, not a file named in the configuration",
}
READ = frozenset({".json", ".txt", ".model", ".spm", ".jinja", ".safetensors"})
"""Suffixes of the files that are read from a model folder."""
DEEPEST = 32
DROPPED = frozenset({"attn_implementation", "experts_implementation", "fusion_config", "distributed_config"})
"""Choices of execution that are ours to make, not the folder's."""


@dataclass(frozen=True)
class VerifiedFolder:
    """A model folder that may be loaded.

    Args:
        folder: where it is.
        config: config.json without private keys.
        weights: its safetensors files, headers checked; none of an exported network.
    """

    folder: Path
    config: dict[str, Any]
    weights: WeightFiles


def verify_folder(folder: Path, finished: bool = False) -> VerifiedFolder:
    """Check config.json, the other JSON files and the headers of the weights; build nothing.

    Args:
        folder: of a model.
        finished: whether it may hold an adapter and its head, or an exported network, instead of a whole model.

    Raises:
        ModelError: anything that could run code, exhaust memory or was damaged, with its place.
    """
    adapted = (folder / ADAPTER).exists()
    if adapted and not finished:
        raise ModelError(
            "this folder holds an adapter, which would be left out",
            where=str(folder),
            fix="merge the adapter into its base model (peft: merge_and_unload) and save that as a folder; a run with "
            "strategy.merge=true does so",
        )
    if not (folder / "config.json").exists():
        raise ModelError(
            "no config.json in this folder",
            where=str(folder),
            fix="name a complete model folder: config.json, model.safetensors and the tokenizer files",
        )
    config = read_config(folder)
    for name in ("tokenizer_config.json", "generation_config.json", "special_tokens_map.json"):
        if (folder / name).exists():
            _refuse_keys(read_object(inside(folder, name)), str(folder / name))
    for path in folder.iterdir():
        # The tokenizer finds its files by itself; they must not lead out of the folder either.
        if path.suffix in READ:
            inside(folder, path.name)
    exported = (folder / EXPORT_REPORT).exists()
    if exported and not finished:
        raise ModelError(
            "this folder holds a network that was exported for prediction; it cannot be trained",
            where=str(folder),
            fix="name the model/ folder of the run that it was exported from",
        )
    weights = (
        WeightFiles((), 0) if exported else find_weights(folder, ADAPTER_WEIGHTS if adapted else WEIGHTS)
    )
    return VerifiedFolder(folder, config, weights)


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """Return a configuration without private keys, after checking its size, keys, integers and ``model_type``."""
    path = inside(folder, name)
    where = str(path)
    config = read_object(path)
    check_settings(config, where)
    model_type = config.get("model_type")
    known = list(transformers.CONFIG_MAPPING.keys())
    if not isinstance(model_type, str) or model_type not in known:
        guess = nearest(model_type, known) if isinstance(model_type, str) else ""
        raise ModelError(
            f"model_type {clip(model_type)} is not known to transformers {transformers.__version__}.{guess}",
            where=where,
            fix="use a base model of a family that transformers ships, or a newer transformers",
        )
    return _clean(config)


def build_config(verified: VerifiedFolder) -> PreTrainedConfig:
    """Return the configuration object of a verified folder."""
    return config_of(verified.config, str(verified.folder / "config.json"))


def config_of(settings: dict[str, Any], where: str) -> PreTrainedConfig:
    """Return the configuration object of settings that `read_config` has checked.

    Raises:
        ModelError: the family refuses them, or a key is none of its settings.
    """
    config_class = transformers.CONFIG_MAPPING[settings["model_type"]]
    for key in settings:
        # Unknown keys become attributes of the configuration; one named like a method would replace it.
        if callable(getattr(config_class, key, None)):
            raise ModelError(f"the key {clip(key)} is not a setting of {config_class.__name__}", where=where)
    try:
        return config_class.from_dict(dict(settings))
    except Exception as error:  # the checks inside configuration classes raise whatever they like
        raise ModelError(
            f"{config_class.__name__} refuses this configuration: {clip(str(error), 300)}", where=where
        ) from error


def check_size(
    verified: VerifiedFolder, model_class: type[PreTrainedModel], config: PreTrainedConfig
) -> None:
    """Refuse a configuration whose body would hold more than twice the numbers that the weights hold.

    The body is built on the ``meta`` device, which allocates nothing. Heads are not counted: they may be new.
    """
    held = verified.weights.elements
    where = str(verified.folder / "config.json")
    fix = "config.json and model.safetensors do not belong together; download or save the model again"
    hidden = getattr(config, "hidden_size", None)
    # Every transformer holds at least one hidden x hidden matrix. Looked at first because some constructors
    # fill sinusoid tables of (positions x hidden) in numpy, which the meta device does not prevent.
    sinusoids = getattr(config, "sinusoidal_pos_embds", False)
    positions = getattr(config, "max_position_embeddings", 1) if sinusoids else 1
    if isinstance(hidden, int) and hidden * max(hidden, int(positions)) > 2 * held:
        raise ModelError(
            f"hidden_size {hidden} does not fit weights of {held:,} numbers", where=where, fix=fix
        )
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            model = model_class(config)
    except Exception as error:  # constructors of model families raise whatever they like
        raise ModelError(
            f"{model_class.__name__} cannot be built from this configuration: {clip(str(error), 300)}",
            where=where,
        ) from error
    implied = sum(parameter.numel() for parameter in model.base_model.parameters())
    if implied > 2 * held:
        raise ModelError(
            f"the configuration describes {implied:,} parameters, the weights hold {held:,}",
            where=where,
            fix=fix,
        )


def read_object(path: Path) -> dict[str, Any]:
    """Return a JSON file of a model folder, which must be an object of a plausible size."""
    size = path.stat().st_size
    # Vocabularies of added tokens make tokenizer_config.json long; config.json never is.
    limit = CONFIG_BYTES if path.name == "config.json" else 16 * CONFIG_BYTES
    if size > limit:
        raise ModelError(f"{size} bytes; at most {limit} are read", where=str(path))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"not valid JSON: {clip(str(error), 120)}",
            where=str(path),
            fix="download or save the model again",
        ) from None
    if not isinstance(content, dict):
        raise ModelError("not a JSON object", where=str(path), fix="download or save the model again")
    return cast("dict[str, Any]", content)


def check_settings(config: dict[str, Any], where: str) -> None:
    """Refuse a configuration, of whatever form, that asks for code to be run or counts too many of something."""
    _refuse_keys(config, where)
    for key, value in _items(config, where):
        _check_number(key, value, where)


def _items(config: dict[str, Any], where: str) -> Iterator[tuple[str, object]]:
    """Yield (key, value) at every depth; members of a list carry the key of the list."""
    waiting: list[tuple[str, object, int]] = [("", config, 0)]
    while waiting:
        key, value, depth = waiting.pop()
        if depth > DEEPEST:
            raise ModelError(f"more than {DEEPEST} levels of nesting", where=where)
        if key:
            yield key, value
        if isinstance(value, dict):
            members = cast("dict[str, object]", value)
            waiting.extend((name, member, depth + 1) for name, member in members.items())
        elif isinstance(value, list):
            waiting.extend((key, member, depth + 1) for member in cast("list[object]", value))


def _refuse_keys(config: dict[str, Any], where: str) -> None:
    for key, _ in _items(config, where):
        if key in REFUSED:
            raise ModelError(
                f"the key {key!r} is refused: {REFUSED[key]}",
                where=where,
                fix="choose a base model of a family that transformers ships itself",
            )


def _check_number(key: str, value: object, where: str) -> None:
    if type(value) is not int:
        return
    cap = next((cap for pattern, cap in CAPS if pattern.search(key)), LARGEST)
    if abs(value) > cap:
        raise ModelError(f"{clip(key)} is {clip(value)}; at most {cap} is accepted", where=where)


def _clean(value: Any) -> Any:
    """Return a copy without private keys and without choices of execution, at every depth."""
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return {
            key: _clean(member)
            for key, member in members.items()
            if not key.startswith("_") and key not in DROPPED
        }
    if isinstance(value, list):
        return [_clean(member) for member in cast("list[Any]", value)]
    return value
