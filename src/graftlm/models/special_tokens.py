"""Which special tokens a new tokenizer has, and where it puts them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from tokenizers import processors
from tokenizers.processors import PostProcessor, TemplateProcessing

Layout = Literal["bert", "roberta", "t5", "decoder"]
"""Named after the model that made it known; `graftlm.models.families.special_layout` chooses."""

ROLES: Mapping[Layout, Mapping[str, str]] = {
    "bert": {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    },
    # The pad token early: RoBERTa's positions are numbered from its id, and rows of the table before it are lost.
    "roberta": {
        "bos_token": "<s>",
        "cls_token": "<s>",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    },
    "t5": {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"},
    "decoder": {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"},
}
"""Role -> token of each layout; the ids 0, 1, ... follow this order."""

_TEMPLATES: Mapping[Layout, tuple[str, str]] = {
    "bert": ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"),
    "roberta": ("<s> $A </s>", "<s> $A </s> </s> $B </s>"),
    "t5": ("$A </s>", "$A </s> $B </s>"),
    # Nothing at the end: a decoder goes on from there. The beginning makes the first word of a text predictable.
    "decoder": ("<s> $A", "<s> $A <s> $B"),
}

# As T5 has them: the first sentinel has the highest id.
_SENTINELS = tuple(f"<extra_id_{number}>" for number in reversed(range(100)))


def special_tokens(layout: Layout) -> list[str]:
    """Return the special tokens with the ids 0, 1, ..."""
    return list(dict.fromkeys(ROLES[layout].values()))


def sentinels(layout: Layout) -> tuple[str, ...]:
    """Return the special tokens with the highest ids, which stand for spans that were cut out; T5 alone has them."""
    return _SENTINELS if layout == "t5" else ()


def post_processor(layout: Layout, byte_level: bool) -> PostProcessor:
    """Return what puts the special tokens around one text or two; ``bert`` gives the second text segment id 1.

    Args:
        layout: of the special tokens.
        byte_level: whether tokens begin with the space before them, which their offsets then must not include.
    """
    single, pair = _TEMPLATES[layout]
    ids = [(token, index) for index, token in enumerate(special_tokens(layout)) if token in pair]
    template = TemplateProcessing(single=single, pair=pair, special_tokens=ids)
    return (
        processors.Sequence([processors.ByteLevel(trim_offsets=True), template]) if byte_level else template
    )
