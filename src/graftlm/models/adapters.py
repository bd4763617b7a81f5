"""Low-rank adapters (LoRA) in a network of transformers, by peft: put in, saved with their head, read back, merged.

The network keeps its class; peft exchanges linear layers of the body. The head is none of peft's business until it is
saved: then it stands in peft's files as a module that was trained whole.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from graftlm.errors import ConfigurationError, MissingResource, ModelError, clip, nearest
from graftlm.models.base_model import read_tensors
from graftlm.models.heads import head_parameters, in_body
from graftlm.models.locating import BaseFiles, locate
from graftlm.models.safety import read_object
from graftlm.models.weight_files import ADAPTER, ADAPTER_WEIGHTS, inside, read_header
from graftlm.rundir import write_json

_TASK_TYPES = {
    "AutoModelForSequenceClassification": "SEQ_CLS",
    "AutoModelForTokenClassification": "TOKEN_CLS",
    "AutoModelForQuestionAnswering": "QUESTION_ANS",
    "AutoModelForSeq2SeqLM": "SEQ_2_SEQ_LM",
    "AutoModelForCausalLM": "CAUSAL_LM",
}
# What peft calls the one adapter of a network in memory; in its files it has no name.
_NAME = ".default"
_PREFIX = "base_model.model."


@dataclass(frozen=True)
class LowRank:
    """The shape of an adapter: ``W x`` becomes ``W x + scale * B(A(dropout(x)))``.

    Args:
        rank: rows of A and columns of B.
        alpha: scale is ``alpha / rank``.
        dropout: share of the features that A does not see in training.
        rank_stabilised: scale is ``alpha / sqrt(rank)`` instead.
        merged: whether the network is saved with ``W + scale * B A`` in the place of W, as a model like any other.
    """

    rank: int
    alpha: float
    dropout: float
    rank_stabilised: bool
    merged: bool = False


@dataclass(frozen=True)
class Adapter:
    """What `add_adapter` has made of a network.

    Args:
        shape: of the adapter.
        head: names of the modules that are trained and saved whole.
    """

    shape: LowRank
    head: tuple[str, ...]


def linear_layers(model: PreTrainedModel) -> list[str]:
    """Return the names of all linear layers of the body, in its order; those of its pooler belong to the head."""
    vocabulary = model.get_output_embeddings()
    return [
        name
        for name, module in model.named_modules()
        if type(module) in (nn.Linear, Conv1D) and in_body(model, name) and module is not vocabulary
    ]


def chosen_layers(model: PreTrainedModel, endings: Sequence[str]) -> list[str]:
    """Return the linear layers of the body whose name ends with one of ``endings``, such as ``query``.

    Raises:
        ConfigurationError: an ending fits none of them.
    """
    layers = linear_layers(model)
    for ending in endings:
        if not any(_ends(name, ending) for name in layers):
            known = sorted({name.rpartition(".")[2] for name in layers})
            raise ConfigurationError(
                f"no linear layer of this base model is called {clip(ending)}.{nearest(ending, known)}",
                where="strategy.target",
                fix=f"choose among {', '.join(known[:20])}; or all_linear",
            )
    return [name for name in layers if any(_ends(name, ending) for ending in endings)]


def add_adapter(
    model: PreTrainedModel, shape: LowRank, layers: Sequence[str], head: Sequence[str], seed: int
) -> None:
    """Put an adapter onto the given layers, in place. B is zero, so the outputs stay what they were, bit for bit.

    Args:
        model: with its head.
        shape: of the adapter.
        layers: from `linear_layers`.
        head: from `head_modules`.
        seed: decides A; the generators of the caller are left as they were.
    """
    transposed = any(isinstance(model.get_submodule(name), Conv1D) for name in layers)
    config = LoraConfig(
        r=shape.rank,
        lora_alpha=shape.alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=shape.dropout,
        use_rslora=shape.rank_stabilised,
        # A pattern for whole names: of names in a list peft takes every layer whose name ends so, a generator's too.
        target_modules="|".join(map(re.escape, layers)),
        fan_in_fan_out=transposed,
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # Where GPT-2's layers stand beside plain ones, peft says that it treats each by its kind.
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set")
        torch.default_generator.manual_seed(seed)
        inject_adapter_in_model(config, model)
    model._graftlm_adapter = Adapter(shape, tuple(head))  # pyright: ignore


def adapter_of(model: nn.Module) -> Adapter | None:
    """Return what `add_adapter` has made of a network, if anything."""
    return getattr(model, "_graftlm_adapter", None)


def adapter_parameters(model: nn.Module) -> list[str]:
    """Return the names of the parameters of the adapter, A and B of each layer."""
    return [name for name, _ in model.named_parameters() if ".lora_A." in name or ".lora_B." in name]


def trained_parameters(model: nn.Module) -> list[str]:
    """Return the names of the parameters that are trained: those of the adapter and of the head."""
    adapter = adapter_of(model)
    head = () if adapter is None else tuple(f"{name}." for name in adapter.head)
    whole = [name for name, _ in model.named_parameters() if name.startswith(head)] if head else []
    return [*adapter_parameters(model), *whole]


def head_modules(model: PreTrainedModel, new: Sequence[str]) -> list[str]:
    """Return the modules of the head as peft is told them: whole ones, each by a name that no other ends with.

    Args:
        model: with its head.
        new: names of parameters that no base model holds; they must be saved wherever they stand.

    Raises:
        ModelError: peft could not tell a part of the head from one of the body.
    """
    prefix = f"{model.base_model_prefix}."
    names = {
        f"{prefix}pooler" if name.startswith(prefix) else name.partition(".")[0]
        for name in {*head_parameters(model), *new}
    }
    every = [name for name, _ in model.named_modules()]
    for name in names:
        if name not in every or any(other.endswith(name) and in_body(model, other) for other in every):
            raise ModelError(f"peft could not save the part {name} of this model apart from the others")
    return sorted(names)


def save_adapter(model: PreTrainedModel, folder: Path, architecture: str, base: BaseFiles) -> None:
    """Write adapter and head in peft's format, and the configuration with the labels beside them.

    Args:
        model: that got its adapter from `add_adapter`.
        folder: is there.
        architecture: auto class of transformers that loads the base model with such a head.
        base: under its name on the hub, or else its place on this machine, plain peft finds the base model again.
    """
    config = _config_of(model)
    config.task_type = _TASK_TYPES[architecture]  # pyright: ignore[reportAttributeAccessIssue]
    config.inference_mode = True
    # Not as it stands there: peft shortens long lists to endings.
    layers = {name for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    config.target_modules = layers  # pyright: ignore[reportAttributeAccessIssue]
    adapter = adapter_of(model)
    assert adapter is not None
    config.modules_to_save = list(adapter.head) or None
    config.base_model_name_or_path = base.name if base.revision else str(base.folder.resolve())
    config.revision = base.revision
    # Sets, which have another order in each process.
    values = {
        key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()
    }
    write_json(folder / ADAPTER, values)
    tensors = {key: tensor.detach().contiguous() for key, tensor in _saved_tensors(model).items()}
    save_file(tensors, folder / ADAPTER_WEIGHTS, {"format": "pt"})
    model.config.save_pretrained(folder)
    if model.can_generate():
        settings: Any = model.generation_config
        settings.save_pretrained(folder)


def holds_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and a head instead of a whole model."""
    return (folder / ADAPTER).exists()


def find_base(folder: Path, base: Mapping[str, Any]) -> BaseFiles:
    """Return the base model that the adapter of a folder was trained on.

    Args:
        folder: from `save_adapter`.
        base: its name, revision and fingerprint at that time.

    Raises:
        MissingResource: it is not where it was, or cannot be downloaded.
        ModelError: there is another model now.
    """
    place = str(_read_config(folder).get("base_model_name_or_path") or "")
    if base["revision"] is not None:
        name = f"{base['name']}@{base['revision']}"
    else:
        name = base["name"] if base["name"].startswith("bundled:") else place
        if name == place and not Path(place).is_dir():
            raise MissingResource(
                f"the base model of this adapter is not there: {clip(place)}",
                where=str(folder / ADAPTER),
                fix="put it back, or write its new place behind base_model_name_or_path there",
            )
    found = locate(name)
    if found.fingerprint != base["fingerprint"]:
        raise ModelError(
            f"{clip(name)} is not the base model that this adapter was trained on: its files have the fingerprint "
            f"{found.fingerprint[:12]}, at training it was {base['fingerprint'][:12]}",
            where=str(folder),
            fix="restore the files of the base model (weights, configuration, tokenizer), or train again",
        )
    return found


def load_adapter(model: PreTrainedModel, folder: Path) -> None:
    """Put the adapter and head of a folder from `save_adapter` onto their base model, in place.

    Raises:
        ModelError: it is another kind of adapter, or does not fit the base model.
    """
    values = _read_config(folder)
    where = str(folder / ADAPTER)
    try:
        shape = LowRank(
            int(values["r"]), float(values["lora_alpha"]), float(values["lora_dropout"]), bool(values["use_rslora"])
        )  # fmt: skip
        wanted = {str(name) for name in values["target_modules"]}
        head = [str(name) for name in values["modules_to_save"] or ()]
    except (KeyError, TypeError, ValueError):
        raise ModelError("not an adapter that GraftLM saved", where=where) from None
    layers = [name for name in linear_layers(model) if name in wanted]
    if values.get("peft_type") != "LORA" or len(layers) != len(wanted) or not layers or shape.rank < 1:
        raise ModelError("this adapter does not fit its base model", where=where)
    add_adapter(model, shape, layers, head, seed=0)
    path = inside(folder, ADAPTER_WEIGHTS)
    read_header(path)
    found, own = read_tensors((path,)), _saved_tensors(model)
    apart = sorted(found.keys() ^ own.keys()) or [
        key for key, tensor in own.items() if tensor.shape != found[key].shape
    ]
    if apart:
        raise ModelError(f"this adapter does not fit its base model: {clip(apart[0])}", where=str(path))
    with torch.no_grad():
        for key, tensor in own.items():
            tensor.copy_(found[key])


def merged_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return the state dict of the network without adapter that computes the same; the model stays as it is."""
    weights: dict[str, Tensor] = {}
    adapted = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    for key, tensor in model.state_dict().items():
        if ".lora_A." in key or ".lora_B." in key:
            continue
        owner, middle, last = key.rpartition(".base_layer.")
        layer: Any = adapted.get(owner) if middle else None
        if layer is not None and last == "weight":
            tensor = tensor + layer.get_delta_weight(_NAME.removeprefix(".")).to(tensor.dtype)
        weights[f"{owner}.{last}" if middle else key] = tensor
    return weights


def _config_of(model: nn.Module) -> LoraConfig:
    configs: Any = model.peft_config
    config: PeftConfig = configs[_NAME.removeprefix(".")]
    return LoraConfig(**config.to_dict())


def _saved_tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return what an adapter file holds, under peft's names."""
    adapter = adapter_of(model)
    assert adapter is not None
    # Of the head its buffers too.
    saved = (*adapter_parameters(model), *(f"{name}." for name in adapter.head))
    return {
        f"{_PREFIX}{name.replace(f'{_NAME}.', '.')}": tensor
        for name, tensor in model.state_dict().items()
        if name.startswith(saved)
    }


def _read_config(folder: Path) -> dict[str, Any]:
    return read_object(inside(folder, ADAPTER))


def _ends(name: str, ending: str) -> bool:
    return name == ending or name.endswith(f".{ending}")
