from __future__ import annotations

import pytest
from tests.models.raw_text import any_texts, sentences
from tests.models.trained import KINDS, trained
from transformers import BertJapaneseTokenizer

from graftlm.data.words import text_offsets
from graftlm.errors import DataError, ModelError
from graftlm.models.tokenizer_report import TokenizerFacts, fertility, side_by_side


def plainly(tokenizer, texts):
    """The same facts, a token and a word at a time."""
    tokens = unknown = size = words = whole = 0
    for text in texts:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        pairs = list(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True))
        tokens, size = tokens + len(pairs), size + len(text.encode())
        unknown += sum(index == tokenizer.unk_token_id for index, _ in pairs)
        for start, end in text_offsets(text):
            words += 1
            touching = [(index, text[a:b].strip()) for index, (a, b) in pairs if a < end and b > start]
            whole += (
                len(touching) == 1
                and touching[0][1] == text[start:end]
                and touching[0][0] != tokenizer.unk_token_id
            )
    return TokenizerFacts(tokens / words, unknown / tokens, size / tokens, whole / words)


@pytest.mark.parametrize("kind", KINDS)
def test_facts(kind, seed):
    texts = [*sentences(seed, 300), *any_texts(seed, 20), "", "ba's (ba) b\u00e9 ☃☃ 你好"]
    facts = fertility(trained(kind), iter(texts))
    expected = plainly(trained(kind), texts)
    assert facts == expected
    assert (facts.unknown_share == 0) == (kind == "byte_bpe")
    assert 0.1 < facts.whole_word_share < 0.9


def test_side_by_side_reads_the_texts_once(seed):
    texts = sentences(seed, 100)
    both = side_by_side({"new": trained("wordpiece"), "base": trained("byte_bpe")}, iter(texts))
    assert list(both) == ["new", "base"]
    assert both["new"] == fertility(trained("wordpiece"), texts)
    assert both["base"] == fertility(trained("byte_bpe"), texts)


def test_what_cannot_be_said(tmp_path):
    with pytest.raises(DataError, match="no word"):
        fertility(trained("wordpiece"), ["", " \n"])
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    slow = BertJapaneseTokenizer(tmp_path / "vocab.txt", word_tokenizer_type="basic")
    with pytest.raises(ModelError, match="slow tokenizer"):
        fertility(slow, ["a"])
