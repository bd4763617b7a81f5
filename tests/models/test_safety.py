from __future__ import annotations

import json
import shutil
import time

import pytest
import transformers
from tests.tiny import FAMILIES, tiny_base

from graftlm.errors import ModelError
from graftlm.models.safety import build_config, check_size, verify_folder


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return tiny_base(tmp_path_factory.mktemp("base") / "bert")


@pytest.fixture
def base(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "base")


def change(folder, name="config.json", **keys):
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def refusal(folder):
    with pytest.raises(ModelError) as caught:
        verify_folder(folder)
    return caught.value


@pytest.mark.parametrize("family", FAMILIES)
def test_honest_folders_pass(tmp_path, family):
    verified = verify_folder(tiny_base(tmp_path / family, family))
    config = build_config(verified)
    assert config.model_type == family
    check_size(verified, transformers.AutoModel._model_mapping[type(config)], config)
    assert verified.weights.elements > 10_000


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("key", ["auto_map", "trust_remote_code"])
def test_code_is_refused_at_every_depth(base, name, key):
    if not (base / name).exists():
        (base / name).write_text("{}")
    change(base, name, extra={"list": [{"deeper": {key: {"AutoConfig": "evil.Config"}}}]})
    error = refusal(base)
    assert f"the key '{key}' is refused: GraftLM never runs code from a model folder" in error.what
    assert error.where == str(base / name)


def test_code_in_the_folder_is_never_imported(base):
    (base / "configuration_evil.py").write_text(f"open({str(base / 'canary')!r}, 'w')")
    change(base, auto_map={"AutoConfig": "configuration_evil.EvilConfig"}, model_type="evil")
    refusal(base)
    assert not (base / "canary").exists()


@pytest.mark.parametrize("key", ["quantization_config", "transformers_weights"])
def test_other_refused_keys(base, key):
    change(base, **{key: "../outside.bin"})
    assert f"the key {key!r} is refused" in refusal(base).what


def test_private_keys_and_choices_of_execution_are_dropped(base):
    change(
        base,
        _attn_implementation_internal="evil/kernels",
        _attn_implementation="evil/kernels",
        _name_or_path="/home/somebody",
        attn_implementation="evil/kernels",
        extra={"_private": 1, "list": [{"_private": 1, "kept": 2}]},
    )
    verified = verify_folder(base)
    assert verified.config["extra"] == {"list": [{"kept": 2}]}
    assert not [key for key in verified.config if key.startswith("_") or key == "attn_implementation"]
    assert build_config(verified)._attn_implementation in (None, "sdpa", "eager")


def test_unknown_model_type(base):
    change(base, model_type="roberto")
    assert "model_type 'roberto' is not known to transformers" in refusal(base).what
    assert "Did you mean 'roberta'?" in refusal(base).what
    change(base, model_type=None)
    assert "model_type None is not known" in refusal(base).what
    change(base, model_type=["bert"])
    assert "model_type ['bert'] is not known" in refusal(base).what


@pytest.mark.parametrize(
    ("key", "value", "cap"),
    [
        ("hidden_size", 10**9, 2**24),
        ("vocab_size", 10**300, 2**24),
        ("vocab_size", -(10**9), 2**24),
        ("num_hidden_layers", 10**9, 1_000),
        ("num_hidden_layers", 1_001, 1_000),
        ("num_labels", 10**6, 100_000),
        ("num_experts", 10**5, 10_000),
    ],
)
def test_huge_numbers(base, key, value, cap):
    change(base, **{key: value})
    error = refusal(base)
    assert f"{key!r} is " in error.what and f"at most {cap} is accepted" in error.what
    change(base, **{key: 2}, text_config=[{key: value}])
    assert f"at most {cap} is accepted" in refusal(base).what


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b"{'a': 1}", "not valid JSON"),
        (b"\xff\xff", "not valid JSON"),
        (b"[" * 500_000, "not valid JSON"),
        (b"[1]", "not a JSON object"),
        (b" " * 1_000_001, "1000001 bytes; at most 1000000 are read"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "more than 32 levels of nesting"),
    ],
)
def test_broken_config(base, content, message):
    (base / "config.json").write_bytes(content)
    error = refusal(base)
    assert message in error.what and error.where == str(base / "config.json")


def test_no_config_and_adapters(base):
    (base / "config.json").unlink()
    assert "no config.json in this folder" in refusal(base).what
    (base / "adapter_config.json").write_text("{}")
    assert "this folder holds an adapter" in refusal(base).what


def test_a_config_that_its_family_cannot_use(base):
    """Newer transformers refuse it in the configuration class, older ones when the network is built."""
    change(base, hidden_size="wide")
    with pytest.raises(ModelError, match=r"BertConfig refuses this configuration|BertModel cannot be built"):
        verified = verify_folder(base)
        check_size(verified, transformers.BertModel, build_config(verified))


def test_a_key_may_not_replace_a_method(base):
    change(base, to_dict=5)
    with pytest.raises(ModelError, match="the key 'to_dict' is not a setting of BertConfig"):
        build_config(verify_folder(base))


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.txt", "spiece.model"])
def test_no_file_may_lead_out_of_the_folder(base, tmp_path, name):
    (tmp_path / "secret").write_text("secret")
    (base / name).unlink(missing_ok=True)
    (base / name).symlink_to(tmp_path / "secret")
    assert "this link leaves the model folder" in refusal(base).what


@pytest.mark.parametrize(
    "keys",
    [
        {"hidden_size": 10**7, "num_attention_heads": 1},
        {"num_hidden_layers": 1_000},
        {"vocab_size": 10**7},
        {"intermediate_size": 10**7},
        {"max_position_embeddings": 10**7},
    ],
)
def test_a_config_larger_than_its_weights(base, keys):
    change(base, **keys)
    verified = verify_folder(base)
    config = build_config(verified)
    start = time.monotonic()
    with pytest.raises(ModelError) as caught:
        check_size(verified, transformers.BertModel, config)
    assert "the weights hold" in caught.value.what or "does not fit weights of" in caught.value.what
    assert time.monotonic() - start < 60


def test_sinusoid_tables_are_not_filled_first(tmp_path):
    base = tiny_base(tmp_path / "distilbert", "distilbert")
    change(base, sinusoidal_pos_embds=True, max_position_embeddings=10**7)
    verified = verify_folder(base)
    with pytest.raises(ModelError, match="does not fit weights"):
        check_size(verified, transformers.DistilBertModel, build_config(verified))


def test_a_config_that_cannot_be_built(base):
    change(base, num_attention_heads=5)
    verified = verify_folder(base)
    with pytest.raises(ModelError, match="BertModel cannot be built from this configuration"):
        check_size(verified, transformers.BertModel, build_config(verified))
