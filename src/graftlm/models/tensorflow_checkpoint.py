"""An original BERT checkpoint (https://github.com/google-research/bert) as configuration, tokens and weights.

Its folder holds ``bert_config.json``, ``vocab.txt`` and ``bert_model.ckpt.*``, in which TensorFlow keeps each variable
under its name. Dense layers are stored [input, output] there and [output, input] here.

``gelu`` is the exact one here, as in transformers' BERT. The original code computed it so at first and later by an
approximation with tanh, which differs by up to 5e-4 at each unit; ``hidden_act: gelu_new`` in config.json gives that.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BertConfig, BertForPreTraining, BertTokenizer

from graftlm.data.places import counted, first_places
from graftlm.errors import MissingResource, ModelError, clip
from graftlm.models.base_model import read_tensors
from graftlm.models.locating import BERT_CONFIG
from graftlm.models.safety import check_settings, read_object
from graftlm.models.separate_process import read_apart
from graftlm.models.weight_files import find_weights

VOCABULARY, CHECKPOINT = "vocab.txt", "bert_model.ckpt"
SETTINGS = frozenset({
    "attention_probs_dropout_prob", "hidden_act", "hidden_dropout_prob", "hidden_size", "initializer_range",
    "intermediate_size", "max_position_embeddings", "num_attention_heads", "num_hidden_layers", "type_vocab_size",
    "vocab_size",
})  # fmt: skip
"""What the original reads of bert_config.json; the rest, such as the Chinese model's pooler_type, it does not."""
_NUMBERS = ("attention_probs_dropout_prob", "hidden_dropout_prob", "initializer_range")
_NEEDED = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size")
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_VOCABULARY_BYTES = 16_000_000
_CAPITAL_SHARE = 0.01
"""Of a cased vocabulary about a quarter of the tokens hold a capital letter, of a lower-cased one next to none."""
_AGAIN = "download or copy the whole checkpoint again"


def find_checkpoint(source: Path) -> Path | None:
    """Return the prefix of the checkpoint that ``source`` means: itself, its index file, or the one in this folder.

    Raises:
        ModelError: a folder holds several, none of them bert_model.ckpt.
    """
    if source.suffix == ".index" and source.is_file():
        return source.with_suffix("")
    if source.name and source.with_name(f"{source.name}.index").is_file():  # "." has no name
        return source
    found = [path.with_suffix("") for path in sorted(source.glob("*.index"))]
    usual = source / CHECKPOINT
    if len(found) > 1 and usual not in found:
        raise ModelError(
            f"this folder holds {len(found)} checkpoints: {', '.join(path.name for path in found[:5])}",
            where=str(source),
            fix=f"name one, as {found[-1]}",
        )
    return usual if usual in found else next(iter(found), None)


def read_bert_config(folder: Path) -> tuple[BertConfig, list[str]]:
    """Return the configuration, and the keys of bert_config.json that are not used.

    Raises:
        ModelError: the file is missing or damaged, lacks a size, or asks for what cannot be.
    """
    path = folder / BERT_CONFIG
    if not path.is_file():
        raise ModelError("file not found", where=str(path), fix=_AGAIN)
    content = read_object(path)
    check_settings(content, str(path))
    used = {key: value for key, value in content.items() if key in SETTINGS}
    wrong = [key for key in _NEEDED if type(used.get(key)) is not int or used[key] < 1]
    if wrong:
        raise ModelError(f"{', '.join(wrong)} must be a whole number above 0", where=str(path), fix=_AGAIN)
    wrong = [key for key in _NUMBERS if type(used.get(key, 0.0)) not in (int, float)]
    if wrong:
        raise ModelError(f"{', '.join(wrong)} must be a number", where=str(path), fix=_AGAIN)
    try:
        config = BertConfig(**used, architectures=["BertForPreTraining"])
    except Exception as error:  # its checks raise whatever they like
        raise ModelError(f"BertConfig refuses this: {clip(str(error), 300)}", where=str(path)) from error
    return config, sorted(content.keys() - used.keys())


def read_vocabulary(path: Path, size: int) -> dict[str, int]:
    """Return token -> id, its line counted from 0.

    Lines end at LF, and only these end one: the Chinese vocabulary has U+2028, which is a line end to some, as a token.

    Args:
        path: of vocab.txt.
        size: rows of the embedding.

    Raises:
        ModelError: it is missing, not UTF-8, longer than ``size``, repeats a token or lacks a special one.
    """
    if not path.is_file() or path.stat().st_size > _VOCABULARY_BYTES:
        raise ModelError(f"no file of at most {_VOCABULARY_BYTES:,} bytes", where=str(path), fix=_AGAIN)
    try:
        lines = path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ModelError(
            f"not UTF-8: {error.reason} at byte {error.start}", where=str(path), fix=_AGAIN
        ) from None
    tokens = [line.removesuffix("\r") for line in lines]
    ids = {token: number for number, token in enumerate(tokens)}
    if len(tokens) > size:
        raise ModelError(f"{len(tokens):,} tokens, the model has {size:,}", where=str(path), fix=_AGAIN)
    twice = [f"line {number + 1}" for number, token in enumerate(tokens) if ids[token] != number]
    if twice:
        raise ModelError(
            f"a later line repeats the token of {first_places(twice)}", where=str(path), fix=_AGAIN
        )
    lacking = [token for token in _SPECIAL if token not in ids]
    if lacking:
        raise ModelError(f"the token {', '.join(lacking)} is missing", where=str(path), fix=_AGAIN)
    return ids


def lowercases(folder: Path, vocabulary: Mapping[str, int]) -> tuple[bool, str]:
    """Return whether texts are lower-cased, which no file says, and what tells it: the folder's name or the tokens."""
    name = folder.resolve().name
    if "cased" in name.lower():
        return "uncased" in name.lower(), f"the folder is called {clip(name)}"
    capital = sum(token != token.lower() for token in vocabulary if token not in _SPECIAL)
    return (
        capital < _CAPITAL_SHARE * len(vocabulary),
        f"{counted(capital, 'token')} of {len(vocabulary):,} with a capital letter in {VOCABULARY}",
    )


def bert_tokenizer(vocabulary: dict[str, int], lowercase: bool, config: BertConfig) -> BertTokenizer:
    """Return the tokenizer; accents are taken off where texts are lower-cased, as in the original."""
    return BertTokenizer(vocabulary, do_lower_case=lowercase, model_max_length=config.max_position_embeddings)


def read_variables(prefix: Path, scratch: Path) -> dict[str, Tensor]:
    """Return name -> weight of a checkpoint, what optimisers keep left out; float32.

    Args:
        prefix: path of the checkpoint without ``.index``.
        scratch: a folder for a copy of the weights, which is removed.

    Raises:
        MissingResource: TensorFlow is not installed.
        ModelError: it cannot read the checkpoint, or a weight is not finite.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise MissingResource(
            "this checkpoint is in TensorFlow's own format, and TensorFlow is not installed",
            where=str(prefix),
            fix='pip install "graftlm[tensorflow]"; the imported folder does not need it',
        )
    name = "variables.safetensors"
    read_apart(
        "graftlm.models.tensorflow_variables",
        prefix,
        scratch / name,
        "this checkpoint",
        _AGAIN,
    )
    tensors = read_tensors(find_weights(scratch, name).paths)
    (scratch / name).unlink()
    return tensors


def weights_of(
    variables: Mapping[str, Tensor], config: BertConfig, where: str
) -> tuple[dict[str, Tensor], list[str]]:
    """Return parameter -> weight of a `BertForPreTraining`, and the variables that it has no place for.

    Raises:
        ModelError: variables are missing or have other shapes, or the configuration says another number of layers.
    """
    layers = {int(found[1]) for name in variables if (found := re.match(r"bert/encoder/layer_(\d+)/", name))}
    if layers != set(range(config.num_hidden_layers)):
        raise ModelError(
            f"{BERT_CONFIG} says {counted(config.num_hidden_layers, 'layer')}, the checkpoint has {len(layers)}",
            where=where,
            fix="give the files that belong together",
        )
    weights: dict[str, Tensor] = {}
    used: set[str] = set()
    missing, misshapen = list[str](), list[str]()
    for parameter, shape in _shapes(config, where).items():
        variable = variable_of(parameter)
        if variable not in variables:
            missing.append(variable)
            continue
        used.add(variable)
        weight = variables[variable]
        weight = weight.T.contiguous() if variable.endswith("/kernel") and weight.dim() == 2 else weight
        if weight.shape != shape:
            misshapen.append(f"{variable} {list(variables[variable].shape)}")
        weights[parameter] = weight
    for names, problem in (
        (missing, "are missing"),
        (misshapen, f"have other shapes than {BERT_CONFIG} says"),
    ):
        if names:
            raise ModelError(
                f"variables {problem}: {first_places(names)}",
                where=where,
                fix="give a checkpoint of pretraining, as it was published: one that was fine-tuned has lost its "
                "pretraining heads, and one of TensorFlow 2 names its variables otherwise",
            )
    return weights, sorted(variables.keys() - used)


def variable_of(parameter: str) -> str:
    """Return what the original calls a parameter of transformers."""
    path, _, leaf = parameter.rpartition(".")
    place = re.sub(r"/layer/(\d+)/", r"/layer_\1/", path.replace(".", "/"))
    if place.endswith("_embeddings"):
        return place
    if place.endswith("LayerNorm"):
        names = {"weight": "gamma", "bias": "beta"}
    elif place in ("cls/predictions", "cls/seq_relationship"):
        names = {"weight": "output_weights", "bias": "output_bias"}
    else:
        names = {"weight": "kernel", "bias": "bias"}
    return f"{place}/{names[leaf]}"


def _shapes(config: BertConfig, where: str) -> dict[str, torch.Size]:
    """Return the shape of every parameter; nothing is allocated."""
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            model: Any = BertForPreTraining(config)
    except Exception as error:  # the constructor raises whatever it likes
        raise ModelError(
            f"no BERT can be built from {BERT_CONFIG}: {clip(str(error), 300)}", where=where
        ) from error
    return {name: parameter.shape for name, parameter in model.named_parameters()}
