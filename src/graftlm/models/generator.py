"""A small generator beside a network: it writes the tokens that the network learns to tell from those of a text.

Clark et al., "ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators", 2020, section 3.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from graftlm.models.new_model import new_model

PREFIX = "generator."
"""What the names of its weights begin with."""
_NARROWEST = 8


def add_generator(model: PreTrainedModel, size: float, seed: int) -> list[str]:
    """Put a new generator beside a network, which keeps its class; return the names of the weights that it has alone.

    It has as many layers, of ``size`` times the width, with attention heads as wide as those of the network where it is
    wide enough. Its embeddings (of tokens, positions and segments, with their norm) are those of the network, and so is
    its projection onto the vocabulary.

    Args:
        model: of the family of ELECTRA, whose embeddings have a width of their own.
        size: above 0, 1 at most.
        seed: decides its weights; the generators of the caller are left as they were.
    """
    # Its first numbers shall not be those of the network, which come from the same seed.
    own_seed = int(np.random.SeedSequence([seed, 1]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    generator: Any = new_model(_narrower(model.config, size), "AutoModelForMaskedLM", own_seed)
    body: Any = model.base_model
    generator.base_model.embeddings = body.embeddings
    generator.get_output_embeddings().weight = body.embeddings.word_embeddings.weight
    attach_generator(model, generator)
    return [name for name, _ in model.named_parameters() if name.startswith(PREFIX)]


def continue_generator(
    model: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerBase, known: PreTrainedTokenizerBase
) -> str | None:
    """Give the generator beside a network the weights of one that was saved; return why not, where it does not fit.

    Args:
        model: with its generator, see `add_generator`.
        folder: of the saved generator, a masked language model of its own.
        tokenizer: of the model.
        known: of the network before words were added.
    """
    if tokenizer is not known:
        return "words were added to the tokenizer"
    own = {name: weight for name, weight in model.named_parameters() if name.startswith(PREFIX)}
    backend: Any = tokenizer.backend_tokenizer  # pyright: ignore[reportAttributeAccessIssue]
    try:
        if tokens_of(folder) != backend.to_str():
            return "it has another tokenizer"
        saved = load_file(folder / "model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        return f"it cannot be read ({type(error).__name__})"
    if any(
        getattr(saved.get(name.removeprefix(PREFIX)), "shape", None) != each.shape
        for name, each in own.items()
    ):
        return "it has another size (objective.generator_size)"
    with torch.no_grad():
        for name, weight in own.items():
            weight.copy_(saved[name.removeprefix(PREFIX)])
    return None


def tokens_of(folder: Path) -> str:
    """Return the saved fast tokenizer of a folder, as its backend writes it."""
    return Tokenizer.from_str((folder / "tokenizer.json").read_text(encoding="utf-8")).to_str()


def attach_generator(model: PreTrainedModel, generator: PreTrainedModel) -> None:
    """Let a generator stand beside a network: it is trained, moved and kept in checkpoints with it."""
    setattr(model, PREFIX[:-1], generator)


def remove_generator(model: PreTrainedModel) -> None:
    """Leave the network alone, as it is saved: only its training needs a generator."""
    if generator_of(model) is not None:
        delattr(model, PREFIX[:-1])


def generator_of(model: PreTrainedModel) -> PreTrainedModel | None:
    """Return the generator that stands beside a network, or None."""
    found = getattr(model, PREFIX[:-1], None)
    return found if isinstance(found, PreTrainedModel) else None


def networks(model: PreTrainedModel) -> list[PreTrainedModel]:
    """Return the generator beside a network, where there is one, and the network itself."""
    generator = generator_of(model)
    return [model] if generator is None else [generator, model]


def draw(logits: Tensor, chances: Tensor) -> Tensor:
    """Return a token for each place, drawn from ``softmax(logits)``; no gradient flows through it.

    The vocabulary is halved until one token is left; each half is taken with its share of the probability, and each of
    these decisions has a number of its own. A single number, compared with running sums over the vocabulary, would
    meet as many borders as there are tokens, all moved by rounding: the split into micro-batches would change tokens
    every few steps. Of these decisions a draw meets 15 in a vocabulary of 30,000.

    Args:
        logits: [places, vocabulary].
        chances: float32 in [0, 1), [places, decisions], see `decisions`.

    Raises:
        ValueError: too few decisions for the vocabulary.
    """
    with torch.no_grad():
        room = 2 ** chances.shape[1] - logits.shape[1]
        if room < 0:
            raise ValueError(f"{chances.shape[1]} decisions do not choose among {logits.shape[1]} tokens")
        sums = [functional.pad(torch.softmax(logits.float(), dim=1), (0, room)).unflatten(1, (-1, 2))]
        while sums[-1].shape[1] > 1:
            sums.append(sums[-1].sum(dim=2).unflatten(1, (-1, 2)))
        places = torch.arange(len(logits), device=logits.device)
        chosen = torch.zeros_like(places)
        for halves, chance in zip(reversed(sums), chances.unbind(1), strict=True):
            first, second = halves[places, chosen].unbind(1)
            chosen = 2 * chosen + (chance * (first + second) >= first)
        return chosen


def decisions(vocabulary: int) -> int:
    """Return how many numbers a token of a vocabulary is drawn with."""
    return max(1, (vocabulary - 1).bit_length())


def _narrower(config: PreTrainedConfig, size: float) -> PreTrainedConfig:
    """Return the configuration of a generator (as ``get_generator_config`` of the published code)."""
    narrow: Any = copy.deepcopy(config)
    head = narrow.hidden_size // narrow.num_attention_heads
    width = max(_NARROWEST, round(size * narrow.hidden_size))
    heads = max(1, width // head)
    width -= width % heads
    narrow.intermediate_size = narrow.intermediate_size * width // narrow.hidden_size
    narrow.hidden_size, narrow.num_attention_heads = width, heads
    return narrow
