from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
import transformers
from tests.models.trained import KINDS, trained
from tests.tiny import tiny_config

from graftlm.errors import ConfigurationError, ModelError
from graftlm.models import architecture_sizes
from graftlm.models.architecture_sizes import names
from graftlm.models.architectures import architecture, special_token_ids, stored_config
from graftlm.models.base_model import (
    length_limit,
    load_model,
    load_tokenizer,
    quiet_transformers,
)
from graftlm.models.families import default_tokenizer_kind, family_of, special_layout
from graftlm.models.locating import locate
from graftlm.models.new_model import new_model

HEADS = {
    "encoder": "AutoModelForMaskedLM",
    "decoder": "AutoModelForCausalLM",
    "encoder_decoder": "AutoModelForSeq2SeqLM",
}
SMALLEST = list({name.partition("-")[0]: name for name in reversed(names())}.values())


def tokenizer_of(name):
    config = stored_config(name)
    return trained(default_tokenizer_kind(config), special_layout(config))


def config_of(name, length=16, **rest):
    tokenizer = tokenizer_of(name)
    return architecture(name, len(tokenizer), length, special_token_ids(tokenizer), **rest)


def written(folder, **settings):
    (folder / "mine.json").write_text(json.dumps(settings))
    return str(folder / "mine.json")


def test_the_table_in_the_documentation():
    rows = [line.split() for line in architecture_sizes.__doc__.splitlines() if line.endswith(" M")]
    assert [row[0] for row in rows] == names()
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    for name, layers, width, parameters, _ in rows:
        config = architecture(name, 8192, 512, special)
        with torch.device("meta"):
            model = getattr(transformers, HEADS[family_of(config)]).from_config(config)
        count = sum(parameter.numel() for parameter in model.parameters())
        assert f"{count / 1e6:.1f}" == parameters, name
        assert config.hidden_size == int(width)
        assert config.num_hidden_layers == int(layers.partition("+")[0])
        assert config.hidden_size // config.num_attention_heads == 64
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight, name


@pytest.mark.parametrize("name", SMALLEST)
def test_a_network_reads_the_whole_length(name):
    config = config_of(name, dropout=0.25)
    model = new_model(config, HEADS[family_of(config)], seed=1)
    found = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    functional = {getattr(config, key, 0.25) for key in ("dropout", "attention_dropout")}
    assert found | functional == {0.25}, name
    tokenizer = tokenizer_of(name)
    tokenizer_length = length_limit(tokenizer, config)
    assert tokenizer_length == (16 if hasattr(config, "max_position_embeddings") else 512)
    ids = torch.randint(len(tokenizer), (2, 16))
    inputs = (
        {"input_ids": ids, "labels": ids} if family_of(config) == "encoder_decoder" else {"input_ids": ids}
    )
    with torch.no_grad():
        logits = model(**inputs).logits
    assert logits.shape == (2, 16, len(tokenizer)) and torch.isfinite(logits).all()
    if name.startswith("t5"):
        return  # which begins with tables of unit variance
    # Untrained: near the uniform model.
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.randint(len(tokenizer), (32,)))
    assert abs(float(loss) - np.log(len(tokenizer))) < 1.0
    if hasattr(config, "max_position_embeddings") and config.model_type in (
        "bert",
        "roberta",
        "electra",
        "gpt2",
    ):
        with pytest.raises((IndexError, RuntimeError)), torch.no_grad():
            model(input_ids=torch.full((1, 17), 9))


@pytest.mark.parametrize("name", names())
def test_special_tokens_and_dropout(name):
    tokenizer = tokenizer_of(name)
    config = config_of(name, dropout=0.25)
    ids = {
        key: value
        for key, value in config.to_dict().items()
        if key.endswith("_token_id") and value is not None
    }
    assert all(0 <= value < len(tokenizer) for value in ids.values())
    assert config.pad_token_id == tokenizer.pad_token_id
    if family_of(config) != "encoder":
        assert config.eos_token_id == tokenizer.eos_token_id
    if family_of(config) == "encoder_decoder":
        start = tokenizer.pad_token_id if name.startswith("t5") else tokenizer.eos_token_id
        assert config.decoder_start_token_id == start
    quiet = config_of(name).to_dict()
    assert any(
        value not in (0.25, 0.0, None) for key, value in quiet.items() if "drop" in key
    ) or name.startswith(("modernbert", "llama"))


@pytest.mark.parametrize("name", ["bert-tiny", "t5-tiny"])
def test_weights_follow_the_seed_alone(name):
    config = config_of(name)
    head = HEADS[family_of(config)]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    first = new_model(config, head, seed=3)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate() and (states[2] == np.random.get_state()[1]).all()
    torch.manual_seed(11)
    again, other = new_model(config, head, seed=3), new_model(config, head, seed=4)
    assert {parameter.dtype for parameter in first.parameters()} == {torch.float32}
    assert not first.training
    differ = 0
    for (key, one), two, three in zip(
        first.named_parameters(), again.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(one, two), key
        differ += not torch.equal(one, three)
    assert differ > 5


@pytest.mark.parametrize("name", ["bert-tiny", "t5-tiny"])
def test_a_saved_model_is_a_base_model(name, tmp_path):
    config = config_of(name)
    head = HEADS[family_of(config)]
    model = new_model(config, head, seed=3)
    with quiet_transformers():
        model.save_pretrained(tmp_path)
    tokenizer_of(name).save_pretrained(tmp_path)
    files = locate(str(tmp_path))
    assert load_tokenizer(files).get_vocab() == tokenizer_of(name).get_vocab()
    loaded = load_model(files, (head,), {}, seed=0)
    assert loaded.new_parameters == []
    for key, parameter in model.named_parameters():
        assert torch.equal(parameter, loaded.model.get_parameter(key)), key
    if family_of(config) == "encoder_decoder":
        assert loaded.model.config.decoder_start_token_id == config.decoder_start_token_id


def test_the_configuration_is_left_as_it_is():
    config = config_of("bert-tiny")
    config.dtype = torch.bfloat16
    before = config.to_dict()
    model = new_model(config, "AutoModelForMaskedLM", seed=0)
    assert config.to_dict() == before
    assert model.config.dtype == torch.float32 == model.get_input_embeddings().weight.dtype
    config.hidden_size = 129
    with pytest.raises(ModelError, match="BertForMaskedLM cannot be built from this configuration"):
        new_model(config, "AutoModelForMaskedLM", seed=0)


def test_names_that_are_none():
    special = special_token_ids(trained("wordpiece"))
    with pytest.raises(
        ConfigurationError, match=r"no architecture, file or folder 'bert-smal'\. Did you mean 'bert-small'\?"
    ) as caught:
        architecture("bert-smal", 300, 16, special)
    assert "gpt2-mini" in caught.value.fix
    for name in ("", "missing.json", "/", ".", "bert", "bert-tiny.json"):
        with pytest.raises(ConfigurationError, match="no architecture"):
            architecture(name, 300, 16, special)


def test_a_file(tmp_path):
    special = special_token_ids(trained("byte_bpe", "decoder"))
    path = written(
        tmp_path, model_type="qwen3", hidden_size=32, num_hidden_layers=1, num_attention_heads=2, head_dim=8,
        num_key_value_heads=1, intermediate_size=48, max_position_embeddings=64, eos_token_id=151_645, vocab_size=9,
        dtype="bfloat16", some_token_id=7, tie_word_embeddings=True,
    )  # fmt: skip
    config = architecture(path, 420, 64, special, dropout=0.125)
    assert (config.vocab_size, config.max_position_embeddings, config.attention_dropout) == (420, 64, 0.125)
    assert (config.eos_token_id, config.pad_token_id, config.some_token_id) == (2, 1, None)
    model = new_model(config, "AutoModelForCausalLM", seed=0)
    assert type(model).__name__ == "Qwen3ForCausalLM" and model.dtype == torch.float32
    with pytest.raises(ConfigurationError, match="max_position_embeddings is 64; 65 tokens need 65"):
        architecture(path, 420, 65, special)
    path = written(
        tmp_path, model_type="roberta", max_position_embeddings=66, hidden_size=32, num_attention_heads=2
    )
    special = special_token_ids(trained("byte_bpe", "roberta"))
    assert architecture(path, 420, 64, special).max_position_embeddings == 66
    with pytest.raises(ConfigurationError, match="65 tokens need 67"):
        architecture(path, 420, 65, special)


def test_a_family_without_a_limit_has_none(tmp_path):
    path = written(tmp_path, model_type="xlnet", d_model=32, n_layer=1, n_head=2)
    special = special_token_ids(trained("wordpiece"))
    assert architecture(path, 300, 4096, special).max_position_embeddings == -1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "bert", "auto_map": {"AutoConfig": "evil.py"}}, "'auto_map' is refused"),
        ({"model_type": "berd"}, "Did you mean 'bert'"),
        ({}, "model_type None is not known"),
        ({"model_type": "bert", "num_hidden_layers": 10**9}, "at most 1000 is accepted"),
        ({"model_type": "bert", "to_dict": 1}, "is not a setting of BertConfig"),
        ({"model_type": "vit"}, "cannot learn a language"),
    ],
)
def test_files_that_are_refused(tmp_path, settings, message):
    path = written(tmp_path, **settings)
    with pytest.raises(ModelError, match=message):
        architecture(path, 300, 16, special_token_ids(trained("wordpiece")))


def test_a_size_that_is_no_number(tmp_path):
    path = written(tmp_path, model_type="bert", hidden_size="wide")
    # Early configurations of transformers 5 take anything; the network then cannot be built.
    with pytest.raises(ModelError, match=r"refuses this configuration|cannot be built"):
        new_model(
            architecture(path, 300, 16, special_token_ids(trained("wordpiece"))), HEADS["encoder"], seed=1
        )


def test_files_with_private_keys_and_kernels_lose_them(tmp_path):
    path = written(
        tmp_path, model_type="bert", _attn_implementation_internal="evil/kernel", attn_implementation="evil/x"
    )
    config = architecture(path, 300, 16, special_token_ids(trained("wordpiece")))
    assert "evil" not in json.dumps(config.to_dict(), default=str) + str(config._attn_implementation)


def test_ids_of_roles():
    roles = {"pad": 0, "cls": 2, "sep": 3, "mask": 4, "bos": 2, "eos": 3}
    bert = special_token_ids(trained("wordpiece", "bert"))
    assert bert == {f"{role}_token_id": index for role, index in roles.items()}
    t5 = special_token_ids(trained("unigram", "t5"))
    assert t5["bos_token_id"] is None and t5["mask_token_id"] is None and t5["eos_token_id"] == 1


def test_families():
    encoders = (
        "Bert Roberta XLMRoberta Electra Albert DistilBert ModernBert DebertaV2 MPNet BigBird EuroBert XLM"
    )
    decoders = "GPT2 Llama OPT Qwen3 GPTNeoX Mistral ModernBertDecoder Mamba"
    pairs = "T5 MT5 Bart MBart Pegasus Marian LongT5 Blenderbot M2M100"
    for family, known in {"encoder": encoders, "decoder": decoders, "encoder_decoder": pairs}.items():
        for name in known.split():
            with quiet_transformers():
                config = getattr(transformers, f"{name}Config")()
            assert family_of(config) == family, name
            assert default_tokenizer_kind(config) in KINDS
    written_with_bert = tiny_config("bert", 50)
    written_with_bert.is_decoder = True
    assert family_of(written_with_bert) == "decoder"
    with pytest.raises(ModelError, match="a vit model cannot learn a language"):
        family_of(transformers.ViTConfig())


@pytest.mark.parametrize(
    ("name", "kind", "layout"),
    [
        ("Bert", "wordpiece", "bert"), ("Electra", "wordpiece", "bert"), ("ModernBert", "byte_bpe", "bert"),
        ("Roberta", "byte_bpe", "roberta"), ("XLMRoberta", "unigram", "roberta"), ("Albert", "unigram", "bert"),
        ("GPT2", "byte_bpe", "decoder"), ("Llama", "byte_bpe", "decoder"), ("T5", "unigram", "t5"),
        ("MT5", "unigram", "t5"), ("Bart", "byte_bpe", "roberta"), ("MBart", "unigram", "roberta"),
    ],
)  # fmt: skip
def test_customary_tokenizers(name, kind, layout):
    config = getattr(transformers, f"{name}Config")()
    assert (default_tokenizer_kind(config), special_layout(config)) == (kind, layout)
