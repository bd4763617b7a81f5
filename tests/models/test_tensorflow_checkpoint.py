"""The original BERT checkpoint: names, layout, tokens, and numbers equal to a forward pass written out in numpy."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tests.models.original_bert import CHINESE, CONFIG, TOKENS, forward, variables, write_texts
from transformers import BertForPreTraining

from graftlm.errors import MissingResource, ModelError
from graftlm.models import tensorflow_checkpoint
from graftlm.models.tensorflow_checkpoint import (
    bert_tokenizer,
    find_checkpoint,
    lowercases,
    read_bert_config,
    read_variables,
    read_vocabulary,
    weights_of,
)
from graftlm.models.tensorflow_variables import OPTIMISER


@pytest.fixture
def folder(tmp_path):
    write_texts(tmp_path / "bert", {**CONFIG, **CHINESE})
    return tmp_path / "bert"


@pytest.fixture
def values(seed):
    return {name: torch.from_numpy(each) for name, each in variables(np.random.default_rng(seed)).items()}


def test_numbers_are_those_of_the_original(folder, values, seed):
    config, unused = read_bert_config(folder)
    assert unused == sorted(CHINESE)
    weights, unknown = weights_of({**values, "output_weights": torch.zeros(3, 24)}, config, "here")
    assert unknown == ["output_weights"]
    model = BertForPreTraining(config).eval()
    model.load_state_dict(weights, strict=False)
    random = np.random.default_rng(seed)
    ids, segments = random.integers(0, 30, (4, 11)), random.integers(0, 2, (4, 11))
    real = (np.arange(11) < np.array([11, 7, 1, 9])[:, None]).astype(np.int64)
    expected = forward({name: each.numpy() for name, each in values.items()}, ids, segments, real)
    with torch.no_grad():
        found = model(*map(torch.from_numpy, (ids, real, segments)))
    for one, other in zip(expected, (found.prediction_logits, found.seq_relationship_logits), strict=True):
        shown = real.astype(bool) if one.ndim == 3 else slice(None)
        np.testing.assert_allclose(other.numpy()[shown], one[shown], rtol=1e-5, atol=1e-5)


def test_what_is_missing_or_of_another_shape_is_named(folder, values):
    config, _ = read_bert_config(folder)
    lacking = {name: each for name, each in values.items() if name != "bert/pooler/dense/bias"}
    with pytest.raises(ModelError, match="variables are missing: bert/pooler/dense/bias"):
        weights_of(lacking, config, "here")
    other = {**values, "cls/seq_relationship/output_weights": torch.zeros(3, 24)}
    with pytest.raises(ModelError, match=r"other shapes .*: cls/seq_relationship/output_weights \[3, 24\]"):
        weights_of(other, config, "here")
    turned = "bert/encoder/layer_1/intermediate/dense/kernel"
    with pytest.raises(ModelError, match=rf"{turned} \[40, 24\]"):
        weights_of({**values, turned: values[turned].T}, config, "here")


@pytest.mark.parametrize("layers", [2, 4])
def test_no_layer_is_lost_or_made_up(folder, values, layers):
    (folder / "bert_config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": layers}))
    with pytest.raises(ModelError, match=f"says {layers} layers, the checkpoint has 3"):
        weights_of(values, read_bert_config(folder)[0], "here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": "24"}, "hidden_size must be a whole number"),
        ({"vocab_size": 0}, "vocab_size must be a whole number"),
        ({"num_hidden_layers": 10**9}, "at most 1000 is accepted"),
        ({"auto_map": {"AutoModel": "evil.py"}}, "never runs code"),
        ({"hidden_dropout_prob": "much"}, "hidden_dropout_prob must be a number"),
    ],
)
def test_configurations_that_are_refused(folder, change, message):
    (folder / "bert_config.json").write_text(json.dumps({**CONFIG, **change}))
    with pytest.raises(ModelError, match=message):
        read_bert_config(folder)


def test_an_activation_that_nobody_knows(folder, values):
    (folder / "bert_config.json").write_text(json.dumps({**CONFIG, "hidden_act": "wave"}))
    with pytest.raises(ModelError, match="no BERT can be built"):
        weights_of(values, read_bert_config(folder)[0], "here")


def test_tokens(folder):
    ids = read_vocabulary(folder / "vocab.txt", 30)
    assert list(ids) == list(TOKENS)  # U+2028 ends no line
    config, _ = read_bert_config(folder)
    lower, cased = (bert_tokenizer(ids, lowercase, config) for lowercase in (True, False))
    text = "The Birds sing: Élan, 天地a naïve."
    assert lower.tokenize(text) == [
        "the",
        "bird",
        "##s",
        "sing",
        "[UNK]",
        "elan",
        ",",
        "天",
        "地",
        "a",
        "[UNK]",
        ".",
    ]
    assert cased.tokenize(text)[:2] == ["[UNK]", "[UNK]"] and cased.tokenize(text)[-2:] == ["naïve", "."]
    assert lower("a", "b")["input_ids"] == [3, 8, 4, 9, 4]
    assert lower("a", "b")["token_type_ids"] == [0, 0, 0, 1, 1]
    (folder / "vocab.txt").write_bytes("\r\n".join(TOKENS).encode())
    assert read_vocabulary(folder / "vocab.txt", 30) == ids


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[PAD]\n\xff\n", "not UTF-8"),
        ("\n".join([*TOKENS, "more"]).encode(), "31 tokens, the model has 30"),
        ("\n".join([*TOKENS[:8], "!"]).encode(), "a later line repeats the token of line 7"),
        ("\n".join(TOKENS[:5]).encode(), r"the token \[MASK\] is missing"),
        (None, "no file of at most"),
    ],
)
def test_vocabularies_that_are_refused(folder, content, message):
    (folder / "vocab.txt").unlink() if content is None else (folder / "vocab.txt").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        read_vocabulary(folder / "vocab.txt", 30)


@pytest.mark.parametrize(
    ("name", "more", "lowercase"),
    [
        ("uncased_L-2_H-128_A-2", ("The", "Bird"), True),
        ("multi_cased_L-12", (), False),
        ("chinese_L-12", (), True),
        ("mine", ("The", "Bird"), False),
    ],
)
def test_whether_texts_are_lower_cased(tmp_path, name, more, lowercase):
    ids = {token: number for number, token in enumerate([*TOKENS, *more])}
    found, reason = lowercases(tmp_path / name, ids)
    assert found is lowercase
    assert (name in reason) is ("cased" in name)


def test_which_checkpoint_is_meant(tmp_path):
    assert find_checkpoint(tmp_path) is None
    for name in ("model.ckpt-20", "model.ckpt-100"):
        (tmp_path / f"{name}.index").touch()
    with pytest.raises(ModelError, match=r"2 checkpoints: model\.ckpt-100, model\.ckpt-20"):
        find_checkpoint(tmp_path)
    for given in ("model.ckpt-20", "model.ckpt-20.index"):
        assert find_checkpoint(tmp_path / given) == tmp_path / "model.ckpt-20"
    (tmp_path / "bert_model.ckpt.index").touch()
    assert find_checkpoint(tmp_path) == tmp_path / "bert_model.ckpt"
    assert find_checkpoint(tmp_path / "pytorch_model.bin") is None


def test_without_tensorflow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorflow_checkpoint.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingResource, match=r'pip install "graftlm\[tensorflow\]"'):
        read_variables(tmp_path / "bert_model.ckpt", tmp_path)


def test_what_optimisers_keep():
    left = (
        "global_step",
        "beta1_power",
        "bert/pooler/dense/bias/adam_m",
        "bert/pooler/dense/bias/adam_v",
        "x/Adam_1",
    )
    assert all(OPTIMISER.fullmatch(name) for name in left)
    assert not OPTIMISER.fullmatch("bert/pooler/dense/bias")
