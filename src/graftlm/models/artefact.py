"""The saved model: a folder that plain transformers loads, and ``graftlm.json`` with what only we need."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from graftlm.errors import GraftError, MissingResource, ModelError
from graftlm.models.adapters import adapter_of, merged_weights, save_adapter
from graftlm.models.base_model import quiet_transformers
from graftlm.models.locating import BaseFiles
from graftlm.rundir import sync_folder, write_bytes, write_json

FORMAT_VERSION = 1
_FACTS = "graftlm.json"
_RESUME = "free disk space, then continue with --resume; the last checkpoint holds the trained weights"


@dataclass(frozen=True)
class ArtefactFacts:
    """What a predictor must know beside weights and tokenizer.

    Args:
        task: the task section of the recipe, with its name.
        labels: label names in the order of the logits.
        rule: numbers such as thresholds that turn logits into decisions.
        roles: the columns the model was trained on.
        reading: how the training rows were read, as entries of the ``data`` section: new rows are read likewise.
        max_length_tokens: texts are cut here, special tokens included.
        graftlm_version: that wrote it.
        base: name, revision and fingerprint of the base model.
        data: split name -> fingerprint.
        metrics: split name -> scores with intervals.
        architecture: the auto class of transformers that loads it; empty in folders of version 0.1.0, whose tasks had
            one each.
        format_version: of this file.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    task: dict[str, Any]
    labels: list[str]
    max_length_tokens: int
    graftlm_version: str
    base: dict[str, Any]
    data: dict[str, str]
    roles: list[str]
    rule: dict[str, Any] = field(default_factory=dict[str, Any])
    reading: dict[str, Any] = field(default_factory=dict[str, Any])
    metrics: dict[str, Any] = field(default_factory=dict[str, Any])
    architecture: str = ""
    format_version: int = FORMAT_VERSION


def save_artefact(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    base: BaseFiles,
    facts: ArtefactFacts,
    recipe_yaml: str,
) -> None:
    """Write the model folder, whole or not at all."""

    def write(partial: Path) -> None:
        _save_network(partial, model, base, facts.architecture)
        tokenizer.save_pretrained(partial)
        write_json(partial / _FACTS, asdict(facts))
        write_bytes(partial / "recipe.yaml", recipe_yaml.encode())

    save_folder(folder, write)


def save_base(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    facts: Mapping[str, Any],
    recipe_yaml: str,
) -> None:
    """Write the folder of a base model that was pretrained, whole or not at all.

    Args:
        folder: to be made, or replaced.
        model: with its head; what was added to it for training is worked into its weights.
        tokenizer: of the model.
        facts: what ``pretraining.json`` says about its making.
        recipe_yaml: of the run.
    """

    def write(partial: Path) -> None:
        adapter = adapter_of(model)
        model.save_pretrained(partial, state_dict=None if adapter is None else merged_weights(model))
        tokenizer.save_pretrained(partial)
        write_json(partial / "pretraining.json", facts)
        write_bytes(partial / "recipe.yaml", recipe_yaml.encode())

    save_folder(folder, write)


def save_folder(folder: Path, write: Callable[[Path], None], fix: str = _RESUME) -> None:
    """Let ``write`` fill a folder beside the place of this one, sync it, and rename it: whole or not at all.

    Args:
        folder: to be made, or replaced.
        write: is given the folder that gets its name afterwards.
        fix: what the user can do where the disk does not take it.
    """
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        with quiet_transformers():
            write(partial)
        for file in partial.rglob("*"):
            if file.is_dir():
                sync_folder(file)
                continue
            with file.open("rb+") as stream:
                os.fsync(stream.fileno())
            file.chmod(0o644)  # safetensors makes its files 0600; the folder is to be handed on
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        sync_folder(folder.parent)
    except GraftError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise MissingResource(
            f"the model cannot be saved: {getattr(error, 'strerror', None) or error}",
            where=str(folder),
            fix=fix,
        ) from None


def _save_network(folder: Path, model: PreTrainedModel, base: BaseFiles, architecture: str) -> None:
    adapter = adapter_of(model)
    if adapter is None:
        model.save_pretrained(folder)
    elif adapter.shape.merged:
        model.save_pretrained(folder, state_dict=merged_weights(model))
    else:
        save_adapter(model, folder, architecture, base)


def read_facts(folder: Path) -> ArtefactFacts:
    """Return the facts of a model folder that GraftLM wrote."""
    try:
        values = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            "this is a base model, which answers nothing yet"
            if (folder / "pretraining.json").is_file()
            else f"this folder has no {_FACTS}: GraftLM did not write it",
            where=str(folder),
            fix=f"fine-tune it first: graft finetune rows.csv base={folder}"
            if (folder / "pretraining.json").is_file()
            else "name a run directory or its model/ folder; a plain base model must be fine-tuned first",
        ) from None
    except ValueError as error:
        raise ModelError(f"{_FACTS} is damaged: {error}", where=str(folder)) from None
    if not isinstance(values, dict):
        raise ModelError(f"{_FACTS} is damaged: it is no JSON object", where=str(folder))
    if values.get("format_version") != FORMAT_VERSION:
        raise ModelError(
            f"this model has format version {values.get('format_version')!r}; this GraftLM reads {FORMAT_VERSION}",
            where=str(folder),
        )
    values.setdefault("roles", ["text", "label"])  # before there were others, nothing was written
    try:
        return TypeAdapter(ArtefactFacts).validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ModelError(f"{_FACTS} is damaged: {place}: {first['msg']}", where=str(folder)) from None


def copy_facts(source: Path, folder: Path) -> None:
    """Copy what only we need of a saved model, its facts and its recipe, into another folder of the same model."""
    for name in (_FACTS, "recipe.yaml"):
        if (source / name).exists():
            write_bytes(folder / name, (source / name).read_bytes())
