"""A verified model folder as tokenizer and network: no code, no download, no silently random layers."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from safetensors import safe_open
from torch import Tensor
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.models.auto import modeling_auto
from transformers.utils import logging as transformers_logging

from graftlm.errors import ModelError, clip, nearest
from graftlm.models.locating import BaseFiles
from graftlm.models.padding import require_unread_padding
from graftlm.models.safety import build_config, check_size, verify_folder
from graftlm.models.spaced_words import add_spaces
from graftlm.models.vocabulary import give_what_is_read

LONGEST = 32_768
"""Longest input in tokens that is ever used, whatever a tokenizer or configuration claims (often 1e30)."""
DEFAULT_LENGTH = 512
"""Where neither tokenizer nor configuration says anything."""
OFFSET_POSITIONS = frozenset(
    {
        "camembert",
        "data2vec-text",
        "esm",
        "ibert",
        "layoutlmv3",
        "lilt",
        "longformer",
        "luke",
        "markuplm",
        "mluke",
    }
    | {"mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"}
)
"""Families that number positions from pad_token_id + 1, so that many rows of the table are never reached."""


_CLASSIFYING_HEADS = (
    "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice",
)  # fmt: skip


@dataclass(frozen=True)
class LoadedModel:
    """A network ready to be trained or used.

    Args:
        model: in float32, on the CPU, in evaluation mode.
        new_parameters: sorted names of the parameters drawn from the seed, not read from the folder.
    """

    model: PreTrainedModel
    new_parameters: list[str]


def load_config(files: BaseFiles) -> PreTrainedConfig:
    """Return the configuration of a base model after checking the whole folder, see `verify_folder`."""
    return build_config(verify_folder(files.folder, files.finished))


def load_tokenizer(files: BaseFiles, words: bool = False, positions: bool = True) -> PreTrainedTokenizerBase:
    """Return the fast tokenizer of a base model, with a pad token and without stored truncation or padding.

    The names of special tokens inside a text are text: only the tokenizer itself places special tokens.
    A tokenizer without a pad token pads with its end token; `graftlm.models.padding.padding_note` says so.

    Args:
        files: of the base model.
        words: whether it will get words one by one. Byte-level tokenizers know a word by the space before it, which it
            then does not have: they are set to add it, and saved so, where that can be (see `need_spaces`).
        positions: whether a task asks where in a text a token stands, which slow tokenizers do not know. Some
            translation models have no other.

    Raises:
        ModelError: no usable fast tokenizer, no pad and no end token, or ids beyond the embedding.
    """
    config = load_config(files)
    where = str(files.folder)
    try:
        with quiet_transformers():
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                files.folder,
                config=config,
                trust_remote_code=False,
                local_files_only=True,
                # Somebody who writes "[SEP]" or "</s>" writes text. Read as a control token it would end the
                # sequence in the middle, and BART-like models fail on it. Saved with the tokenizer.
                split_special_tokens=True,
            )
    except Exception as error:  # tokenizer files are read by many classes, each with errors of its own
        raise ModelError(
            f"the tokenizer cannot be read: {clip(str(error), 300)}",
            where=where,
            fix="the folder needs tokenizer.json (save the tokenizer with save_pretrained)",
        ) from error
    if positions and not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelError(
            f"{type(tokenizer).__name__} is a slow tokenizer: it gives no character positions",
            where=where,
            fix="convert it to tokenizer.json, or choose another base model",
        )
    # Some folders store padding to 128 tokens in tokenizer.json; lengths are our decision, per batch.
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    # The side decides which token stands where: encoders read the first position (only XLNet reads the last), and
    # without position ids of their own, padding on the left would make a prediction depend on its neighbours.
    tokenizer.truncation_side = "right"  # windows of long texts are counted from the beginning
    tokenizer.padding_side = "left" if config.model_type == "xlnet" else "right"
    forget_loading(tokenizer)
    give_what_is_read(tokenizer, config)
    _check_vocabulary(tokenizer, config, where)
    if words and isinstance(tokenizer, PreTrainedTokenizerFast):
        add_spaces(tokenizer)
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None:
            raise ModelError(
                "the tokenizer has neither a pad nor an end token",
                where=where,
                fix="choose another base model",
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def forget_loading(tokenizer: PreTrainedTokenizerBase) -> None:
    """Forget that a tokenizer came from a folder, which `save_pretrained` would write down."""
    for name in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(name, None)


def length_limit(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> int:
    """Return the largest number of tokens, special tokens included, that tokenizer and model both take."""
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    if isinstance(positions, int) and text.model_type in OFFSET_POSITIONS:
        positions -= (text.pad_token_id or 0) + 1
    claims = (tokenizer.model_max_length, positions)
    limits = [int(claim) for claim in claims if isinstance(claim, int | float) and 0 < claim < 1_000_000_000]
    return min([*(limits or [DEFAULT_LENGTH]), LONGEST])


def load_model(
    files: BaseFiles,
    architectures: Sequence[str],
    options: dict[str, Any],
    seed: int,
    pad_token_id: int | None = None,
) -> LoadedModel:
    """Return the pretrained network with a head of its task, new parameters drawn from ``seed``.

    Args:
        files: the base model, or a folder that GraftLM or transformers saved.
        architectures: auto classes of transformers such as ``AutoModelForSequenceClassification``; the first that
            the family has is taken.
        options: settings of the configuration: ``id2label``, ``label2id``, dropout and the like. With label
            names other than the folder's, a head found in the folder is not used: it means something else.
        seed: decides the new parameters; the generators of the caller are left as they were.
        pad_token_id: what fills rows up, for heads that look for the last token before it; None keeps the folder's.

    Raises:
        ModelError: the folder is unsafe or damaged, the family has no such head, or a part of the pretrained
            body is missing, of another shape or not finite.
    """
    verified = verify_folder(files.folder)
    stored = build_config(verified)
    config = _with_options(stored, options)
    if pad_token_id is not None:
        _pad_with(config, pad_token_id)
    model_class = model_class_of(architectures, config, files.folder)
    check_size(verified, model_class, config)
    tensors = read_tensors(verified.weights.paths)
    # A language-modelling head may share a layer with ours and is left to transformers. A classifying head, of our
    # kind or another, means its own labels: it must not come back under new names.
    saved = (stored.architectures or [model_class.__name__])[0]
    same_head = saved == model_class.__name__ and stored.id2label == config.id2label
    if "id2label" in options and saved.endswith(_CLASSIFYING_HEADS) and not same_head:
        tensors = _without_head(tensors, model_class.base_model_prefix)
    # Only the CPU generator is touched, and given back; seeding all devices would disturb a CUDA caller.
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        loaded = cast(
            "tuple[PreTrainedModel, dict[str, Any]]",
            # From memory, not from the folder: transformers then looks for no adapter, no distributed
            # checkpoint and no generation code beside the weights.
            model_class.from_pretrained(
                None,
                config=config,
                state_dict=tensors,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # looked at below: allowed in a head only
                output_loading_info=True,
                local_files_only=True,
            ),
        )
    model, information = loaded
    model.config.name_or_path = files.name
    new = _check_complete(model, information, str(files.folder))
    return LoadedModel(model, new)


def _with_options(stored: PreTrainedConfig, options: dict[str, Any]) -> PreTrainedConfig:
    config = copy.deepcopy(stored)
    # num_labels first: setting it replaces label names of another number.
    for name in sorted(options, key=lambda name: name != "num_labels"):
        if not hasattr(config, name):
            raise ModelError(
                f"{type(config).__name__} has no setting {name!r}.{nearest(name, config.to_dict())}",
                where="model options",
            )
        setattr(config, name, options[name])
    return config


def _pad_with(config: PreTrainedConfig, pad_token_id: int) -> None:
    """Set the pad token in the configuration and in its text part: families of several parts keep it there or in both.

    One that has it in neither reads the attention mask alone.
    """
    for part in (config, config.get_text_config()):
        if hasattr(part, "pad_token_id"):
            part.pad_token_id = pad_token_id


def model_class_of(
    architectures: Sequence[str], config: PreTrainedConfig, folder: Path
) -> type[PreTrainedModel]:
    """Return the concrete class; the auto classes themselves insist on looking into a folder or the hub.

    Raises:
        ModelError: the family has none of these heads, or reads padding.
    """
    known = [name for name in dir(modeling_auto) if name.startswith("AutoModel")]
    for name in architectures:
        if name not in known:
            raise ModelError(f"transformers has no {clip(name)}.{nearest(name, known)}")
    where = str(folder if folder.suffix == ".json" else folder / "config.json")
    require_unread_padding(mapped_class("AutoModel", config), config, where)
    found = next((each for name in architectures if (each := mapped_class(name, config)) is not None), None)
    if found is None:
        others = [name for name in known if name.startswith("AutoModelFor") and mapped_class(name, config)]
        saved = ", ".join(config.architectures or []) or "unnamed"
        raise ModelError(
            f"a {config.model_type} model ({saved}) cannot be an {' or '.join(architectures)}; it can be: "
            f"{', '.join(others) or 'no model with a head'}",
            where=where,
            fix="choose another base model"
            + (
                ": one that writes, such as google-t5/t5-small, facebook/bart-base or openai-community/gpt2"
                if "AutoModelForSeq2SeqLM" in architectures
                else ""
            ),
        )
    return found


def architecture_of(model: PreTrainedModel, architectures: Sequence[str]) -> str:
    """Return the auto class of transformers that loads this model, out of those that a task may have."""
    return next(name for name in architectures if mapped_class(name, model.config) is not None)


def mapped_class(architecture: str, config: PreTrainedConfig) -> type[PreTrainedModel] | None:
    """Return what an auto class of transformers makes of a configuration; None where the family has no such head."""
    # The mapping has no public name that can be derived from the auto class. It is asked for this family alone: to know
    # whether it is empty it would load the files of all.
    mapping = vars(getattr(modeling_auto, architecture)).get("_model_mapping")
    if mapping is None or type(config) not in mapping:
        return None
    # The families of BERT have a causal head for models trained as decoders. An encoder with it would read what it is
    # asked to write, and so would XLNet, which was trained on places that were hidden one by one.
    encoder = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    if architecture == "AutoModelForCausalLM" and (encoder or getattr(config, "attn_type", "uni") == "bi"):
        return None
    found = mapping[type(config)]
    return found[0] if isinstance(found, tuple) else found


def read_tensors(paths: tuple[Path, ...]) -> dict[str, Tensor]:
    """Return every tensor of safetensors files whose headers were checked, numbers with a point in float32.

    Raises:
        ModelError: one holds NaN or infinity.
    """
    tensors: dict[str, Tensor] = {}
    for path in paths:
        with safe_open(path, framework="pt", device="cpu") as file:
            for name in file.keys():  # noqa: SIM118 - the file is not a dictionary
                # A copy in memory: training must not depend on a mapped file that somebody may replace.
                tensor = cast(Tensor, file.get_tensor(name))
                tensor = tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    raise ModelError(
                        f"tensor {clip(name)} holds values that are not finite (NaN or infinity in float32)",
                        where=str(path),
                        fix="this checkpoint diverged or is damaged; use another one",
                    )
                tensors[name] = tensor
    return tensors


def _without_head(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors of the body; all of them where the folder holds a bare body without prefix."""
    body = {name: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}
    return body or tensors


def _check_complete(model: PreTrainedModel, information: dict[str, Any], where: str) -> list[str]:
    """Return the new parameters; refuse new ones in the pretrained body, where only a pooler may be new."""
    prefix = f"{model.base_model_prefix}." if hasattr(model, model.base_model_prefix) else ""

    def in_body(name: str) -> bool:
        return name.startswith(prefix) and not name.removeprefix(prefix).startswith("pooler.")

    mismatched = sorted(cast("set[tuple[str, Any, Any]]", information["mismatched_keys"]))
    for name, found, expected in mismatched:
        if in_body(name):
            raise ModelError(
                f"tensor {clip(name)} has the shape {tuple(found)}, the configuration says {tuple(expected)}",
                where=where,
                fix="config.json and the weights do not belong together; download or save the model again",
            )
    missing = sorted({*information["missing_keys"], *(name for name, _, _ in mismatched)})
    lost = [name for name in missing if in_body(name)]
    if lost:
        shown = ", ".join(lost[:5]) + (" ..." if len(lost) > 5 else "")
        raise ModelError(
            f"{len(lost)} tensors of the pretrained body are missing from the weights: {shown}",
            where=where,
            fix="they would be random; download or save the model again, or choose the right architecture",
        )
    _check_no_layer_left(model, information["unexpected_keys"], where)
    return missing


def _check_no_layer_left(model: PreTrainedModel, unexpected: set[str], where: str) -> None:
    """Refuse weights with more layers than the configuration: the model would silently lose them."""
    known = {re.sub(r"\.\d+\.", ".#.", name) for name in model.state_dict()}
    known |= {name.removeprefix(f"{model.base_model_prefix}.") for name in known}
    left = sorted(name for name in unexpected if "." in name and re.sub(r"\.\d+\.", ".#.", name) in known)
    if left:
        raise ModelError(
            f"the weights hold {len(left)} tensors of layers that the configuration does not have: {left[0]}",
            where=where,
            fix="config.json and the weights do not belong together; download or save the model again",
        )


def _check_vocabulary(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, where: str) -> None:
    rows = getattr(config.get_text_config(), "vocab_size", None)
    needed = max(tokenizer.get_vocab().values(), default=-1) + 1
    if isinstance(rows, int) and needed > rows:
        raise ModelError(
            f"the tokenizer gives ids up to {needed - 1}, the embedding of the model has {rows} rows",
            where=where,
            fix="use the tokenizer that was saved with this model",
        )


@contextmanager
def quiet_transformers() -> Generator[None]:
    """Silence transformers while it loads or saves: what it would say about new heads, `LoadedModel` says."""
    logger, bar = logging.getLogger("transformers"), transformers_logging.is_progress_bar_enabled()
    level = logger.level
    logger.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bar:
            transformers_logging.enable_progress_bar()
