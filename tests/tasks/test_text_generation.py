"""Texts from texts: the losses and texts of stock transformers, special tokens, languages, limits, the model card."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tests.tasks.test_contract import written_rows
from tests.test_training_run import StopAt
from tests.tiny import WRITING_FAMILIES, tiny_base
from transformers.trainer_pt_utils import LabelSmoother

from graftlm.cli import app
from graftlm.data.dataset import Split
from graftlm.data.features import IGNORED
from graftlm.data.options import DataOptions
from graftlm.data.table import Table, Tables
from graftlm.data.writing import Written
from graftlm.errors import ConfigurationError, DataError, ModelError
from graftlm.objectives.cross_entropy import CrossEntropy
from graftlm.opening import infer_task
from graftlm.predictor import Predictor
from graftlm.preparation import build_model, open_encoder, prepare
from graftlm.progress import Silent
from graftlm.recipe import Recipe, load_recipe
from graftlm.tasks.text_generation import TextGeneration
from graftlm.training.batching import Examples
from graftlm.training.evaluation import predict_outputs
from graftlm.training.outputs import forward
from graftlm.workflows.finetune import finetune, resume

CPU = torch.device("cpu")
MODELS = Path(os.environ.get("GRAFTLM_SHARED_DATA", "../shared/data")).parent / "models"


def recipe_of(base: Path, **changes: Any) -> Recipe:
    return load_recipe(
        None,
        {
            "base": str(base), "task.name": "text_generation", "task.max_target_tokens": 14, "task.num_beams": 1,
            "evaluation.proof": "none", "evaluation.resamples": 100, "training.device": "cpu",
            "training.batch_size": 8, **changes,
        },
    )  # fmt: skip


def split_of(sources: list[str], targets: list[str] | None = None) -> Split:
    columns: dict[str, list[object]] = {"source": list(sources)}
    if targets is not None:
        columns["target"] = list(targets)
    return Split("test", columns, [f"row {row}" for row in range(len(sources))])


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny base model of every family that writes."""
    folder = tmp_path_factory.mktemp("bases")
    return {family: tiny_base(folder / family, family, dropout=0.0) for family in WRITING_FAMILIES}


def written_everything(base: Path, rows: list[dict[str, Any]], **changes: Any) -> tuple[Any, Any]:
    """The features of rows and the model, as a training has them."""
    recipe = recipe_of(base, **{"data.validation_share": 0.0, "data.test_share": 0.0, **changes})
    prepared = prepare(recipe, rows, Silent())
    return prepared, build_model(recipe, prepared, Silent())


# Losses


def our_loss(model: Any, examples: Examples, smoothing: float) -> float:
    loss = CrossEntropy(label_smoothing=smoothing).bind([], [])
    batch = examples.batch(np.arange(len(examples)), CPU)
    with torch.inference_mode():
        (term,) = loss.terms(forward(model, batch, None), batch.targets)
    return float(term.total) / loss.weights(batch.targets)[term.name]


def stock_loss(
    model: Any, inputs: list[list[int]], labels: list[list[int]], pad: int, smoothing: float
) -> float:
    def padded(rows: list[list[int]], fill: int) -> torch.Tensor:
        width = max(map(len, rows))
        return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])

    mask = padded([[1] * len(row) for row in inputs], 0)
    wanted = padded(labels, -100)
    with torch.inference_mode():
        result = model(input_ids=padded(inputs, pad), attention_mask=mask, labels=wanted)
    if not smoothing:
        return float(result.loss)
    smoother = LabelSmoother(epsilon=smoothing)
    # It writes into the labels that it is given.
    return float(smoother(result, wanted.clone(), shift_labels=not model.config.is_encoder_decoder))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("family", WRITING_FAMILIES)
def test_the_loss_is_that_of_stock_transformers(
    family: str, smoothing: float, bases: dict[str, Path]
) -> None:
    rows = written_rows(5)
    prepared, model = written_everything(bases[family], rows)
    ours = our_loss(model, prepared.examples["train"], smoothing)
    # As its examples prepare it.
    stock_tokenizer = transformers.AutoTokenizer.from_pretrained(bases[family])
    order = prepared.dataset.splits["train"].columns
    pairs = list(zip(order["source"], order["target"], strict=True))
    if model.config.is_encoder_decoder:
        inputs = [stock_tokenizer(source)["input_ids"] for source, _ in pairs]
        labels = [stock_tokenizer(text_target=target)["input_ids"] for _, target in pairs]
    else:
        prompts = [stock_tokenizer(source + "\n")["input_ids"] for source, _ in pairs]
        texts = [
            [*stock_tokenizer(target, add_special_tokens=False)["input_ids"], stock_tokenizer.eos_token_id]
            for _, target in pairs
        ]
        inputs = [[*prompt, *text] for prompt, text in zip(prompts, texts, strict=True)]
        labels = [[*[-100] * len(prompt), *text] for prompt, text in zip(prompts, texts, strict=True)]
    assert len(set(map(len, inputs))) > 1
    pad = stock_tokenizer.pad_token_id or 0
    stock = stock_loss(model, inputs, labels, pad, smoothing)
    assert ours == pytest.approx(stock, rel=1e-6)


OTHER_FAMILIES = {
    "marian": ("MarianConfig", {"decoder_start_token_id": 1, "pad_token_id": 1, "eos_token_id": 0}),
    "mbart": ("MBartConfig", {"pad_token_id": 1, "eos_token_id": 2}),
    "m2m_100": ("M2M100Config", {"decoder_start_token_id": 2, "pad_token_id": 1, "eos_token_id": 2}),
    "pegasus": ("PegasusConfig", {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}),
    "blenderbot": ("BlenderbotConfig", {"decoder_start_token_id": 1, "pad_token_id": 0, "eos_token_id": 2}),
    "plbart": ("PLBartConfig", {"pad_token_id": 1, "eos_token_id": 2}),
}


@pytest.mark.parametrize("family", OTHER_FAMILIES)
def test_the_loss_of_other_families_is_that_of_stock_transformers(family: str, seed: int) -> None:
    """mBART and PLBart begin with the language, which stands at the end of the labels that they are given."""
    name, special = OTHER_FAMILIES[family]
    config = getattr(transformers, name)(
        vocab_size=50, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=32,
        dropout=0.0, attention_dropout=0.0, **special,
    )  # fmt: skip
    model = transformers.AutoModelForSeq2SeqLM.from_config(config).eval()
    random = np.random.default_rng(seed)
    lengths = [(9, 3), (4, 8), (6, 6)]
    inputs = [random.integers(3, 50, length).tolist() for length, _ in lengths]
    language = 49  # as the last token of labels
    ends = [config.eos_token_id, *([language] if family in ("mbart", "plbart") else [])]
    labels = [[*random.integers(3, 40, length).tolist(), *ends] for _, length in lengths]
    if len(ends) > 1:
        model.generation_config.decoder_start_token_id = language
    examples = Examples(
        {"input_ids": inputs}, [np.array(each) for each in labels], {"input_ids": config.pad_token_id},
        written=True,
    )  # fmt: skip
    stock = stock_loss(model, inputs, labels, config.pad_token_id, 0.0)
    assert our_loss(model, examples, 0.0) == pytest.approx(stock, rel=1e-6)


def test_a_target_that_was_cut_is_still_begun_with_its_language(tmp_path: Path) -> None:
    """The shifting of mBART itself would begin it with its last token."""
    base = mbart_base(tmp_path / "base")
    changes = {"task.source_language": "fr_XX", "task.target_language": "de_DE", "task.max_target_tokens": 4}
    rows = [{"source": f"w{row} x", "target": f"y{row} zzzzzzz"} for row in range(6)]
    prepared, model = written_everything(base, rows, **changes)
    assert prepared.features["train"].writing.cut_rows == list(range(6))
    batch = prepared.examples["train"].batch(np.arange(6), CPU)
    seen: list[torch.Tensor] = []
    model.register_forward_pre_hook(
        lambda _, __, given: seen.append(given["decoder_input_ids"]), with_kwargs=True
    )
    forward(model, batch, None)
    language = prepared.encoder.tokenizer.convert_tokens_to_ids("de_DE")
    assert seen[0][:, 0].tolist() == [language] * 6
    assert torch.equal(seen[0][:, 1:], batch.targets[:, :-1])


# Tokens


@pytest.mark.parametrize("family", WRITING_FAMILIES)
def test_targets_end_with_the_end_token_also_where_cut_and_prompts_do_not_depend_on_them(
    family: str, bases: dict[str, Path]
) -> None:
    recipe = recipe_of(bases[family], **{"task.max_target_tokens": 6, "task.max_length_tokens": 20})
    task: Any = recipe.task
    _, _, encoder = open_encoder(recipe)
    sources, targets = (
        ["the train is very good", "no", "the " * 50],
        ["by night", "one two three four five six", "a"],
    )
    features = task.encode(split_of(sources, targets), encoder)
    alone = task.encode(split_of(sources), encoder)
    writing = features.writing
    assert writing is not None and alone.writing is not None
    assert features.truncated_rows == alone.truncated_rows == [2]
    assert writing.cut_rows == [1] and alone.writing.cut_rows == [] and list(alone.writing.targets) == []
    wanted = [each[each != IGNORED].tolist() for each in writing.targets]
    (end,) = encoder.end_tokens
    assert [each[-1] == end for each in wanted] == [True, True, True]
    assert all(end not in each[:-1] for each in wanted)
    assert [writing.reader.text(each) for each in wanted][::2] == [targets[0], targets[2]]
    assert len(wanted[1]) == 6 and targets[1].startswith(writing.reader.text(wanted[1]))
    if encoder.encoder_decoder:
        assert writing.prompts is None and features.inputs == alone.inputs
        assert max(map(len, features.inputs["input_ids"])) == 20
        return
    assert writing.prompts == alone.writing.prompts
    assert writing.prompts is not None and writing.prompts[2] == 14
    for ids, prompt, length in zip(
        features.inputs["input_ids"], alone.inputs["input_ids"], writing.prompts, strict=True
    ):
        assert ids[:length] == prompt and len(prompt) == length
    for ids, each, length in zip(features.inputs["input_ids"], writing.targets, writing.prompts, strict=True):
        assert each[length - 1 : -1].tolist() == ids[length:] and (each[: length - 1] == IGNORED).all()


@pytest.mark.parametrize("family", WRITING_FAMILIES)
def test_the_names_of_special_tokens_are_text(family: str, bases: dict[str, Path]) -> None:
    recipe = recipe_of(bases[family], **{"task.max_target_tokens": 40})
    task: Any = recipe.task
    _, _, encoder = open_encoder(recipe)
    special = [token for token in encoder.tokenizer.all_special_tokens if "unk" not in token]
    assert special
    for token in special:
        features = task.encode(split_of([f"a {token} b"] * 2, [token, f"{token} a"]), encoder)
        plain = task.encode(split_of(["a b"] * 2, ["a", "a"]), encoder)
        number = encoder.tokenizer.convert_tokens_to_ids(token)
        for ids, beside in zip(features.inputs["input_ids"], plain.inputs["input_ids"], strict=True):
            assert ids.count(number) == beside.count(number)
        assert features.writing is not None
        for targets in features.writing.targets:
            ids = targets[targets != IGNORED].tolist()
            assert encoder.end_tokens.isdisjoint(ids[:-1]) and ids[-1] in encoder.end_tokens


@pytest.mark.parametrize("family", ["t5", "llama"])
def test_prefix_and_separator_are_read(family: str, bases: dict[str, Path]) -> None:
    changes = {"task.prefix": "please sell : ", "task.separator": " ##ly yes "}
    recipe, plain = recipe_of(bases[family], **changes), recipe_of(bases[family])
    _, _, encoder = open_encoder(recipe)
    (ids,) = recipe.task.encode(split_of(["the book"]), encoder).inputs["input_ids"]
    (bare,) = plain.task.encode(split_of(["the book"]), encoder).inputs["input_ids"]
    read = encoder.tokenizer.decode(ids, skip_special_tokens=True)
    assert read.startswith("please sell : the book")
    assert read.endswith("yes") is (family == "llama") and len(ids) > len(bare)


def test_too_many_tokens_to_be_written_are_refused(bases: dict[str, Path]) -> None:
    with pytest.raises(ConfigurationError, match=r"65 tokens exceed .* 64"):
        open_encoder(recipe_of(bases["bart"], **{"task.max_target_tokens": 65}))
    open_encoder(recipe_of(bases["t5"], **{"task.max_target_tokens": 1000}))  # relative positions
    recipe = recipe_of(bases["gpt2"], **{"task.max_target_tokens": 60})
    _, _, encoder = open_encoder(recipe)
    with pytest.raises(ConfigurationError, match=r"60 tokens to be written leave 4 of 64") as caught:
        recipe.task.encode(split_of(["a"]), encoder)
    assert "allow 32," in caught.value.fix


@pytest.mark.parametrize(("family", "tokens"), [("gpt2", 32), ("bart", 64), ("t5", 128)])
def test_the_longest_text_is_what_the_base_model_has_room_for(
    family: str, tokens: int, bases: dict[str, Path]
) -> None:
    """One network divides its positions between both texts; a decoder has its own, or positions without an end."""
    recipe = recipe_of(bases[family], **{"task.max_target_tokens": None})
    _, _, encoder = open_encoder(recipe)
    assert encoder.max_target_tokens == tokens
    assert len(recipe.task.encode(split_of(["the book"]), encoder)) == 1
    prepared, model = written_everything(bases[family], written_rows(4), **{"task.max_target_tokens": None})
    assert model.generation_config.max_new_tokens == prepared.encoder.max_target_tokens == tokens


def test_a_source_without_any_token_is_still_read(bases: dict[str, Path]) -> None:
    """WordPiece leaves nothing of a control character, GPT-2 puts no token before a text."""
    recipe = recipe_of(bases["gpt2"])
    prepared, model = written_everything(bases["gpt2"], written_rows(4))
    features = recipe.task.encode(split_of(["\x07", "the book"]), prepared.encoder)
    examples = Examples.of(features, None, prepared.encoder.padding, "left")
    outputs = predict_outputs(model, examples, 4096, CPU)
    assert all(len(output) for output in outputs)


def test_a_separator_that_leaves_nothing_to_the_source_is_refused(bases: dict[str, Path]) -> None:
    recipe = recipe_of(bases["gpt2"], **{"task.separator": "the " * 50})
    _, _, encoder = open_encoder(recipe)
    with pytest.raises(ConfigurationError, match=r"separator has 50 tokens, of which 50 are left"):
        recipe.task.encode(split_of(["a"]), encoder)


# Refusals


def test_an_encoder_is_refused_and_models_that_write_are_named(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="t5") as caught:
        finetune(recipe_of(tiny_bert), written_rows(12), tmp_path / "run")
    assert "bart" in str(caught.value) and "gpt2" in str(caught.value)


def test_class_weights_are_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    recipe = recipe_of(bases["t5"], **{"objective.class_weights": "balanced"})
    with pytest.raises(ConfigurationError, match="has no labels that could be weighted"):
        finetune(recipe, written_rows(12), tmp_path / "run")


@pytest.mark.parametrize("blank", ["", " \n", None])
def test_a_row_without_target_is_refused_with_its_place(
    blank: str | None, bases: dict[str, Path], tmp_path: Path
) -> None:
    rows = written_rows(12)
    rows[3]["target"] = blank
    with pytest.raises(DataError, match="row 4"):
        finetune(recipe_of(bases["t5"]), rows, tmp_path / "run")


@pytest.mark.parametrize(
    ("names", "known"),
    [
        (("document", "summary"), True),
        (("Prompt", "completion"), True),
        (("text", "label"), False),
        (("text", "title"), False),
        (("source", "target"), True),
        (("text", "target"), True),
        (("id", "summary"), False),
    ],
)
def test_what_it_recognises(names: tuple[str, str], known: bool) -> None:
    columns: dict[str, list[object]] = {name: [f"{name} {row}" for row in range(8)] for name in names}
    table = Table("a.csv", columns, None, typed=False)
    assert bool(TextGeneration.recognises(table)) is known
    if known:
        assert infer_task(Tables({"all": table}, "a.csv"), DataOptions())[0] == "text_generation"


@pytest.mark.parametrize(
    ("targets", "task"),
    [(["good", "bad"] * 10, "text_classification"), ([f"{row}.5" for row in range(40)], "text_regression")],
)
def test_a_target_that_is_a_label_or_a_number_is_no_text(targets: list[object], task: str) -> None:
    columns = {"text": [f"the text {row}" for row in range(len(targets))], "target": targets}
    table = Table("a.csv", columns, None, typed=False)
    assert infer_task(Tables({"all": table}, "a.csv"), DataOptions())[0] == task


# Languages


def nllb_base(folder: Path) -> Path:
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *(chr(code) for code in range(33, 127))]
    tokenizer = transformers.NllbTokenizer(
        vocab={piece: number for number, piece in enumerate(pieces)}, merges=[],
        extra_special_tokens=["eng_Latn", "fra_Latn", "deu_Latn"], model_max_length=64,
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    config = transformers.M2M100Config(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64,
        decoder_start_token_id=2,
    )  # fmt: skip
    return saved(config, folder)


def mbart_base(folder: Path) -> Path:
    letters = [(chr(code), -3.0) for code in range(33, 127)]
    vocabulary = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *letters]
    tokenizer = transformers.MBartTokenizer(vocab=vocabulary, model_max_length=64)
    tokenizer.save_pretrained(folder)
    config = transformers.MBartConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64,
    )  # fmt: skip
    return saved(config, folder)


def saved(config: Any, folder: Path) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = transformers.AutoModelForSeq2SeqLM.from_config(config)
    model.save_pretrained(folder)
    return folder


LANGUAGES = {
    "nllb": (nllb_base, "fra_Latn", "deu_Latn", "deu_Latin"),
    "mbart": (mbart_base, "fr_XX", "de_DE", "de_XX"),
}


@pytest.mark.parametrize("family", LANGUAGES)
def test_languages_set_the_tokens_of_both_texts_and_the_first_that_is_written(
    family: str, tmp_path: Path
) -> None:
    make, source, target, unknown = LANGUAGES[family]
    base = make(tmp_path / "base")
    stock = transformers.AutoTokenizer.from_pretrained(base, src_lang=source, tgt_lang=target)
    changes = {"task.source_language": source, "task.target_language": target, "training.epochs": 1}
    rows = [{"source": f"w{row} x", "target": f"y{row} z"} for row in range(12)]
    prepared, model = written_everything(base, rows, **changes)
    features, split = prepared.features["train"], prepared.dataset.splits["train"]
    assert list(features.inputs["input_ids"]) == stock(split.columns["source"])["input_ids"]
    code = stock.convert_tokens_to_ids(target)
    read = [np.array(ids) for ids in stock(text_target=split.columns["target"])["input_ids"]]
    begins = model.generation_config
    if family == "mbart":  # the language stands behind the text, where nobody reads it, and begins the next
        assert all(ids[-1] == code for ids in read)
        read = [ids[:-1] for ids in read]
        assert (begins.decoder_start_token_id, begins.forced_bos_token_id) == (code, None)
    else:
        assert (begins.decoder_start_token_id, begins.forced_bos_token_id) == (2, code)
    for ours, theirs in zip(features.writing.targets, read, strict=True):
        assert ours.tolist() == theirs.tolist()
    # The saved folder knows its languages: plain transformers reads and writes alike.
    run = finetune(recipe_of(base, **changes), rows, tmp_path / "run")
    folder = run.directory.model
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    plain = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    assert tokenizer("w1 x")["input_ids"] == stock("w1 x")["input_ids"]
    written = plain.generate(**tokenizer("w1 x", return_tensors="pt"))[0]
    assert written[0 if family == "mbart" else 1] == code
    (prediction,) = run.predictor("cpu")(["w1 x"])
    assert tokenizer.decode(written, skip_special_tokens=True).strip() == prediction.text
    for key in ("source", "target"):
        with pytest.raises(ConfigurationError, match=f"{unknown}.*Did you mean") as caught:
            open_encoder(recipe_of(base, **{f"task.{key}_language": unknown}))
        assert f"task.{key}_language" in str(caught.value)


def test_a_language_for_a_model_of_none_is_refused(bases: dict[str, Path]) -> None:
    with pytest.raises(ConfigurationError, match=r"no token for the language 'deu_Latn'"):
        open_encoder(recipe_of(bases["bart"], **{"task.target_language": "deu_Latn"}))


# What is written


@pytest.fixture(scope="module")
def runs(bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A trained model that reads with an encoder, and one network that does both."""
    changes = {
        "task.num_beams": 4, "task.length_penalty": 0.7, "task.no_repeat_ngram_size": 3, "training.epochs": 25,
        "task.repetition_penalty": 1.1, "training.learning_rate": 1e-2, "task.prefix": "yes : ",
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("runs")
    return {
        family: finetune(recipe_of(bases[family], **changes), written_rows(40), folder / family)
        for family in ("bart", "gpt2")
    }


SOURCES = [
    "the train",
    "this my was lovely great love of",
    "night",
    "hate the bus and my road to the city",
    "a",
]


def stock_text(model: Any, tokenizer: Any, family: str, source: str, beams: int) -> list[int]:
    ids = tokenizer(source)["input_ids"]
    inputs = torch.tensor([ids])
    settings = {"length_penalty": 0.7, "early_stopping": True} if beams > 1 else {}
    written = model.generate(
        input_ids=inputs, attention_mask=torch.ones_like(inputs), num_beams=beams, max_new_tokens=14,
        no_repeat_ngram_size=3, repetition_penalty=1.1, do_sample=False, **settings,
    )[0].tolist()  # fmt: skip
    written = written[1:] if family == "bart" else written[len(ids) :]
    end = tokenizer.eos_token_id
    return written[: written.index(end) + 1] if end in written else written


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("family", ["bart", "gpt2"])
def test_every_text_is_what_stock_transformers_writes_alone(family: str, beams: int, runs: Any) -> None:
    folder = runs[family].directory.model
    predictor = Predictor.open(folder, "cpu")
    settings = predictor.model.generation_config
    assert settings is not None
    settings.num_beams = beams
    if beams == 1:
        settings.early_stopping = settings.length_penalty = None
    features = predictor.encode(split_of(SOURCES))
    outputs = [Written.of(each) for each in predictor.outputs(split_of(SOURCES), features, 8)]
    plain = transformers.AutoModelForCausalLM if family == "gpt2" else transformers.AutoModelForSeq2SeqLM
    model, tokenizer = (
        plain.from_pretrained(folder).eval(),
        transformers.AutoTokenizer.from_pretrained(folder),
    )
    assert len({str(each.tokens) for each in outputs}) > 1
    for source, output in zip(SOURCES, outputs, strict=True):
        tokens = stock_text(model, tokenizer, family, f"yes : {source}", beams)
        assert output.tokens == tokens
        # How probable the bare model finds it.
        ids = tokenizer(f"yes : {source}")["input_ids"]
        with torch.inference_mode():
            if family == "bart":
                begun = torch.tensor([[2, *tokens[:-1]]])
                logits = model(input_ids=torch.tensor([ids]), decoder_input_ids=begun).logits[0]
            else:
                logits = model(input_ids=torch.tensor([[*ids, *tokens]])).logits[0, len(ids) - 1 : -1]
        wanted = logits.log_softmax(-1).gather(1, torch.tensor(tokens)[:, None]).squeeze(1)
        np.testing.assert_allclose(output.log_probabilities, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["t5", "llama"])
def test_untrained_models_of_other_families_write_as_stock_ones_do(
    family: str, bases: dict[str, Path]
) -> None:
    rows = [{"source": source, "target": "a"} for source in SOURCES]
    prepared, model = written_everything(bases[family], rows, **{"task.num_beams": 4})
    examples, source_of = prepared.examples["train"], prepared.dataset.splits["train"].columns["source"]
    for source, output in zip(source_of, predict_outputs(model, examples, 4096, CPU), strict=True):
        inputs = prepared.encoder.tokenizer(source, return_tensors="pt", return_token_type_ids=False)
        written = model.generate(**inputs, num_beams=4, max_new_tokens=14, early_stopping=True)[0].tolist()
        begun = 1 if family == "t5" else inputs["input_ids"].shape[1]
        assert Written.of(output).tokens == written[begun:]


@pytest.mark.parametrize("family", ["bart", "gpt2"])
def test_predictions_are_in_row_order_in_any_batch_and_perplexity_is_that_of_stock(
    family: str, runs: Any
) -> None:
    predictor = runs[family].predictor("cpu")
    rows = written_rows(9, seed=7)
    split = split_of([row["source"] for row in rows], [row["target"] for row in rows])
    whole, alone = (predictor.predict(split, size, compared=True) for size in (4, 1))
    for one, other in zip(whole, alone, strict=True):
        assert (one.text, one.cut, one.reference_tokens) == (other.text, other.cut, other.reference_tokens)
        assert one.reference_log_probability == pytest.approx(other.reference_log_probability, rel=1e-4)
        assert one.score == pytest.approx(other.score, rel=1e-4)
    total, tokens = 0.0, 0
    for row, prediction in zip(rows, whole, strict=True):
        tokenizer, model = predictor.encoder.tokenizer, predictor.model
        source = tokenizer(f"yes : {row['source']}")["input_ids"]
        target = [*tokenizer(row["target"], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        if family == "bart":
            inputs, labels = source, tokenizer(text_target=row["target"])["input_ids"]
        else:
            inputs, labels = [*source, *target], [*[-100] * len(source), *target]
        count = sum(label != -100 for label in labels)
        loss = stock_loss(model, [inputs], [labels], 0, 0.0)
        assert prediction.reference_log_probability == pytest.approx(-loss * count, rel=1e-4)
        assert prediction.reference_tokens == count
        total, tokens = total + loss * count, tokens + count
    scores = predictor.task.score(whole, split, predictor.learnt, resamples=100)
    assert scores.values["perplexity"].value == pytest.approx(math.exp(total / tokens), rel=1e-4)


@pytest.mark.parametrize("family", ["bart", "gpt2"])
def test_the_snippet_of_the_card_writes_alike_without_graftlm(
    family: str, runs: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = runs[family].directory.model
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert "graftlm" not in code.lower()
    code = code.replace("path/to/model", str(folder))
    long = "lovely great love " * 60
    predictions = runs[family].predictor("cpu")([*SOURCES, long])
    assert len({prediction.text for prediction in predictions}) > 1
    capsys.readouterr()
    for source, prediction in zip([*SOURCES, long], predictions, strict=True):
        exec(code.replace('"your source"', repr(source)), {})
        assert capsys.readouterr().out.strip() == prediction.text


@pytest.mark.parametrize("family", ["bart", "gpt2"])
def test_the_folder_holds_how_it_writes(family: str, runs: Any) -> None:
    stored = json.loads((runs[family].directory.model / "generation_config.json").read_text())
    wanted = {
        "num_beams": 4, "max_new_tokens": 14, "length_penalty": 0.7, "early_stopping": True, "do_sample": False,
        "no_repeat_ngram_size": 3, "repetition_penalty": 1.1,
    }  # fmt: skip
    assert wanted.items() <= stored.items()
    assert stored["eos_token_id"] == (2 if family == "bart" else 0) and stored["pad_token_id"] is not None
    # The last token of a text that was cut must not look like an end.
    assert stored.get("forced_eos_token_id") is None


def test_the_command_writes_the_same(runs: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new.csv"
    file.write_text("source\n" + "".join(f"{source}\n" for source in SOURCES))
    assert app.run(["predict", str(runs["bart"].path), str(file), "--quiet"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    predictions = runs["bart"].predictor("cpu")(SOURCES)
    assert [line["text"] for line in lines] == [prediction.text for prediction in predictions]


def test_the_files_of_a_run_hold_no_texts(runs: Any) -> None:
    run = runs["bart"]
    lines = [json.loads(line) for line in run.directory.predictions("test").read_text().splitlines()]
    assert all("text" not in line and {"score", "cut", "reference"} <= line.keys() for line in lines)
    assert not any("by label" in sentence for sentence in run.record["data"]["decisions"])


def test_a_crashed_run_resumes_as_if_it_had_not(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", "bart", dropout=0.2)
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in written_rows(24)))
    changes = {"training.epochs": 2, "training.checkpoint_steps": 1, "training.micro_batch": 5}
    recipe = recipe_of(base, **{"data.path": str(file), **changes})
    whole = finetune(recipe, None, tmp_path / "whole")
    with pytest.raises(SystemError):
        finetune(recipe, None, tmp_path / "crashed", StopAt(3))
    again = resume(tmp_path / "crashed")

    def files(run: Any) -> list[object]:
        steps = [json.loads(line) for line in run.directory.steps.read_text().splitlines()]
        logged = [{key: value for key, value in step.items() if key != "seconds"} for step in steps]
        found = [run.directory.predictions("test"), run.directory.evaluation("test")]
        return [
            logged, *(file.read_text() for file in found),
            (run.directory.model / "model.safetensors").read_bytes(),
        ]  # fmt: skip

    assert files(whole) == files(again)


# Slow tokenizers


def test_a_slow_tokenizer_writes(bases: dict[str, Path], tmp_path: Path) -> None:
    """Its special tokens in a text are text as well."""
    base = tmp_path / "base"
    shutil.copytree(bases["bart"], base)
    for file in base.glob("tokenizer*"):
        file.unlink()
    letters = [chr(code) for code in range(33, 127)]
    pieces = ["__start__", "__null__", "__end__", "__unk__", *letters, *(f"{letter}@@" for letter in letters)]
    (tmp_path / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    (tmp_path / "merges.txt").write_text("#version\nt h\n")
    slow = transformers.BlenderbotSmallTokenizer(
        str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"), model_max_length=64
    )
    slow.save_pretrained(base)
    run = finetune(recipe_of(base, **{"training.epochs": 1}), written_rows(16), tmp_path / "run")
    predictor = run.predictor("cpu")
    assert not isinstance(predictor.encoder.tokenizer, transformers.PreTrainedTokenizerFast)
    (ids,) = predictor.encode(split_of(["the __end__ train __null__"])).inputs["input_ids"]
    assert {1, 2}.isdisjoint(ids)
    cut = predictor.encode(split_of(["the train"] * 2, ["the " * 30, "by car"]))
    assert cut.writing is not None and cut.writing.cut_rows == [0]
    assert predictor.encode(split_of(["train " * 100])).truncated_rows == [0]


def marian_base(folder: Path, separate: bool) -> Path:
    """A tiny Marian with a SentencePiece model for each side, and one vocabulary for both or one for each."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="Marian needs the package sentencepiece")
    rows = written_rows(200)
    sides = {"source": [row["source"] for row in rows], "target": [row["target"].upper() for row in rows]}
    raw, pieces = folder / "raw", dict[str, list[str]]()
    raw.mkdir(parents=True)
    for side, texts in sides.items():
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_prefix=str(raw / side), vocab_size=80, hard_vocab_limit=False,
            minloglevel=2,
        )  # fmt: skip
        model = sentencepiece.SentencePieceProcessor(model_file=str(raw / f"{side}.model"))
        known = (model.id_to_piece(number) for number in range(model.get_piece_size()))
        pieces[side] = ["</s>", "<unk>", *(piece for piece in known if piece not in ("<s>", "</s>", "<unk>"))]
    if not separate:
        both = list(dict.fromkeys([*pieces["source"], *pieces["target"], ">>deu<<"]))
        pieces = dict.fromkeys(sides, both)
    pad = max(map(len, pieces.values()))
    for side, each in pieces.items():
        numbers = {**{piece: number for number, piece in enumerate(each)}, "<pad>": pad}
        (raw / f"{side}.json").write_text(json.dumps(numbers))
    files = [str(raw / name) for name in ("source.model", "target.model", "source.json", "target.json")]
    tokenizer = transformers.MarianTokenizer(
        *files[:3],
        target_vocab_file=files[3] if separate else None,
        separate_vocabs=separate,
        model_max_length=64,
    )
    tokenizer.save_pretrained(folder)
    shutil.rmtree(raw)
    config = transformers.MarianConfig(
        vocab_size=pad + 1, decoder_vocab_size=pad + 1, d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
        max_position_embeddings=64, pad_token_id=pad, eos_token_id=0, decoder_start_token_id=pad,
        forced_eos_token_id=0, bad_words_ids=[[pad]], share_encoder_decoder_embeddings=not separate,
        tie_word_embeddings=not separate,
    )  # fmt: skip
    return saved(config, folder)


@pytest.mark.filterwarnings("ignore:Recommended")
@pytest.mark.parametrize("separate", [False, True], ids=["one vocabulary", "two"])
def test_marian_reads_and_writes_with_the_pieces_of_each_side(separate: bool, tmp_path: Path) -> None:
    base = marian_base(tmp_path / "base", separate)
    prefix = "" if separate else ">>deu<< "
    rows = [{**row, "target": row["target"].upper()} for row in written_rows(24)]
    changes = {"training.epochs": 1, "task.prefix": prefix, "evaluation.proof": "fresh_process"}
    run = finetune(recipe_of(base, **changes), rows, tmp_path / "run")
    folder = run.directory.model
    assert ("target_vocab.json" in {file.name for file in folder.iterdir()}) == separate
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    plain = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    predictor = run.predictor("cpu")
    source, target = rows[0]["source"], rows[0]["target"]
    features = predictor.encode(split_of([source], [target]))
    (wanted,), reader = features.writing.targets, features.writing.reader
    assert features.inputs["input_ids"] == tokenizer([prefix + source])["input_ids"]
    assert wanted.tolist() == tokenizer(text_target=target)["input_ids"]
    assert wanted.max() > 1 and reader.text(wanted.tolist()) == target and reader.ended(wanted.tolist())
    (prediction,) = predictor([source])
    written = plain.generate(**tokenizer(prefix + source, return_tensors="pt"))[0]
    assert tokenizer.decode(written, skip_special_tokens=True).strip() == prediction.text


# Real weights

NAMES = {"آتزمون": "atzmon", "آتشيسون": "achison", "فاطمة": "fatma", "سعيد": "said", "عبد": "abd"}


@pytest.mark.real
@pytest.mark.parametrize("beams", [1, 4])
def test_a_pretrained_model_writes_what_it_was_trained_to(beams: int, tmp_path: Path) -> None:
    base = MODELS / "aren-transliteration"
    if not base.is_dir():
        pytest.skip(f"no weights at {base}; set GRAFTLM_SHARED_DATA")
    changes = {
        "task.num_beams": beams, "task.max_target_tokens": 60, "training.epochs": 1, "training.learning_rate": 1e-7,
        "data.validation_share": 0.0, "data.test_share": 0.0,
    }  # fmt: skip
    rows = [{"source": source, "target": target} for source, target in NAMES.items()]
    predictor = finetune(recipe_of(base, **changes), rows, tmp_path / "run").predictor("cpu")
    split = split_of(list(NAMES), list(NAMES.values()))
    predictions = predictor.predict(split, 5, compared=True)
    assert [prediction.text for prediction in predictions] == list(NAMES.values())
    assert not any(prediction.cut for prediction in predictions)
    scores = predictor.task.score(predictions, split, predictor.learnt, resamples=100)
    assert scores.values["chrf"].value == 1.0 and scores.values["perplexity"].value < 2.5
