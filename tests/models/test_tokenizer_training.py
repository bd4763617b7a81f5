from __future__ import annotations

import random
import re
import time
import unicodedata
from collections import Counter

import numpy as np
import pytest
import torch
import transformers
from tests.models.raw_text import DATA, MISSING, any_texts, novel, sentences
from tests.models.trained import KINDS, SIZES, trained
from tests.tiny import tiny_config
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from graftlm.errors import ConfigurationError, DataError
from graftlm.models import word_counts
from graftlm.models.base_model import load_tokenizer, quiet_transformers
from graftlm.models.locating import locate
from graftlm.models.special_tokens import ROLES, sentinels, special_tokens
from graftlm.models.tokenizer_options import TokenizerOptions
from graftlm.models.tokenizer_report import fertility
from graftlm.models.tokenizer_training import train_tokenizer
from graftlm.models.word_counts import alphabet, count_words

FAMILIES = {"bert": "bert", "roberta": "bart", "t5": "t5", "decoder": "gpt2"}
ALL = [(kind, layout) for kind in KINDS for layout in ROLES]


def train(texts, kind, layout, size=None, normalisation=None):
    options = TokenizerOptions(vocabulary_size=size or SIZES[kind], normalisation=normalisation)
    return train_tokenizer(iter(texts), options, kind, layout)


def written(tokenizer):
    return tokenizer.backend_tokenizer.to_str()


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


@pytest.mark.parametrize(("kind", "layout"), ALL)
def test_size_and_special_tokens(kind, layout):
    tokenizer = trained(kind, layout)
    size = SIZES[kind]
    assert sorted(tokenizer.get_vocab().values()) == list(range(size)) and len(tokenizer) == size
    names = special_tokens(layout)
    assert tokenizer.convert_ids_to_tokens(range(len(names))) == names
    for role, token in ROLES[layout].items():
        assert getattr(tokenizer, role) == token
    behind = [f"<extra_id_{number}>" for number in range(99, -1, -1)] if layout == "t5" else []
    assert tokenizer.convert_ids_to_tokens(range(size - len(behind), size)) == behind
    assert set(tokenizer.all_special_tokens) == {*names, *behind}


def test_templates():
    def pair(layout):
        encoded = trained("wordpiece", layout)("a", "b", return_token_type_ids=True)
        tokens = trained("wordpiece", layout).convert_ids_to_tokens(encoded["input_ids"])
        return " ".join(tokens), encoded["token_type_ids"]

    assert pair("bert") == ("[CLS] a [SEP] b [SEP]", [0, 0, 0, 1, 1])
    assert pair("roberta") == ("<s> a </s> </s> b </s>", [0] * 6)
    assert pair("t5") == ("a </s> b </s>", [0] * 4)
    assert pair("decoder") == ("<s> a <s> b", [0] * 4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_texts_give_the_same_tokenizer(kind, seed):
    # Many ties: words that occur equally often.
    random_ = random.Random(seed)
    texts, size = sentences(seed, 80), SIZES[kind] + 20
    first = written(train(texts, kind, "t5", size))
    for _ in range(3):
        random_.shuffle(texts)
        assert written(train(texts, kind, "t5", size)) == first
    assert written(train(sentences(seed + 1, 80), kind, "t5", size)) != first


@pytest.mark.parametrize("layout", ["bert", "t5"])
@pytest.mark.parametrize("kind", KINDS)
def test_names_of_special_tokens_in_a_text_are_text(kind, layout, seed):
    names = [*special_tokens(layout), *sentinels(layout)[-3:]]
    html = [f"{name} {name}{name} a{name}b" for name in names] * 30
    # A corpus full of them, one without: in neither are they read as what they name.
    for texts in (sentences(seed) + html, [re.sub(r"[<>\[\]/]", "", text) for text in sentences(seed)]):
        tokenizer = train(texts, kind, layout)
        marks = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        for name in names:
            for text in (name, f"a{name}b", f"{name}{name}", f"go {name} go", name.upper(), f" {name}"):
                found = ids(tokenizer, text)
                assert not marks & set(found), (name, text)
                assert tokenizer.unk_token_id not in found, (name, text)


@pytest.mark.parametrize(("kind", "layout"), ALL)
def test_a_saved_tokenizer_comes_back_the_same(kind, layout, seed, tmp_path):
    tokenizer = trained(kind, layout)
    config = tiny_config(FAMILIES[layout], len(tokenizer))
    with quiet_transformers():
        transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    ours = load_tokenizer(locate(str(tmp_path)))
    plain = transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts = [*any_texts(seed), *sentences(seed + 1, 20), "</s> <pad> [MASK] <extra_id_0>"]
    expected = [tokenizer(text, "pair " + text)["input_ids"] for text in texts]
    for again in (ours, plain):
        assert [again(text, "pair " + text)["input_ids"] for text in texts] == expected
        assert again.special_tokens_map == tokenizer.special_tokens_map
        assert again.all_special_ids == tokenizer.all_special_ids
        assert again.get_vocab() == tokenizer.get_vocab()
        assert again.decode(expected[0]) == tokenizer.decode(expected[0])


@pytest.mark.parametrize("layout", list(ROLES))
def test_bytes_lose_nothing(layout, seed):
    tokenizer = trained("byte_bpe", layout)
    for text in [*any_texts(seed, 200), "  two  spaces \n\n\tand tabs ", "e\u0301 \u1112\u1161 ☃\ufe0f"]:
        assert tokenizer.decode(ids(tokenizer, text)) == text
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_offsets_of_bytes_leave_out_the_space(seed):
    tokenizer = trained("byte_bpe", "roberta")
    text = sentences(seed)[0].replace("  ", " ")
    encoded = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    for token, (start, end) in zip(tokens, encoded["offset_mapping"], strict=True):
        assert text[start:end] == token.removeprefix("Ġ")


def test_chinese_characters_are_words(seed):
    characters = [chr(code) for code in random.Random(seed).sample(range(0x4E00, 0x9FA5), 120)]
    random_ = random.Random(seed)
    texts = ["".join(random_.choices(characters, k=30)) + "。" for _ in range(200)] + ["\u9fa5"]
    # Special tokens, what is typed in lower case, its letters and digits inside words, and the Chinese ones.
    tokenizer = train(texts, "wordpiece", "bert", size=5 + 68 + 36 + 122)
    assert {*characters, "。", "\u9fa5"} <= set(tokenizer.get_vocab())
    for text in texts[:50]:
        assert tokenizer.convert_ids_to_tokens(ids(tokenizer, text)) == list(text)


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_the_rarest_characters_are_unknown_but_what_is_typed_is_not(kind, seed):
    texts = sentences(seed, 500) * 3
    assert sum(map(len, texts)) > 30_000
    tokenizer = train([*texts, "☃ é"], kind, "bert", normalisation="none")
    assert tokenizer.convert_ids_to_tokens(ids(tokenizer, "☃")[-1:]) == [tokenizer.unk_token]
    printable = "".join(map(chr, range(33, 127)))
    assert tokenizer.unk_token_id not in ids(tokenizer, f"{printable} {' '.join(printable)}")


def test_coverage():
    words = {"aaaa": 9, "bé": 3, "z☃": 1, "漢": 2, "字": 1}  # 48 characters
    assert alphabet(words, 1.0) == set("abézz☃漢字")
    assert alphabet(words, 1 - 1.5 / 48) == set("abézz漢字")
    assert alphabet(words, 1 - 3.5 / 48) == set("abéz漢")
    assert alphabet(words, 1 - 4.5 / 48) == set("abéz")
    assert alphabet(words, 0.0) == set("abz")


@pytest.mark.parametrize("most", [3, 1000])
def test_words_are_counted_as_the_library_divides_them(seed, monkeypatch, most):
    monkeypatch.setattr(word_counts, "_MOST_RUNS", most)
    texts = [*sentences(seed, 50), "字 漢字abc，don't", "x" * 300]
    pipelines = [
        (normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()),
        (
            normalizers.NFKC(),
            pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]),
        ),
        (None, pre_tokenizers.WhitespaceSplit()),
    ]
    for normalizer, pre_tokenizer in pipelines:
        expected = Counter()
        for text in texts:
            normalised = normalizer.normalize_str(text) if normalizer else text
            expected.update(word for word, _ in pre_tokenizer.pre_tokenize_str(normalised))
        assert count_words(iter(texts), normalizer, pre_tokenizer) == expected


def test_the_rarest_words_are_forgotten_where_there_are_too_many(monkeypatch):
    texts = [f"{word} " * (1 + word % 5) for word in range(60)]
    everything = count_words(texts, None, pre_tokenizers.WhitespaceSplit())
    monkeypatch.setattr(word_counts, "_MOST_WORDS", 40)
    monkeypatch.setattr(word_counts, "_MOST_RUNS", 60)
    some = count_words(texts, None, pre_tokenizers.WhitespaceSplit())
    assert some == {word: count for word, count in everything.items() if count > 2} and len(everything) == 60


@pytest.mark.parametrize("kind", KINDS)
def test_normalisation(kind, seed):
    text = "Éa\u0301 ﬁ \ud55c가"
    expected = {
        "lowercase": "ea ﬁ",
        "none": text,
        "nfc": unicodedata.normalize("NFC", text),
        "nfkc": unicodedata.normalize("NFKC", text),
    }
    for normalisation, wanted in expected.items():
        normalizer = train(
            [text * 300, *sentences(seed)], kind, "decoder", SIZES[kind], normalisation
        ).backend_tokenizer.normalizer
        found = text if normalizer is None else normalizer.normalize_str(text)
        assert found.startswith(wanted), (normalisation, found)
        if normalisation == "lowercase" and kind != "wordpiece":
            assert found.endswith("\ud55c가")  # BERT's takes Korean syllables apart
    customary = {"wordpiece": "lowercase", "byte_bpe": "none", "unigram": "nfkc"}[kind]
    texts = sentences(seed)
    assert written(train(texts, kind, "bert")) == written(train(texts, kind, "bert", normalisation=customary))


@pytest.mark.parametrize("normalisation", ["none", "nfkc", "lowercase"])
def test_pieces_of_bytes_are_those_that_the_library_learns_from_the_texts(normalisation, seed):
    draw = random.Random(seed)
    between = [
        " ",
        " ",
        " ",
        "\n",
        "\n\n",
        "    ",
        "\t",
        " \n  ",
        "\u00a0",
        "\u3000",
        ", ",
        "'s ",
        "-",
        "...",
    ]
    texts = [
        "".join(word + draw.choice(between) for word in text.replace("\0", "").split())
        for text in [*sentences(seed), *any_texts(seed)]
    ]
    texts += ["ab" * 400, "\n" * 300, " 漢字" * 200]
    found = train(texts, "byte_bpe", "decoder", 700, normalisation).backend_tokenizer
    backend = Tokenizer(models.BPE())
    if found.normalizer is not None:
        backend.normalizer = found.normalizer
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=700, min_frequency=2, special_tokens=special_tokens("decoder"), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    # Runs of more than a hundred characters are learnt from in parts.
    parts = [re.sub(r"(\S{100})(?=\S)", "\\1\0", text).split("\0") for text in texts]
    backend.train_from_iterator([part for each in parts for part in each], trainer)
    assert backend.get_vocab() == found.get_vocab()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("texts", [[], [""], [" ", "\n\t"]])
def test_no_text(kind, texts):
    with pytest.raises(DataError, match="no text"):
        train(texts, kind, "bert")


@pytest.mark.parametrize("kind", KINDS)
def test_too_little_text_says_what_was_reached(kind, seed):
    texts = sentences(seed, 100)
    with pytest.raises(DataError, match="fewer than the 20,000 asked for") as caught:
        train(texts, kind, "t5", 20_000)
    assert caught.value.where == "tokenizer.vocabulary_size"
    reached = int(re.search(r"ask for (\d+) or fewer", caught.value.fix)[1])
    assert len(train(texts, kind, "t5", reached)) == reached
    with pytest.raises(DataError):
        train(texts, kind, "t5", reached + 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["bert", "t5"])
def test_a_vocabulary_too_small_for_the_alphabet(kind, layout, seed):
    with pytest.raises(ConfigurationError, match="too small") as caught:
        train(sentences(seed), kind, layout, 50)
    needed = int(re.search(r"more than (\d+)", caught.value.fix)[1])
    assert len(train(sentences(seed), kind, layout, needed + 1)) == needed + 1
    with pytest.raises(ConfigurationError):
        train(sentences(seed), kind, layout, needed - 1)


@pytest.mark.parametrize("kind", KINDS)
def test_silence_and_generators(kind, seed, capfd):
    state = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    train(sentences(seed), kind, "bert")
    assert capfd.readouterr() == ("", "")
    assert torch.equal(state[0], torch.get_rng_state())
    assert (state[1] == np.random.get_state()[1]).all() and state[2] == random.getstate()


@pytest.mark.real
@pytest.mark.skipif(not DATA.is_dir(), reason=MISSING)
@pytest.mark.parametrize("kind", ["wordpiece", "byte_bpe"])
def test_a_novel(kind):
    lines = list(novel())
    tokenizer = train(lines, kind, "bert", 2000)
    facts = fertility(tokenizer, lines[:300])
    assert facts.tokens_per_word < 1.5 and facts.bytes_per_token > 2.8
    assert facts.unknown_share < 1e-4
    assert (
        tokenizer.decode(ids(tokenizer, "mistress mary went into the garden"))
        == "mistress mary went into the garden"
    )
    assert len(ids(tokenizer, " garden")) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_giant_word_takes_no_time_by_its_square(kind, seed):
    """Encoded files, or a script without spaces; the trainers of the library would take minutes."""
    letters = "".join(random.Random(seed).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=60_000))
    began = time.process_time()
    train_tokenizer([letters, "the cat sat on the mat"], TokenizerOptions(vocabulary_size=330), kind, "bert")
    assert time.process_time() - began < 15
