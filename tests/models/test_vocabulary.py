"""What training must know about tokens, of tokenizers that know little of language."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from graftlm.errors import ConfigurationError
from graftlm.models.vocabulary import Template, Vocabulary
from graftlm.pretraining_objectives.masked_language_modelling import MaskedLanguageModelling

NAMES = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
IDS = {token: index for index, token in enumerate([*NAMES.values(), *"ACGT"])}
PAIR = "[CLS] $A [SEP] $B:1 [SEP]:1"


def genome(known: bool, pair: str = PAIR) -> PreTrainedTokenizerFast:
    """Return a tokenizer of four letters, which takes any other for unknown, or leaves it out."""
    backend = Tokenizer(models.WordLevel(IDS, unk_token="[UNK]") if known else models.BPE(dict(IDS), []))
    split: Any = pre_tokenizers.Split("", "isolated")
    backend.pre_tokenizer = split
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair=pair, special_tokens=[(name, IDS[name]) for name in ("[CLS]", "[SEP]")]
    )
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=names, **NAMES)


@pytest.mark.parametrize("known", [True, False])
def test_a_tokenizer_without_digits_and_words(known: bool) -> None:
    vocabulary = Vocabulary.of(genome(known), len(IDS))
    assert vocabulary.single == Template(((2,), (3,)), ((0,), (0,), (0,)))
    assert vocabulary.pair == Template(((2,), (3,), (3,)), ((0,), (0,), (0,), (1,), (1,)))
    assert np.flatnonzero(vocabulary.ordinary).tolist() == [IDS[letter] for letter in "ACGT"]
    assert vocabulary.continues_word is None
    config = transformers.BertConfig()
    MaskedLanguageModelling(pairs="next_sentence").check(config, vocabulary)
    with pytest.raises(ConfigurationError, match="where words begin") as caught:
        MaskedLanguageModelling(unit="word").check(config, vocabulary)
    assert caught.value.where == "objective.unit"


@pytest.mark.parametrize("pair", ["[CLS] $A $B:1 [SEP]:1", "$A [SEP] $B:1 [SEP]:1", "[CLS] $A [SEP] $B:1"])
def test_pairs_need_a_token_before_between_and_behind(pair: str) -> None:
    vocabulary = Vocabulary.of(genome(True, pair), len(IDS))
    with pytest.raises(ConfigurationError, match="before, between and behind"):
        MaskedLanguageModelling(pairs="sentence_order").check(transformers.BertConfig(), vocabulary)
