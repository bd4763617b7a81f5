"""What replaced-token detection hides, draws and asks, and which weights learn from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from scipy.stats import chi2
from tests.pretraining_objectives.corpora import network, random_corpus, tokenizer_of
from torch.nn import functional

from graftlm.data.features import IGNORED
from graftlm.kernels.keys import example_keys
from graftlm.models.flat.probe import make_flat
from graftlm.models.generator import (
    add_generator,
    decisions,
    draw,
    generator_of,
    remove_generator,
)
from graftlm.models.hidden_matrices import hidden_matrices
from graftlm.models.vocabulary import Vocabulary
from graftlm.pretraining_objectives._examples import REPLACED, TOKENS, CorpusExamples
from graftlm.pretraining_objectives._objective import Reading
from graftlm.pretraining_objectives.replaced_token_detection import (
    ReplacedTokenDetection,
    forward_replaced,
    replaced,
)
from graftlm.strategies.head_only import HeadOnly
from graftlm.strategies.lora import Lora
from graftlm.training.batching import Batch
from graftlm.training.optimisation import build_optimizer

CPU = torch.device("cpu")


@pytest.fixture
def vocabulary(tmp_path: Path) -> Vocabulary:
    tokenizer = tokenizer_of(tmp_path, "bert")
    return Vocabulary.of(tokenizer, len(tokenizer) + 3)


def _examples(vocabulary: Vocabulary, seed: int, documents: int = 60, **options: Any) -> CorpusExamples:
    corpus = random_corpus(vocabulary, seed, documents)
    objective = ReplacedTokenDetection.model_validate(options)
    return objective.examples(corpus, vocabulary, Reading(32, 12, seed=4)).in_pass(0)


def _batch(examples: CorpusExamples, count: int | None = None) -> Batch:
    return examples.batch(np.arange(count or len(examples.lengths)), CPU)


def _model(vocabulary: Vocabulary, seed: int, dropout: float = 0.0) -> Any:
    torch.manual_seed(seed)
    return network(ReplacedTokenDetection(), "electra", vocabulary, dropout)


@pytest.mark.parametrize("tokens", [2, 3, 37, 64, 500])
def test_draws_follow_the_distribution_of_the_generator(tokens: int, seed: int) -> None:
    random, count = np.random.default_rng([seed, tokens]), 40_000
    logits = torch.from_numpy(random.normal(scale=2.0, size=tokens)).float()
    logits[tokens // 2] = -torch.inf
    chances = torch.from_numpy(random.random((count, decisions(tokens)), dtype=np.float32))
    found = np.bincount(draw(logits.expand(count, tokens), chances).numpy(), minlength=tokens)
    assert len(found) == tokens and found[tokens // 2] == 0
    expected = count * torch.softmax(logits.double(), 0).numpy()
    # Rare tokens together, so that chi-square holds.
    rare = expected < 5
    together = expected[rare].sum() > 5
    observed, expected = (
        np.append(each[~rare], each[rare].sum()) if together else each[~rare] for each in (found, expected)
    )
    statistic = float(((observed - expected) ** 2 / expected).sum())
    assert chi2.sf(statistic, max(1, len(expected) - 1)) > 1e-6


def test_rounding_hardly_ever_changes_a_draw(seed: int) -> None:
    random, shape = np.random.default_rng(seed), (300, 30_000)
    logits = random.normal(scale=2.0, size=shape)
    chances = torch.from_numpy(random.random((shape[0], decisions(shape[1])), dtype=np.float32))
    # A thousand times what rounding does. Running sums over the vocabulary would change most of the draws.
    moved = logits + random.normal(scale=1e-3, size=shape)
    one, other = (draw(torch.from_numpy(each).float(), chances) for each in (logits, moved))
    assert int((one != other).sum()) <= 8


def test_no_chance_leaves_the_vocabulary(seed: int) -> None:
    for tokens in (2, 5, 33):
        chances = torch.tensor([[0.0], [1.0 - 2.0**-24]]).expand(2, decisions(tokens))
        assert draw(torch.zeros(2, tokens), chances).tolist() == [0, tokens - 1]
    with pytest.raises(ValueError, match="do not choose"):
        draw(torch.zeros(1, 5), torch.zeros(1, 2))


def test_chances_are_uniform_and_their_own_for_each_place(vocabulary: Vocabulary, seed: int) -> None:
    examples = _examples(vocabulary, seed, 400)
    batch = _batch(examples)
    assert batch.chances is not None and batch.targets is not None
    assert batch.chances.shape == (int((batch.targets != IGNORED).sum()), decisions(vocabulary.size))
    values = batch.chances.numpy()
    assert values.min() >= 0.0 and values.max() < 1.0
    assert abs(values.mean() - 0.5) < 5 / np.sqrt(12 * values.size)
    assert np.abs(np.corrcoef(values.T) - np.eye(values.shape[1])).max() < 6 / np.sqrt(len(values))
    other = examples.in_pass(1).batch(np.arange(3), CPU).chances
    assert other is not None and not np.isin(other.numpy(), values).all()


def test_as_many_are_hidden_as_was_asked_and_all_that_is_text_is_judged(
    vocabulary: Vocabulary, seed: int
) -> None:
    for share in (0.15, 0.5):
        batch = _batch(_examples(vocabulary, seed, 300, mask_share=share))
        assert batch.targets is not None and batch.judged is not None
        hidden, asked = batch.targets != IGNORED, batch.judged != IGNORED
        ids = torch.where(hidden, batch.targets, batch.inputs["input_ids"])
        assert torch.equal(asked, batch.real.bool() & torch.from_numpy(vocabulary.ordinary)[ids])
        assert not (hidden & ~asked).any() and set(batch.judged[asked].tolist()) == {0}
        assert (batch.inputs["input_ids"][hidden] == vocabulary.mask).all()
        total = int(asked.sum())
        assert abs(int(hidden.sum()) / total - share) < 5 * np.sqrt(share * (1 - share) / total)


def test_a_drawn_token_that_is_that_of_the_text_is_not_replaced(vocabulary: Vocabulary, seed: int) -> None:
    batch = _batch(_examples(vocabulary, seed))
    assert batch.targets is not None and batch.judged is not None
    hidden = batch.targets != IGNORED
    truth = batch.targets[hidden]
    # Every second one is surely the token of the text, all others surely another.
    said = torch.where(torch.arange(len(truth)) % 2 == 0, truth, (truth + 1) % vocabulary.size)
    logits = torch.full((len(said), vocabulary.size), -100.0).scatter(1, said[:, None], 100.0)
    after = replaced(batch, logits)
    assert after.judged is not None
    assert torch.equal(after.inputs["input_ids"][hidden], said)
    assert torch.equal(after.inputs["input_ids"][~hidden], batch.inputs["input_ids"][~hidden])
    assert after.judged[hidden].tolist() == [number % 2 for number in range(len(said))]
    assert torch.equal(after.judged[~hidden], batch.judged[~hidden])


def test_the_network_is_asked_about_what_was_drawn(vocabulary: Vocabulary, seed: int) -> None:
    model, batch = _model(vocabulary, seed).eval(), _batch(_examples(vocabulary, seed), 12)
    seen: list[torch.Tensor] = []
    model.electra.register_forward_pre_hook(
        lambda _, args, named: seen.append((args or (named["input_ids"],))[0].clone()), with_kwargs=True
    )
    outputs, said = forward_replaced(model, batch, None)
    after = replaced(batch, outputs[TOKENS])
    assert after.judged is not None
    asked = after.judged != IGNORED
    assert torch.equal(seen[0], after.inputs["input_ids"])
    assert torch.equal(said[REPLACED], after.judged[asked]) and int(said[REPLACED].sum()) > 0
    remove_generator(model)
    logits = model(**after.inputs).logits[asked]
    expected = functional.binary_cross_entropy_with_logits(
        logits, after.judged[asked].float(), reduction="sum"
    )
    terms = {term.name: term for term in ReplacedTokenDetection().loss().terms(outputs, said)}
    assert terms[REPLACED].total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert (terms[TOKENS].coefficient, terms[REPLACED].coefficient) == (1.0, 50.0)


@pytest.mark.parametrize("flat", [True, False])
def test_no_gradient_flows_through_the_drawing(flat: bool, vocabulary: Vocabulary, seed: int) -> None:
    model, batch = _model(vocabulary, seed), _batch(_examples(vocabulary, seed), 8)
    assert not flat or make_flat(model) == ""
    generator: Any = generator_of(model)
    shared = {id(parameter) for parameter in model.electra.embeddings.parameters()}
    own = [parameter for parameter in generator.parameters() if id(parameter) not in shared]
    terms = {
        term.name: term
        for term in ReplacedTokenDetection().loss().terms(*forward_replaced(model, batch, None))
    }
    found = torch.autograd.grad(terms[REPLACED].total, own, allow_unused=True, retain_graph=True)
    assert all(each is None for each in found)
    found = torch.autograd.grad(terms[TOKENS].total, own, retain_graph=True)
    assert all(float(each.abs().sum()) > 0 for each in found if each.ndim > 1)
    head = list(model.discriminator_predictions.parameters())
    found = torch.autograd.grad(terms[TOKENS].total, head, allow_unused=True)
    assert all(each is None for each in found)


def test_flat_and_padded_draw_and_judge_alike(vocabulary: Vocabulary, seed: int) -> None:
    model, batch = _model(vocabulary, seed).eval(), _batch(_examples(vocabulary, seed), 20)
    padded, asked = forward_replaced(model, batch, None)
    assert make_flat(model) == ""
    flat, again = forward_replaced(model, batch, None)
    assert torch.equal(asked[REPLACED], again[REPLACED])
    for kind in (TOKENS, REPLACED):
        assert torch.allclose(padded[kind], flat[kind], atol=1e-4)


def test_the_networks_drop_otherwise(vocabulary: Vocabulary, seed: int) -> None:
    model, batch = _model(vocabulary, seed, dropout=0.3), _batch(_examples(vocabulary, seed), 20)
    assert make_flat(model) == ""
    dropped: list[torch.Tensor] = []
    # Both read by these embeddings, the first place where something is dropped.
    model.electra.embeddings.register_forward_hook(lambda _, __, output: dropped.append(output == 0.0))
    forward_replaced(model.train(), batch, None, example_keys(seed, 0, np.arange(20)))
    first, second = (each.double() for each in dropped)
    assert abs(float(first.mean()) - 0.3) < 0.05 and abs(float(second.mean()) - 0.3) < 0.05
    both = float((first * second).mean())
    assert abs(both - 0.3**2) < 0.02


@pytest.mark.parametrize("strategy", [Lora(), HeadOnly()], ids=lambda strategy: strategy.name)
def test_a_generator_is_trained_whole_whatever_moves_of_the_network(
    strategy: Any, vocabulary: Vocabulary, seed: int
) -> None:
    model = _model(vocabulary, seed)
    own = [name for name, _ in model.named_parameters() if name.startswith("generator.")]
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    strategy.adapt(model, own, seed)
    optimizer = build_optimizer(model, strategy.parameter_groups(model), 1e-2, 0.0)
    terms = (
        ReplacedTokenDetection()
        .loss()
        .terms(*forward_replaced(model, _batch(_examples(vocabulary, seed), 8), None))
    )
    sum(term.total for term in terms).backward()  # pyright: ignore
    with optimizer.attached():
        optimizer.clip_and_step(1.0, None)
    after = dict(model.named_parameters())
    assert not any("lora" in name for name in after if name.startswith("generator."))
    moved = {name for name, value in before.items() if name in after and not torch.equal(value, after[name])}
    matrices = {name for name in own if before[name].ndim > 1}
    assert matrices <= moved and not any(name.startswith("electra.embeddings.") for name in moved)


def test_the_generator_is_narrow_and_shares_the_embeddings(seed: int) -> None:
    config = transformers.ElectraConfig(vocab_size=90, num_hidden_layers=2)
    model: Any = transformers.ElectraForPreTraining(config)
    before = sum(parameter.numel() for parameter in model.parameters())
    names = add_generator(model, 0.25, seed)
    generator: Any = generator_of(model)
    # As google/electra-small-generator: 64 wide, one head.
    found = generator.config
    assert (found.hidden_size, found.intermediate_size, found.num_attention_heads) == (64, 256, 1)
    assert generator.electra.embeddings is model.electra.embeddings
    assert generator.generator_lm_head.weight is model.electra.embeddings.word_embeddings.weight
    every = dict(model.named_parameters())
    assert sum(each.numel() for each in every.values()) == before + sum(every[name].numel() for name in names)
    assert not any("embeddings." in name for name in names)
    matrices = hidden_matrices(model)
    assert sum(name.startswith("generator.") for name in matrices) == len(matrices) / 2 == 12
    assert set(matrices) <= every.keys()
    again, other = (transformers.ElectraForPreTraining(config) for _ in range(2))
    add_generator(again, 0.25, seed)
    add_generator(other, 0.25, seed + 1)
    same = [torch.equal(every[name], again.get_parameter(name)) for name in matrices[12:]]
    assert all(same) and not torch.equal(every[matrices[12]], other.get_parameter(matrices[12]))
    remove_generator(model)
    assert sum(parameter.numel() for parameter in model.parameters()) == before
