"""Muon and AdamW as one optimiser: which weights each moves, the numbers of torch, and exact resume."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tests.training.networks import check_resume, distance, equal_bits, network, plan, random_examples, train
from torch import Tensor, nn

from graftlm.errors import ConfigurationError
from graftlm.models.hidden_matrices import hidden_matrices
from graftlm.strategies.full import Full
from graftlm.strategies.head_only import HeadOnly
from graftlm.strategies.lora import Lora
from graftlm.training import lazy_rows
from graftlm.training.muon import MuonWithAdamW, orthogonalised
from graftlm.training.optimisation import build_optimizer, set_learning_rate

RATE, DECAY = 1e-2, 0.1


def _build(model: nn.Module, strategy: Any = None) -> MuonWithAdamW:
    groups = (strategy or Full()).parameter_groups(model)
    return build_optimizer(model, groups, RATE, DECAY, optimizer="muon")


def _moved_by(optimizer: MuonWithAdamW, model: nn.Module) -> set[str]:
    """Names of the parameters of which Muon keeps the momentum after a step."""
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) if parameter.requires_grad else None
    optimizer.clip_and_step(optimizer.gradient_norm(), None)
    optimizer.flush()
    return {
        name for name, each in model.named_parameters() if set(optimizer.state[each]) == {"momentum_buffer"}
    }


BERT_LAYER = """
attention.self.query attention.self.key attention.self.value attention.output.dense intermediate.dense output.dense
""".split()  # noqa: SIM905


def test_muon_moves_the_matrices_of_the_layers_and_adamw_all_else(seed: int) -> None:
    model = network(seed)
    expected = {f"bert.encoder.layer.{layer}.{name}.weight" for layer in (0, 1) for name in BERT_LAYER}
    assert _moved_by(_build(model), model) == expected
    others = {name for name, _ in model.named_parameters()} - expected
    assert {
        "classifier.weight",
        "bert.pooler.dense.weight",
        "bert.embeddings.word_embeddings.weight",
    } < others


def _tiny(family: str) -> transformers.PreTrainedModel:
    sizes: dict[str, Any] = {"vocab_size": 40}
    match family:
        case "gpt2":
            return transformers.GPT2LMHeadModel(
                transformers.GPT2Config(**sizes, n_embd=8, n_layer=1, n_head=2, n_positions=16)
            )
        case "t5":
            return transformers.T5ForConditionalGeneration(
                transformers.T5Config(**sizes, d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
            )
        case "llama":
            sizes |= {
                "hidden_size": 8,
                "intermediate_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
            }
            return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes))
        case _:
            sizes |= {"embedding_size": 4, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2}
            return transformers.AlbertForMaskedLM(transformers.AlbertConfig(**sizes, num_attention_heads=2))


@pytest.mark.parametrize(
    ("family", "layers"),
    [
        ("gpt2", "attn.c_attn attn.c_proj mlp.c_fc mlp.c_proj"),
        ("llama", "self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj "
                  "mlp.gate_proj mlp.up_proj mlp.down_proj"),
        ("albert", "attention.query attention.key attention.value attention.dense ffn ffn_output"),
        ("t5", "SelfAttention.q SelfAttention.k SelfAttention.v SelfAttention.o DenseReluDense.wi DenseReluDense.wo "
               "EncDecAttention.q EncDecAttention.k EncDecAttention.v EncDecAttention.o"),
    ],
)  # fmt: skip
def test_hidden_matrices_of_other_families(family: str, layers: str) -> None:
    """Neither embeddings, nor what T5 adds to positions, nor projections to the vocabulary or of embeddings."""
    model = _tiny(family)
    found = hidden_matrices(model)
    assert found and set(found) < {name for name, _ in model.named_parameters()}
    assert all(any(name.endswith(f"{layer}.weight") for layer in layers.split()) for name in found)
    for layer in layers.split():
        assert any(name.endswith(f"{layer}.weight") for name in found), layer


def test_where_no_hidden_matrix_moves_it_is_refused(seed: int) -> None:
    """A new head alone, adapters alone, a network of which nothing is known."""
    for strategy in (HeadOnly(), Lora()):
        model: Any = network(seed)
        strategy.adapt(model, ["classifier.weight", "classifier.bias"], seed)
        with pytest.raises(ConfigurationError, match=r"training\.optimizer.*\n.*adamw"):
            _build(model, strategy)
    assert hidden_matrices(nn.Sequential(nn.Linear(3, 3))) == []


@pytest.mark.parametrize("shape", [(16, 48), (48, 16), (32, 32)])
def test_an_update_only_turns(seed: int, shape: tuple[int, int]) -> None:
    """Singular vectors stay, singular values come near one; torch's own in bfloat16 is near."""
    from torch.optim import _muon as stock

    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 10.0 ** (seed % 7 - 3)
    found = orthogonalised(matrix)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    turned = left.T @ found @ right.T
    assert torch.allclose(turned, torch.diag(torch.diag(turned)), atol=1e-4)
    if shape[0] != shape[1]:  # a square one may have a singular value next to zero
        assert float(torch.diag(turned).min()) > 0.6
    assert float(torch.diag(turned).max()) < 1.25
    theirs = stock._zeropower_via_newtonschulz(
        matrix, (stock.DEFAULT_A, stock.DEFAULT_B, stock.DEFAULT_C), stock.DEFAULT_NS_STEPS, stock.EPS
    ).float()
    assert float((found - theirs).norm() / theirs.norm()) < 0.05
    assert orthogonalised(torch.zeros(shape)).eq(0.0).all()


@pytest.mark.parametrize("limit", [None, 0.5])
def test_the_numbers_are_those_of_torch(
    seed: int, limit: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`torch.optim.Muon` and `AdamW` side by side over ten steps, given our float32 for its bfloat16."""
    from torch.optim import _muon as stock

    def in_float32(gradient: Tensor, *_: Any) -> Tensor:
        return orthogonalised(gradient)

    monkeypatch.setattr(stock, "_zeropower_via_newtonschulz", in_float32)
    ours, theirs = network(seed), network(seed)
    optimizer = _build(ours)
    hidden = set(hidden_matrices(theirs))  # pyright: ignore
    named = dict(theirs.named_parameters())
    muon = torch.optim.Muon(
        [each for name, each in named.items() if name in hidden], lr=RATE, weight_decay=DECAY,
        adjust_lr_fn="match_rms_adamw",
    )  # fmt: skip
    rest = [each for name, each in named.items() if name not in hidden]
    adamw = torch.optim.AdamW(
        [
            {"params": [each for each in rest if each.ndim >= 2], "weight_decay": DECAY},
            {"params": [each for each in rest if each.ndim < 2], "weight_decay": 0.0},
        ],
        lr=RATE,
    )
    random = torch.Generator().manual_seed(seed)
    for step in range(10):
        rate = set_learning_rate(optimizer, 1.0 - step / 20)
        for group in (*muon.param_groups, *adamw.param_groups):
            group["lr"] = rate
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            one.grad = torch.randn(one.shape, generator=random)
            other.grad = one.grad.clone()
        norm = optimizer.gradient_norm()
        expected = nn.utils.clip_grad_norm_(theirs.parameters(), limit or math.inf)
        assert norm == pytest.approx(float(expected), rel=1e-5)
        optimizer.clip_and_step(norm, limit)
        muon.step()
        adamw.step()
        optimizer.zero_grad()
        assert all(parameter.grad is None for parameter in ours.parameters())
    assert distance(ours, theirs) < 1e-5


def test_it_learns_and_splitting_steps_changes_nothing(seed: int) -> None:
    """One batch is learnt by heart; 1 x 16 = 4 x 4 but for rounding."""
    examples = random_examples(seed, count=16)
    whole, parts = network(seed), network(seed)
    steps = plan(total_steps=50, warmup_share=0.0, schedule="constant")
    losses = [step.loss for step in train(whole, examples, steps, optimizer=_build(whole))]  # pyright: ignore
    assert losses[-1] < 0.1 < 0.5 < losses[0]
    few = plan(total_steps=5, micro_batch=4)
    again = network(seed)
    train(again, examples, plan(total_steps=5), optimizer=_build(again))  # pyright: ignore
    train(parts, examples, few, optimizer=_build(parts))  # pyright: ignore
    assert distance(again, parts) < 1e-4


@pytest.mark.parametrize("stop", [1, 4])
@pytest.mark.parametrize("late", [False, True])
def test_resume_is_bitwise(
    seed: int, stop: int, late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a checkpoint on disk, with dropout, and with rows of the embedding that are late."""
    monkeypatch.setattr(lazy_rows, "FEWEST_ROWS", 1 if late else 10**9)
    check_resume(_build, seed, stop, tmp_path)


def test_what_has_no_gradient_stays(seed: int) -> None:
    model = network(seed)
    optimizer, before = _build(model), copy.deepcopy(model)
    assert optimizer.gradient_norm() == 0.0
    optimizer.clip_and_step(0.0, 1.0)
    assert equal_bits(model, before)
