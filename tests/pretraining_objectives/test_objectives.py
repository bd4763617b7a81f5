"""What the objectives of pretraining make of a corpus, and what training on it does."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from tests.pretraining_objectives.corpora import corpus_of, network, random_corpus, tokenizer_of

from graftlm.catalog import Catalog
from graftlm.data.features import IGNORED
from graftlm.errors import ConfigurationError
from graftlm.models.flat.probe import make_flat
from graftlm.models.generator import networks
from graftlm.models.vocabulary import Vocabulary
from graftlm.pretraining_evaluation import Budget, evaluate, frequencies
from graftlm.pretraining_objectives import masked_language_modelling
from graftlm.pretraining_objectives._examples import PAIRS, REPLACED, TOKENS, windows
from graftlm.pretraining_objectives._objective import Reading
from graftlm.strategies.full import Full
from graftlm.training.loop import Plan, fit
from graftlm.training.optimisation import build_optimizer
from graftlm.training.order import Epochs

CATALOG = Catalog("pretraining_objectives")
MASKED, CAUSAL = "masked_language_modelling", "causal_language_modelling"
CASES = {
    "masked": (MASKED, {}, "bert"),
    "masked_words": (MASKED, {"unit": "word", "replacement": "mask"}, "bert"),
    "masked_spans": (MASKED, {"unit": "span"}, "bert"),
    "masked_roberta": (MASKED, {}, "roberta"),
    "next_sentence": (MASKED, {"pairs": "next_sentence"}, "bert"),
    "next_sentence_roberta": (MASKED, {"pairs": "next_sentence"}, "roberta"),
    "next_sentence_modernbert": (MASKED, {"pairs": "next_sentence"}, "modernbert"),
    "next_sentence_electra": (MASKED, {"pairs": "next_sentence"}, "electra"),
    "sentence_order": (MASKED, {"pairs": "sentence_order"}, "albert"),
    "causal": (CAUSAL, {}, "llama"),
    "causal_gpt2": (CAUSAL, {}, "gpt2"),
    "spans": ("span_corruption", {}, "t5"),
    "replaced": ("replaced_token_detection", {}, "electra"),
    "infilling": ("infilling", {"permute_sentences": True}, "bart"),
}
READING = Reading(32, 12, seed=4)
CPU = torch.device("cpu")


class Made:
    """One case: objective, vocabulary, corpus and examples."""

    def __init__(self, case: str, folder: Path, seed: int) -> None:
        name, options, self.family = CASES[case]
        self.objective: Any = CATALOG.get(name).model_validate(options)  # pyright: ignore
        self.tokenizer = tokenizer_of(folder, self.family)
        self.vocabulary = Vocabulary.of(self.tokenizer, len(self.tokenizer) + 3)
        self.corpus = random_corpus(self.vocabulary, seed)
        self.examples = self.objective.examples(self.corpus, self.vocabulary, READING)

    def network(self, dropout: float = 0.0) -> Any:
        torch.manual_seed(1)
        return network(self.objective, self.family, self.vocabulary, dropout)

    def rows(self, batch_size: int = 16) -> Any:
        return np.arange(batch_size)


@pytest.fixture(params=CASES)
def made(request: pytest.FixtureRequest, tmp_path: Path, seed: int) -> Made:
    return Made(request.param, tmp_path / "tokenizer", seed)


def test_every_member_of_the_catalog_is_tried() -> None:
    assert {name for name, _, _ in CASES.values()} == set(CATALOG.names())


def test_examples_are_the_lengths_they_say_within_the_limit(made: Made) -> None:
    for short, limit in ((False, 32), (True, 12)):
        examples = made.examples.in_pass(1, short)
        batch = examples.batch(np.arange(len(examples.lengths)), CPU)
        read = batch.real.sum(dim=1)
        # Masks that stand for nothing may lengthen what is short.
        assert int(read.max()) <= (32 if made.family == "bart" else limit)
        written = (batch.targets != IGNORED).sum(dim=1) if made.family in ("t5", "bart") else 0
        if made.family == "bart":  # how many masks there are is left to chance
            assert (read + written - torch.from_numpy(examples.lengths)).abs().float().mean() < 3
        else:
            assert (read + written).tolist() == examples.lengths.tolist()


def test_another_pass_is_other_chance_and_the_same_one_is_not(made: Made) -> None:
    rows = made.rows()
    one, again, other = (made.examples.in_pass(number).batch(rows, CPU) for number in (3, 3, 4))
    assert torch.equal(one.inputs["input_ids"], again.inputs["input_ids"])
    same = one.inputs["input_ids"].shape == other.inputs["input_ids"].shape and torch.equal(
        one.inputs["input_ids"], other.inputs["input_ids"]
    )
    assert same == (made.objective.name == CAUSAL)


def test_an_example_does_not_depend_on_its_batch(made: Made) -> None:
    examples = made.examples.in_pass(2)
    whole = examples.batch(made.rows(), CPU)
    for row in (0, 5, 11):
        alone = examples.batch(np.array([row]), CPU)
        for name, values in alone.inputs.items():
            assert torch.equal(whole.inputs[name][row, : values.shape[1]], values[0])


def test_weights_are_the_numbers_of_targets(made: Made) -> None:
    examples = made.examples.in_pass(0)
    batch = examples.batch(made.rows(), CPU)
    weights = made.objective.loss().weights(examples.targets_of(made.rows()))
    assert weights[TOKENS] == int((batch.targets != IGNORED).sum())
    assert weights.get(PAIRS, 16) == 16
    assert weights.get(REPLACED, 0) == (0 if batch.judged is None else int((batch.judged != IGNORED).sum()))


def test_masks_stand_on_ordinary_tokens_only(tmp_path: Path, seed: int) -> None:
    made = Made("masked", tmp_path, seed)
    examples = made.examples.in_pass(0)
    batch = examples.batch(np.arange(len(examples.lengths)), CPU)
    assert batch.targets is not None
    asked = batch.targets[batch.targets != IGNORED].numpy()
    assert made.vocabulary.ordinary[asked].all()
    ordinary = made.corpus.num_tokens
    assert abs(len(asked) / ordinary - 0.15) < 4 * math.sqrt(0.15 * 0.85 / ordinary)
    # Everything else is what the tokenizer makes of the text.
    restored = torch.where(batch.targets == IGNORED, batch.inputs["input_ids"], batch.targets)
    first = made.corpus.window(*map(int, (examples.cut.starts[0, 0], examples.cut.ends[0, 0])))
    cls, sep = made.tokenizer.cls_token_id, made.tokenizer.sep_token_id
    assert restored[0][: len(first) + 2].tolist() == [cls, *first.tolist(), sep]


def test_the_share_of_masks_changes_over_the_run(tmp_path: Path, seed: int) -> None:
    made = Made("masked", tmp_path, seed)
    objective = type(made.objective).model_validate({"mask_share": 0.4, "last_mask_share": 0.1})
    examples = objective.examples(made.corpus, made.vocabulary, READING).in_pass(0)
    rows = np.arange(len(examples.lengths))
    counts = [
        int((examples.at(progress).batch(rows, CPU).targets != IGNORED).sum()) for progress in (0, 0.5, 1)
    ]
    assert counts[0] > counts[1] > counts[2]


def test_pairs_are_as_the_tokenizer_joins_them(tmp_path: Path, seed: int) -> None:
    made = Made("next_sentence", tmp_path, seed)
    examples = made.examples.in_pass(0)
    assert examples.cut.in_order is not None
    batch = examples.batch(made.rows(8), CPU)
    assert batch.targets is not None
    restored = torch.where(batch.targets == IGNORED, batch.inputs["input_ids"], batch.targets)
    cls, sep = made.tokenizer.cls_token_id, made.tokenizer.sep_token_id
    for row in range(8):
        a, b = (
            made.corpus.window(*map(int, ends)).tolist()
            for ends in zip(examples.cut.starts[row], examples.cut.ends[row], strict=True)
        )
        expected = [cls, *a, sep, *b, sep]
        assert restored[row][: len(expected)].tolist() == expected
        segments = batch.inputs["token_type_ids"][row][: len(expected)].tolist()
        assert segments == [0] * (len(a) + 2) + [1] * (len(b) + 1)


def test_a_head_for_tokens_judges_pairs_by_what_opens_and_closes_them(tmp_path: Path, seed: int) -> None:
    made = Made("next_sentence_roberta", tmp_path, seed)
    model = made.network().eval()
    batch = made.examples.in_pass(0).batch(made.rows(8), CPU)
    outputs, said = made.objective.forward(model, batch, None, None)
    with torch.inference_mode():
        logits = model(**batch.inputs).logits
    tokens = [made.tokenizer.cls_token_id, made.tokenizer.sep_token_id]
    assert torch.allclose(outputs[PAIRS], logits[:, 0, tokens], atol=1e-5)
    assert said[PAIRS].tolist() == (1 - batch.in_order).tolist()
    hidden = batch.targets != IGNORED
    assert torch.allclose(outputs[TOKENS], logits[hidden], atol=1e-5)
    assert torch.equal(said[TOKENS], batch.targets[hidden])


def test_pairs_count_as_much_as_the_recipe_says(tmp_path: Path, seed: int) -> None:
    made = Made("next_sentence", tmp_path, seed)
    batch = made.examples.in_pass(0).batch(made.rows(8), CPU)
    outputs, said = made.objective.forward(made.network().eval(), batch, None, None)
    for weight in (1.0, 0.1):
        objective = made.objective.model_copy(update={"pair_weight": weight})
        terms = {term.name: term for term in objective.loss().terms(outputs, said)}
        assert terms[PAIRS].coefficient == weight and terms[TOKENS].coefficient == 1.0
        assert objective.loss().sum({TOKENS: 3.0, PAIRS: 0.5}) == pytest.approx(3.0 + 0.5 * weight)
    with pytest.raises(ValueError, match="greater than 0"):
        type(made.objective).model_validate({"pair_weight": 0.0})


def test_each_token_is_predicted_once_by_what_stands_before_it(tmp_path: Path, seed: int) -> None:
    made = Made("causal", tmp_path, seed)
    examples = made.examples.in_pass(0)
    batch = examples.batch(np.arange(len(examples.lengths)), CPU)
    assert batch.targets is not None
    asked = batch.targets[batch.targets != IGNORED]
    ends = made.corpus.num_documents
    assert len(asked) == made.corpus.num_tokens + ends
    assert int((asked == made.vocabulary.end).sum()) >= ends
    document = [5, 6, 7, 8, 9, 10]
    tiny = made.objective.examples(corpus_of([[document]]), made.vocabulary, Reading(5, 5, 1)).in_pass(0)
    found = tiny.batch(np.arange(2), CPU)
    begin, end = made.vocabulary.beginning, made.vocabulary.end
    assert [row[:3] for row in found.inputs["input_ids"].tolist()] == [[begin, 5, 6], [begin, 9, 10]]
    assert found.targets.tolist()[0] == [5, 6, 7, 8, 9]
    assert found.targets.tolist()[1][:3] == [IGNORED, 10, end]


def test_a_model_that_knows_nothing_has_the_loss_of_a_guess(made: Made) -> None:
    model = made.network().eval()
    with torch.no_grad():
        for parameter in projection(model).parameters():
            parameter.zero_()
        for name, parameter in model.named_parameters():
            if "seq_relationship" in name or "sop_classifier" in name or "dense_prediction" in name:
                parameter.zero_()
    sums = evaluate(
        lambda batch: made.objective.forward(model, batch, None, None), made.examples,
        Budget(300, None, 10**9), CPU, made.objective.loss(), False,
    )  # fmt: skip
    assert sums.nats[TOKENS].sum() / sums.counts[TOKENS].sum() == pytest.approx(
        math.log(made.vocabulary.size), rel=1e-5
    )
    for kind in {PAIRS, REPLACED} & sums.nats.keys():
        assert sums.nats[kind].sum() / sums.counts[kind].sum() == pytest.approx(math.log(2), rel=1e-5)
    if REPLACED in sums.nats:
        assert sums.loss == pytest.approx(math.log(made.vocabulary.size) + 50 * math.log(2), rel=1e-5)


def projection(model: Any) -> Any:
    """Return what projects onto the vocabulary, in the network or in what stands beside it."""
    return networks(model)[0].get_output_embeddings()


def _train(made: Made, steps: int, rate: float, micro: int | None, dropout: float, count: int = 16) -> Any:
    model = made.network(dropout)
    reason = make_flat(model)
    assert (reason != "") == (made.family == "t5"), reason
    optimizer = build_optimizer(model, Full().parameter_groups(model), rate, 0.0)
    plan = Plan(steps, Epochs(16, "shuffled", 2), micro, 7, 0.0, "constant", 1.0)
    examples = made.examples.in_pass(0)
    found = fit(
        model, Fixed(examples, count), made.objective.loss(), optimizer, plan, Accelerator(cpu=True),
        forward=made.objective.forward,
    )  # fmt: skip
    return model, list(found)


class Fixed:
    """The first examples of a source, as they are in its first pass."""

    def __init__(self, examples: Any, count: int) -> None:
        self._examples, self.lengths = examples, examples.lengths[:count]

    def in_pass(self, number: int, short: bool = False) -> Fixed:
        return self

    def at(self, progress: float) -> Fixed:
        return self

    def batch(self, rows: Any, device: Any) -> Any:
        return self._examples.batch(rows, device)

    def targets_of(self, rows: Any) -> Any:
        return self._examples.targets_of(rows)


def test_one_batch_is_learnt_by_heart(made: Made) -> None:
    # Nothing tells the first words of several texts apart that begin alike.
    count = 1 if made.objective.name == CAUSAL else 6
    limit = 0.01
    if made.objective.name == "replaced_token_detection":
        # What is drawn changes until the generator knows its tokens, and a network that counts fifty times keeps it
        # from learning fast.
        made.objective, limit = made.objective.model_copy(update={"discriminator_weight": 1.0}), 0.06
    _, steps = _train(made, 160, 1e-2, None, 0.0, count)
    assert min(step.loss for step in steps[-20:]) < limit


def test_the_split_into_micro_batches_changes_nothing(made: Made) -> None:
    # T5 works on padded batches, whose dropout is torch's.
    dropout = 0.0 if made.family in ("t5", "llama") else 0.1
    runs = [_train(made, 1, 1e-3, micro, dropout)[1][0] for micro in (None, 4, 1)]
    for other in runs[1:]:
        assert other.loss == pytest.approx(runs[0].loss, rel=1e-6)
        assert other.gradient_norm == pytest.approx(runs[0].gradient_norm, rel=1e-5)


@pytest.mark.parametrize("case", ["masked", "causal", "next_sentence", "infilling"])
def test_packed_documents_do_not_see_each_other(case: str, tmp_path: Path, seed: int) -> None:
    made = Made(case, tmp_path, seed)
    model = made.network().eval()
    assert make_flat(model) == ""
    examples = made.examples.in_pass(0)
    asked = (examples.batch(made.rows(), CPU).targets != IGNORED).sum(dim=1)
    rows = made.rows()[np.argsort(-asked.numpy(), kind="stable")][:4]  # of a short one nothing may be hidden
    batch, changed = examples.batch(rows, CPU), examples.batch(rows, CPU)
    ordinary = torch.from_numpy(np.flatnonzero(made.vocabulary.ordinary))
    changed.inputs["input_ids"][0, 1:3] = ordinary[torch.randint(len(ordinary), (2,))]
    with torch.inference_mode():
        one, _ = made.objective.forward(model, batch, None, None)
        other, _ = made.objective.forward(model, changed, None, None)
    own = int((batch.targets[0] != IGNORED).sum())
    assert torch.equal(one[TOKENS][own:], other[TOKENS][own:])
    if case != "causal" or own > 3:
        assert not torch.equal(one[TOKENS][:own], other[TOKENS][:own])


def test_only_asked_places_are_projected_onto_the_vocabulary(made: Made) -> None:
    model = made.network().eval()
    seen: list[int] = []
    projection(model).register_forward_hook(lambda _, args, output: seen.append(output.shape[:-1].numel()))
    batch = made.examples.in_pass(0).batch(made.rows(), CPU)
    asked = int((batch.targets != IGNORED).sum())
    if batch.in_order is not None and made.family in ("roberta", "modernbert", "electra"):
        asked += len(batch.in_order)  # the head for tokens judges the pairs
    padded, _ = made.objective.forward(model, batch, None, None)
    if make_flat(model) == "":
        flat, _ = made.objective.forward(model, batch, None, None)
        assert torch.allclose(padded[TOKENS], flat[TOKENS], atol=1e-4)
        if PAIRS in flat:
            assert torch.allclose(padded[PAIRS], flat[PAIRS], atol=1e-4)
        assert seen[-1] == asked
    if made.family != "t5":  # whose head cannot be told apart from its body
        assert seen[0] == asked


def test_masks_for_nothing_never_lengthen_a_text_beyond_the_limit(tmp_path: Path, seed: int) -> None:
    made = Made("infilling", tmp_path, seed)
    # Full windows, of which hardly anything is lost, but much is put in.
    ordinary = np.flatnonzero(made.vocabulary.ordinary)[:60].tolist()
    objective = type(made.objective).model_validate({"mask_share": 0.9})
    examples = objective.examples(
        corpus_of([[ordinary] for _ in range(400)]), made.vocabulary, Reading(8, 8, 1)
    )
    for number in range(5):
        batch = examples.in_pass(number).batch(np.arange(400), CPU)
        assert batch.real.shape[1] <= 8
        end = made.tokenizer.sep_token_id
        assert (batch.inputs["input_ids"] * batch.real)[np.arange(400), batch.real.sum(1) - 1].tolist() == [
            end
        ] * 400


def test_frequencies_know_what_the_objective_adds_to_the_text(made: Made) -> None:
    """What says tokens as often as they occur is no worse than that for sentinels, ends and other special tokens."""
    size = made.vocabulary.size
    source = made.examples
    say = frequencies(
        source, size, lambda batch: ({}, {REPLACED: torch.zeros(len(batch.rows), dtype=torch.int64)})
    )
    batch = source.in_pass(0).at(1.0).batch(np.arange(3), CPU)
    chances = say(batch)[0][TOKENS][0].exp()
    assert float(chances.sum()) == pytest.approx(1.0, abs=1e-4)
    ordinary = np.bincount(made.corpus.tokens, minlength=size)
    asked = source.in_pass(0).at(1.0).targets_of(np.arange(len(source.lengths)))[TOKENS].numpy()
    asked = np.bincount(asked[asked != IGNORED], minlength=size)
    added = np.where(ordinary == 0, asked, 0) / asked.sum()
    assert (added.sum() > 0) == (made.family in ("t5", "bart", "gpt2", "llama"))
    expected = (1 - added.sum()) * (ordinary + 1) / (ordinary.sum() + size) + added
    np.testing.assert_allclose(chances.numpy(), expected, rtol=1e-4)
    without = (ordinary + 1) / (ordinary.sum() + size)
    nats, other = (-(asked * np.log(each)).sum() for each in (chances.numpy(), without))
    assert nats < other if added.any() else nats == pytest.approx(other, rel=1e-4)


def test_windows_hold_every_token_once(seed: int) -> None:
    sizes = np.random.default_rng(seed).integers(1, 50, size=40)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    cut = windows(starts, 16, special=2)
    tokens = np.concatenate([np.arange(*ends) for ends in zip(cut.starts[:, 0], cut.ends[:, 0], strict=True)])
    assert tokens.tolist() == list(range(int(starts[-1])))
    assert (cut.lengths == cut.ends[:, 0] - cut.starts[:, 0] + 2).all() and cut.lengths.max() <= 18
    longer, kept = windows(starts, 16, special=2, fewest=5), cut.lengths >= 7
    for one, other in zip(vars(longer).values(), vars(cut).values(), strict=True):
        assert (one is None and other is None) or np.array_equal(one, other[kept])


@pytest.mark.parametrize("pairs", ["next_sentence", "sentence_order"])
def test_pairs_made_in_parts_are_those_made_at_once(
    pairs: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(pairs, tmp_path, seed)
    whole = made.examples.in_pass(1).pass_cut
    monkeypatch.setattr(masked_language_modelling, "_SENTENCES_AT_ONCE", 7)
    parts = made.examples.in_pass(1).pass_cut
    assert whole.in_order is not None and len(whole.lengths) > 7
    assert all(map(np.array_equal, vars(whole).values(), vars(parts).values()))


@pytest.mark.parametrize(
    ("name", "options", "family", "missing"),
    [
        (MASKED, {}, "gpt2", "no token for what is hidden.*\n.*causal_language_modelling"),
        (CAUSAL, {}, "electra", "does not write.*\n.*replaced_token_detection"),
        (MASKED, {}, "bart", "writes another.*\n.*infilling"),
        (MASKED, {"pairs": "next_sentence"}, "bart", "writes another"),
        ("span_corruption", {}, "bart", "extra_id"),
        ("span_corruption", {}, "bert", "base=t5-tiny, or objective.name=masked_language_modelling"),
        ("infilling", {}, "bert", "no decoder beside.*\n.*base=bart-tiny, or objective.name=masked"),
        ("infilling", {}, "t5", "mask.*\n.*objective.name=span_corruption"),
        ("replaced_token_detection", {}, "roberta", "replaced"),
    ],
)
def test_what_cannot_be_trained_so_is_refused(
    name: str, options: dict[str, Any], family: str, missing: str, tmp_path: Path
) -> None:
    objective: Any = CATALOG.get(name).model_validate(options)  # pyright: ignore
    tokenizer = tokenizer_of(tmp_path, family)
    vocabulary = Vocabulary.of(tokenizer, len(tokenizer))
    network_of = {
        "gpt2": "causal_language_modelling",
        "roberta": MASKED,
        "electra": MASKED,
        "bert": MASKED,
    }.get(family, "infilling")
    member: Any = CATALOG.get(network_of)
    config = network(member(), family, vocabulary).config
    with pytest.raises(ConfigurationError, match=missing):
        objective.check(config, vocabulary)


def test_no_example_is_longer_than_is_said(made: Made) -> None:
    lengths = made.examples.in_pass(0).lengths
    longest = made.objective.longest_example(made.vocabulary, READING.tokens)
    assert READING.tokens <= longest and lengths.max() <= longest
    if (
        made.objective.name != MASKED or made.objective.pairs == "none"
    ):  # the corpus has documents beyond a window
        assert lengths.max() == longest


def test_no_more_is_scored_at_once_than_was_allowed(made: Made) -> None:
    network = made.network().eval()

    def scored(budget: Budget) -> tuple[Any, list[int]]:
        sizes: list[int] = []
        sums = evaluate(
            lambda batch: made.objective.forward(network, batch, None, None), made.examples, budget, CPU,
            made.objective.loss(), made.objective.says_every_token, sizes.append,
        )  # fmt: skip
        return sums, sizes

    whole, sizes = scored(Budget(10**6, None, 10**9))
    assert len(sizes) == 1
    for budget, most in ((Budget(10**6, 3, 10**9), 3), (Budget(1, None, 10**9), 1), (Budget(1, 7, 10**9), 1)):
        parts, sizes = scored(budget)
        assert max(sizes) == most
        assert parts.loss == pytest.approx(whole.loss, rel=1e-5)
        assert parts.documents == whole.documents
        assert (parts.bytes is None) == (made.objective.name != CAUSAL)


def test_a_bart_writes_what_it_is_fine_tuned_to_write(tmp_path: Path, seed: int) -> None:
    """The decoder learns to write <s> first, as targets of fine-tuning begin with it and scores of sentences ask it."""
    made = Made("infilling", tmp_path, seed)
    begin, end = made.vocabulary.beginning, made.vocabulary.end
    targets = made.examples.batch(made.rows(), CPU).targets
    for row in targets.tolist():
        asked = [token for token in row if token != IGNORED]
        assert asked[0] == begin and asked[-1] == end
        assert made.vocabulary.ordinary[asked[1:-1]].all()


def test_infilling_cuts_nothing_off(tmp_path: Path, seed: int) -> None:
    """Masks that stand for nothing would lengthen windows beyond what is read, where little is lost."""
    objective: Any = CATALOG.get("infilling").model_validate({"mask_share": 0.04})  # pyright: ignore
    tokenizer = tokenizer_of(tmp_path, "bart")
    vocabulary = Vocabulary.of(tokenizer, len(tokenizer))
    examples = objective.examples(random_corpus(vocabulary, seed), vocabulary, READING)
    for number in range(20):
        some = examples.in_pass(number)
        batch = some.batch(np.arange(len(some.lengths)), CPU)
        for read, written in zip(batch.inputs["input_ids"].tolist(), batch.targets.tolist(), strict=True):
            texts = [
                [token for token in row if vocabulary.ordinary[max(token, 0)]] for row in (read, written)
            ]
            lost = len(texts[1]) - len(texts[0])
            assert lost <= math.ceil(0.04 * len(texts[1]))
