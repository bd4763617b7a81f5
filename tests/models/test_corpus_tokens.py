"""The tokens of sentences are those that they have within their text, and whether they keep all of it."""

from __future__ import annotations

import random
import string
from typing import Any

import pytest
from tests.models.trained import KINDS, trained
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from graftlm.data.corpus.sentences import split_sentences
from graftlm.models.corpus_tokens import CorpusTokens

SPACE = "▁"
PREFIXES: dict[str, tuple[Any, Any]] = {
    "first": (None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False)),
    "always": (None, pre_tokenizers.Metaspace(prepend_scheme="always", split=False)),
    "in a sequence": (
        None,
        pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(), pre_tokenizers.Metaspace(prepend_scheme="first", split=False)]
        ),
    ),
    "normaliser": (
        normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]),
        None,
    ),
    "none": (None, pre_tokenizers.Metaspace(prepend_scheme="never", split=False)),
}


def with_bytes(prefix: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer of Llama's kind: pieces with the space before them, bytes for what is unknown."""
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), SPACE, *string.ascii_letters, ".", ","]
    merges = [(SPACE, letter) for letter in string.ascii_letters]
    tokens += ["".join(pair) for pair in merges]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    backend.normalizer, backend.pre_tokenizer = PREFIXES[prefix]
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence(steps if prefix == "none" else [*steps, decoders.Strip(" ", 1, 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", clean_up_tokenization_spaces=False
    )


def written(draw: random.Random) -> str:
    """Return some sentences, parted by spaces, line ends or blank lines."""
    words = lambda: " ".join("".join(draw.choices("abcde", k=3)) for _ in range(4)).capitalize()  # noqa: E731
    return "".join(f"{words()}.{draw.choice([' ', chr(10), chr(10) * 2])}" for _ in range(6)).rstrip()


@pytest.mark.parametrize("prefix", PREFIXES)
def test_sentences_have_the_tokens_that_they_have_within_their_text(prefix: str, seed: int) -> None:
    draw, tokenizer = random.Random(seed), with_bytes(prefix)
    texts = [written(draw) for _ in range(20)]
    tokenise = CorpusTokens(tokenizer)
    assert tokenise.divides_alike and tokenise.keeps_text
    sentences = [split_sentences(text) for text in texts]
    assert max(map(len, sentences)) > 1
    begins = [at == 0 for each in sentences for at in range(len(each))]
    found = iter(tokenise([sentence for each in sentences for sentence in each], begins))
    for text, each in zip(texts, sentences, strict=True):
        joined = [token for _ in each for token in next(found)]
        assert joined == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_what_is_cut_within_a_word_gets_no_space(seed: int) -> None:
    draw = random.Random(seed)
    word, tokenizer = "".join(draw.choices("abc", k=20_000)), with_bytes("first")
    sentences = split_sentences(word)
    begins = [at == 0 for at in range(len(sentences))]
    found = [token for ids in CorpusTokens(tokenizer)(sentences, begins) for token in ids]
    assert len(sentences) > 1 and found == tokenizer(word, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_of_our_own_tokenizers_those_of_bytes_keep_the_text(kind: Any) -> None:
    tokenise = CorpusTokens(trained(kind, "decoder"))
    assert tokenise.divides_alike
    assert tokenise.keeps_text == (kind == "byte_bpe")


def test_the_name_of_a_special_token_is_text_and_the_tokenizer_is_left_alone() -> None:
    tokenizer = trained("wordpiece", "bert")
    before = tokenizer("a [SEP] b", add_special_tokens=False)["input_ids"]
    backend: Any = tokenizer.backend_tokenizer
    written = backend.to_str()
    (found,) = CorpusTokens(tokenizer)(["a [SEP] b"], [True])
    assert tokenizer.sep_token_id not in found
    assert (
        backend.to_str() == written
        and tokenizer("a [SEP] b", add_special_tokens=False)["input_ids"] == before
    )


def test_what_divides_otherwise_is_known() -> None:
    vocabulary = {"[UNK]": 0, "a": 1, "b": 2, "a b": 3, "a\nb": 4}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]")), unk_token="[UNK]"
    )
    assert not CorpusTokens(tokenizer).divides_alike
