"""What training must know about the tokens of a tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from graftlm.errors import ModelError
from graftlm.models.word_starts import continues_word, special

_SENTINEL = "<extra_id_{}>"


@dataclass(frozen=True)
class Template:
    """The special tokens around texts.

    Args:
        parts: those before the first text, between texts, and behind the last; one more than there are texts.
        segments: the segment id of each special token and, between them, of each text, in the order of reading; for
            tokenizers without segments all 0.
    """

    parts: tuple[tuple[int, ...], ...]
    segments: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """How many special tokens there are."""
        return sum(map(len, self.parts))


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens of a tokenizer.

    Args:
        size: rows of the embedding.
        ordinary: which tokens stand for text, bool [size].
        continues_word: which go on with a word, bool [size]; None where the pieces do not tell.
        padding: model argument name -> what fills rows up.
        mask: the token that hides others, or None.
        beginning: the token before a text that is written, or None.
        end: the token behind it, or None.
        sentinels: the tokens that stand for the first, second, ... span that was cut out.
        single: around one text.
        pair: around two.
    """

    size: int
    ordinary: NDArray[np.bool_]
    continues_word: NDArray[np.bool_] | None
    padding: dict[str, int]
    mask: int | None
    beginning: int | None
    end: int | None
    sentinels: tuple[int, ...]
    single: Template
    pair: Template

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, size: int) -> Vocabulary:
        """Read everything off a fast tokenizer; ``size`` are the rows of the embedding, which may be more."""
        known = len(tokenizer)
        ordinary, continues = np.zeros(size, dtype=np.bool_), np.zeros(size, dtype=np.bool_)
        ordinary[:known] = ~special(tokenizer)[:size]
        try:
            continues[:known] = continues_word(tokenizer)[:size]
        except ModelError:  # letters of a genome, say; only who hides whole words must know
            continues = None
        ids: dict[str, int] = tokenizer.get_vocab()
        numbers = range(sum(token.startswith("<extra_id_") for token in ids))
        padding = tokenizer.pad_token_id
        assert isinstance(padding, int)
        segments = "token_type_ids" in tokenizer.model_input_names
        return cls(
            size=size,
            ordinary=ordinary,
            continues_word=continues,
            padding={"input_ids": padding, **({"token_type_ids": 0} if segments else {})},
            mask=_first(tokenizer, "mask"),
            beginning=_first(tokenizer, "bos", "eos", "cls"),
            end=_first(tokenizer, "eos", "sep"),
            sentinels=tuple(ids[_SENTINEL.format(number)] for number in numbers),
            single=_template(tokenizer, ordinary, 1),
            pair=_template(tokenizer, ordinary, 2),
        )


def _first(tokenizer: Any, *roles: str) -> int | None:
    """Return the token of the first of these roles that the tokenizer has."""
    ids = (getattr(tokenizer, f"{role}_token_id") for role in roles)
    return next((index for index in ids if isinstance(index, int)), None)


def _template(tokenizer: PreTrainedTokenizerBase, ordinary: NDArray[np.bool_], texts: int) -> Template:
    """Return the special tokens around short texts, which are the same around any."""
    tokenise: Any = tokenizer
    # What the tokenizer has no piece for is the unknown token, or nothing at all.
    pieces = (tokenise.decode([index]) for index in np.flatnonzero(ordinary).tolist())
    short = next(
        text for text in chain(["1"], pieces) if tokenise(text, add_special_tokens=False)["input_ids"]
    )
    encoded = tokenise(*[short] * texts, return_special_tokens_mask=True)
    ids = np.asarray(encoded["input_ids"])
    segments = np.asarray(encoded.get("token_type_ids", np.zeros_like(ids)))
    parts: list[tuple[int, ...]] = []
    numbers: list[tuple[int, ...]] = []
    at = 0
    text = np.flatnonzero(np.asarray(encoded["special_tokens_mask"]) == 0)
    # A text of one character may be several tokens, all with one segment id; nothing special stands among them.
    runs = np.split(text, np.flatnonzero(np.diff(text) > 1) + 1)
    for run in runs:
        parts.append(tuple(ids[at : run[0]].tolist()))
        numbers += [tuple(segments[at : run[0]].tolist()), (int(segments[run[0]]),)]
        at = int(run[-1]) + 1
    parts.append(tuple(ids[at:].tolist()))
    numbers.append(tuple(segments[at:].tolist()))
    return Template(tuple(parts), tuple(numbers))


def give_what_is_read(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
    """Let a tokenizer give what its network reads: segment ids only where that has an embedding for them.

    So it is saved, too. Without a word about it, transformers 5 takes the segment ids of a pair for zeros.
    """
    segments = bool(getattr(config, "type_vocab_size", 0)) or config.model_type == "xlnet"
    names = ["input_ids", *(["token_type_ids"] if segments else []), "attention_mask"]
    tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = names
