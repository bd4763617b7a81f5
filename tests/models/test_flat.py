"""Flat execution: the same numbers as padded, for every family and head, or the padded path and a word about it."""

from __future__ import annotations

import copy
import threading
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tests.models.families import DECODERS, ENCODERS, PADDED, PAIRS, VOCABULARY, build, heads_of, lay_flat
from torch import Tensor
from transformers import PhimoeConfig, PhimoeForSequenceClassification, PreTrainedModel

from graftlm.kernels.keys import example_keys
from graftlm.models.flat import attention, execution, passes, probe
from graftlm.models.flat.execution import is_flat
from graftlm.models.flat.layout import DropoutKeys, Layout
from graftlm.models.flat.passes import NotFlat, laid_flat
from graftlm.models.flat.probe import make_flat

FLAT = [(family, head) for family in (*ENCODERS, *DECODERS, *PAIRS) for head in heads_of(family)]
LENGTHS = (3, 17, 1, 8, 17, 2)
WRITTEN = (4, 1, 9, 17, 2, 6)
GIVEN = "decoder_attention_mask"


def random_batch(
    seed: int, lengths: tuple[int, ...] = LENGTHS, left: bool = False, written: tuple[int, ...] = ()
) -> dict[str, Tensor]:
    """Random tokens; ``written`` are the lengths of what a decoder of its own is given."""
    if written:
        given = {f"decoder_{name}": values for name, values in random_batch(seed + 1, written).items()}
        return random_batch(seed, lengths) | given
    random = np.random.default_rng(seed)
    width = max(lengths)
    real = np.arange(width) < np.array(lengths)[:, None]
    real = real[:, ::-1].copy() if left else real
    ids = np.where(real, random.integers(3, VOCABULARY, size=real.shape), 0)
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(real.astype(np.int64))}


def outputs(model: PreTrainedModel, inputs: dict[str, Tensor], keys: Any = None, flat: bool = True) -> Tensor:
    """Everything the model says about real tokens, in one row."""
    if not flat:
        result = model(**inputs)
    else:
        cpu = torch.device("cpu")
        target = Layout.of(inputs[GIVEN], cpu) if GIVEN in inputs else None
        with laid_flat(Layout.of(inputs["attention_mask"], cpu), keys, target=target):
            result = model(**inputs)
    real = inputs.get(GIVEN, inputs["attention_mask"]).bool()
    found = [result[name] for name in ("logits", "start_logits", "end_logits") if name in result]
    return torch.cat([(each[real] if each.shape[:2] == real.shape else each).flatten() for each in found])


@pytest.mark.parametrize(("family", "head"), FLAT)
def test_outputs_and_gradients_are_those_of_the_padded_network(seed: int, family: str, head: str) -> None:
    usual, flat = (build(family, head, seed).eval() for _ in range(2))
    lay_flat(flat)
    inputs = random_batch(seed, written=WRITTEN if family in PAIRS else ())
    expected, found = outputs(usual, inputs, flat=False), outputs(flat, inputs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-6)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(seed))
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    for (name, one), other in zip(usual.named_parameters(), flat.parameters(), strict=True):
        if one.grad is None or float(one.grad.norm()) < 1e-5:  # a key bias has no gradient but rounding
            continue
        assert other.grad is not None, name
        assert float((one.grad - other.grad).norm()) <= 2e-5 * float(one.grad.norm()) + 1e-6, name


# Families whose heads read the first token of a text, and whose last layer has a norm behind each part.
FIRST = ("Bert", "Roberta", "XLMRoberta", "Camembert", "Electra", "DistilBert")


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("family", FIRST)
def test_first_tokens_alone_come_out_of_the_last_layer_as_among_all(
    seed: int, family: str, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout too: what a token drops does not depend on which others are computed."""
    alone = build(family, "SequenceClassification", seed, dropout=dropout).train()
    lay_flat(alone)
    monkeypatch.setattr(probe, "install_first_tokens", _refuse)
    among = build(family, "SequenceClassification", seed, dropout=dropout).train()
    lay_flat(among)
    inputs, keys = random_batch(seed), example_keys(seed, 1, np.arange(len(LENGTHS)))
    sizes = [_given_to_last_feed_forward(model, inputs, keys) for model in (alone, among)]
    assert sizes == [len(LENGTHS), sum(LENGTHS)]
    found, expected = (outputs(model, inputs, keys) for model in (alone, among))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-6)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(seed))
    for result in (found, expected):
        (result * weights).sum().backward()
    for (name, one), other in zip(among.named_parameters(), alone.parameters(), strict=True):
        if one.grad is not None and float(one.grad.norm()) > 1e-5:
            assert other.grad is not None, name
            assert float((one.grad - other.grad).norm()) <= 2e-5 * float(one.grad.norm()) + 1e-6, name


@pytest.mark.parametrize(
    ("family", "head"),
    [("Bert", "TokenClassification"), ("Bert", "QuestionAnswering"), ("Bert", "MaskedLM"),
     ("GPT2", "SequenceClassification"), ("ModernBert", "SequenceClassification"),
     ("Albert", "SequenceClassification"), ("EuroBert", "SequenceClassification")],
)  # fmt: skip
def test_heads_and_layers_that_need_all_tokens_get_them(seed: int, family: str, head: str) -> None:
    model = build(family, head, seed).eval()
    lay_flat(model)
    inputs = random_batch(seed)
    with laid_flat(Layout.of(inputs["attention_mask"], torch.device("cpu")), None):
        hidden = model.base_model(**inputs)["last_hidden_state"]
    assert hidden.shape[:2] == inputs["input_ids"].shape


class _MeanOfTokens(transformers.BertForSequenceClassification):
    """One class for a text, from the mean of its tokens; first tokens alone would pass for it in shape."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> Any:
        hidden = self.bert(input_ids, attention_mask=attention_mask)["last_hidden_state"]
        real = attention_mask[..., None]
        return {"logits": self.classifier((hidden * real).sum(1) / real.sum(1))}


def test_a_head_that_reads_more_than_it_seems_is_noticed(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("Bert", "SequenceClassification", seed).eval()
    model.__class__ = _MeanOfTokens
    inputs = random_batch(seed)
    expected = outputs(model, inputs, flat=False).detach()
    lay_flat(model)
    torch.testing.assert_close(outputs(model, inputs), expected, rtol=1e-5, atol=2e-6)
    probe.install_first_tokens(model)  # the answer, had nobody looked
    assert float((outputs(model, inputs).detach() - expected).abs().max()) > 1e-4


def test_an_example_without_tokens_is_computed_with_all(seed: int) -> None:
    model = build("Bert", "SequenceClassification", seed).eval()
    lay_flat(model)
    inputs = random_batch(seed, (3, 0, 5))
    logits = outputs(model, inputs).view(3, -1)
    for row in (0, 2):
        alone = {name: values[[row]] for name, values in inputs.items()}
        torch.testing.assert_close(logits[row], outputs(model, alone), rtol=1e-5, atol=1e-6)


def _refuse(model: PreTrainedModel) -> Any:
    raise NotFlat("not here")


def _given_to_last_feed_forward(model: PreTrainedModel, inputs: dict[str, Tensor], keys: Any) -> int:
    """How many tokens the last layer normalises at its end."""
    seen: list[int] = []
    norms = [module for module in model.base_model.modules() if isinstance(module, torch.nn.LayerNorm)]
    handle = norms[-1].register_forward_hook(lambda _, __, output: seen.append(output.shape[1]))
    outputs(model, inputs, keys)
    handle.remove()
    return seen[-1]


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # DeBERTa of older versions
@pytest.mark.parametrize("family", sorted(PADDED))
def test_a_family_that_cannot_says_so_and_stays_as_it_was(seed: int, family: str) -> None:
    pair = family == "T5"
    model = build(family, "Seq2SeqLM" if pair else "QuestionAnswering", seed).eval()
    before = model.config._attn_implementation
    inputs = random_batch(seed, written=WRITTEN if pair else ())
    expected = outputs(model, inputs, flat=False)
    assert make_flat(model) != ""
    assert not is_flat(model)
    assert model.config._attn_implementation == before
    assert torch.equal(outputs(model, inputs, flat=False), expected)


def test_a_device_that_nobody_tried_stays_padded(seed: int) -> None:
    with torch.device("meta"):
        model = build("Bert", "SequenceClassification", seed)
    assert "on meta" in make_flat(model)
    assert not is_flat(model)


def test_attention_that_sees_across_examples_is_noticed(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe can fail: one sequence instead of several."""
    real = attention.variable_length_attention

    def across(query: Tensor, key: Tensor, value: Tensor, starts: Tensor, **options: Any) -> Tensor:
        return real(query, key, value, starts[[0, -1]], **options)

    monkeypatch.setattr(attention, "variable_length_attention", across)
    model = build("Bert", "SequenceClassification", seed)
    assert "differ when padding is left out" in make_flat(model)
    assert not is_flat(model)
    assert model.training


def test_a_window_that_is_ignored_is_noticed(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = attention.variable_length_attention
    monkeypatch.setattr(
        attention,
        "variable_length_attention",
        lambda *args, **options: real(*args, **{**options, "window": None}),
    )
    for family in ("ModernBert", "Mistral"):
        reason = make_flat(build(family, "SequenceClassification", seed))
        assert "differ" in reason or (family == "ModernBert" and "cannot exchange" in reason)


def test_gradients_that_differ_are_noticed(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = attention.variable_length_attention
    monkeypatch.setattr(
        attention, "variable_length_attention",
        lambda query, key, value, *rest, **options: real(query, key.detach(), value, *rest, **options),
    )  # fmt: skip
    assert make_flat(build("Bert", "SequenceClassification", seed)) == (
        "its gradients differ when padding is left out"
    )


@pytest.mark.parametrize(
    "family",
    ["Bert", "DistilBert", "Electra", "GPT2", "OPT", "ModernBert", "Albert", "Bart", "Marian", "M2M100"],
)
def test_dropout_depends_on_the_example_not_on_its_batch(seed: int, family: str) -> None:
    pair = family in PAIRS
    model = build(family, "Seq2SeqLM" if pair else "SequenceClassification", seed, dropout=0.2).train()
    lay_flat(model)
    inputs, rows = random_batch(seed, written=WRITTEN if pair else ()), np.arange(len(LENGTHS))
    keys = example_keys(seed, 7, rows)
    whole = outputs(model, inputs, keys)
    parts = [
        outputs(model, {name: values[part] for name, values in inputs.items()}, keys[part])
        for part in (slice(0, 1), slice(1, 4), slice(4, 6))
    ]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-5, atol=1e-6)
    torch.manual_seed(seed + 1)  # the generator of torch plays no part
    assert torch.equal(outputs(model, inputs, keys), whole)
    for other in (
        example_keys(seed, 8, rows),
        example_keys(seed + 1, 7, rows),
        example_keys(seed, 7, rows + 1),
    ):
        assert not torch.allclose(outputs(model, inputs, other), whole)
    model.eval()
    assert not torch.allclose(outputs(model, inputs), whole)


def test_dropout_of_every_site_is_its_own(seed: int) -> None:
    """Two layers, two tokens and two examples never drop alike."""
    layout = Layout.of(random_batch(seed, (4, 4))["attention_mask"], torch.device("cpu"))
    keys = DropoutKeys(example_keys(seed, 1, np.arange(2)), layout)
    bases = torch.stack([keys.of_tokens() for _ in range(5)]).flatten().tolist()
    assert len(set(bases)) == len(bases)


def test_texts_are_written_as_before(seed: int) -> None:
    """Outside a flat pass nothing changes, so generation, with its cache and its padding on the left, does not."""
    for family in ("GPT2", "Llama", "Bart", "M2M100"):
        pair = family in PAIRS
        usual, flat = (build(family, "Seq2SeqLM" if pair else "CausalLM", seed).eval() for _ in range(2))
        assert make_flat(flat) == ""
        inputs = random_batch(seed, left=not pair)
        options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
        assert torch.equal(usual.generate(**inputs, **options), flat.generate(**inputs, **options))


@pytest.mark.parametrize("family", ["Llama", "Qwen3", "EuroBert", "Bert", "ModernBert"])
def test_half_precision_works_as_padded(seed: int, family: str) -> None:
    """Rotary families turn queries and keys in float32: attention casts them as torch's own does."""
    usual, flat = (build(family, "SequenceClassification", seed).eval() for _ in range(2))
    lay_flat(flat)
    inputs = random_batch(seed)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected, found = outputs(usual, inputs, flat=False), outputs(flat, inputs)
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.02)


def test_a_window_that_only_the_mask_has_is_refused(seed: int) -> None:
    """However long: no text of the probe reaches beyond it."""
    options = {"num_key_value_heads": 2, "num_local_experts": 2, "num_experts_per_tok": 1, "pad_token_id": 0}
    small = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = PhimoeConfig(**small, **options, intermediate_size=48, sliding_window=4_000)
    assert "window" in make_flat(PhimoeForSequenceClassification(config))


def test_layers_that_are_computed_again_stay_padded(seed: int) -> None:
    model = build("Bert", "SequenceClassification", seed).train()
    layers = [module for module in model.modules() if hasattr(module, "gradient_checkpointing")]
    assert layers  # transformers calls what switches it on differently from version to version
    for layer in layers:
        layer.gradient_checkpointing = True
    assert "second time" in make_flat(model)


def test_a_copy_pools_by_its_own_weights(seed: int) -> None:
    model = build("Bert", "SequenceClassification", seed).eval()
    assert make_flat(model) == ""
    copied = copy.deepcopy(model)
    with torch.no_grad():
        copied.bert.pooler.dense.weight.zero_()
    inputs = random_batch(seed)
    torch.testing.assert_close(
        outputs(copied, inputs), outputs(copied, inputs, flat=False), rtol=1e-5, atol=1e-6
    )


def test_layers_that_are_left_out_at_random_are_noticed(seed: int) -> None:
    model = build("Bart", "Seq2SeqLM", seed)
    model.base_model.encoder.layerdrop = 0.5
    assert "layerdrop" in make_flat(model)
    assert make_flat(model, gradients=False) == ""


@pytest.mark.parametrize("family", DECODERS)
def test_the_head_of_a_decoder_gets_the_tokens_that_are_asked_for(seed: int, family: str) -> None:
    model, inputs = build(family, "CausalLM", seed).eval(), random_batch(seed)
    expected = model(**inputs).logits[inputs["attention_mask"].bool()]
    lay_flat(model)
    some = torch.arange(0, len(expected), 3)
    with laid_flat(Layout.of(inputs["attention_mask"], torch.device("cpu")), None, some):
        assert torch.allclose(model(**inputs).logits[0], expected[some], atol=1e-5)


def test_a_body_that_is_never_called_is_noticed(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = execution._parts
    monkeypatch.setattr(
        execution, "_parts", lambda model: [(torch.nn.Identity(), part) for _, part in real(model)]
    )
    model = build("Llama", "CausalLM", seed).eval()
    assert "parts of its body" in make_flat(model) and not is_flat(model)


def test_a_pair_whose_decoder_makes_up_what_it_reads_stays_padded(seed: int) -> None:
    assert "makes up" in make_flat(build("Bart", "SequenceClassification", seed))


def test_dropping_everything_stays_padded(seed: int) -> None:
    assert "not 1.0" in make_flat(build("Bert", "SequenceClassification", seed, dropout=1.0))


def test_dropout_by_the_batch_is_noticed(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe can fail: masks by the place in the batch."""
    real = passes.keyed_dropout
    monkeypatch.setattr(
        passes, "keyed_dropout",
        lambda x, bases, p: real(x, torch.arange(len(bases), dtype=torch.int32), p),
    )  # fmt: skip
    model = build("Bert", "SequenceClassification", seed, dropout=0.3)
    assert make_flat(model) == "what it drops depends on the batch"


def test_threads_do_not_see_each_others_batches(seed: int) -> None:
    model = build("Bert", "SequenceClassification", seed).eval()
    assert make_flat(model, gradients=False) == ""
    batches = [random_batch(seed + number, (number + 1, 9)) for number in range(8)]
    expected = [outputs(model, batch).detach() for batch in batches]
    found: dict[int, Tensor] = {}

    def work(number: int) -> None:
        for _ in range(10):
            found[number] = outputs(model, batches[number]).detach()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, each in enumerate(expected):
        torch.testing.assert_close(found[number], each, rtol=1e-6, atol=1e-7)


def test_a_flat_model_is_saved_like_any_other(seed: int, tmp_path: Any) -> None:
    model = build("Bert", "SequenceClassification", seed).eval()
    expected = model(**random_batch(seed)).logits
    assert make_flat(model) == ""
    model.save_pretrained(tmp_path)
    assert "graftlm" not in (tmp_path / "config.json").read_text()
    again = type(model).from_pretrained(tmp_path)
    assert torch.equal(again(**random_batch(seed)).logits, expected)
