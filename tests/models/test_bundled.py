"""The base models that ship with the package: small, whole, and really pretrained."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open

from graftlm.models.base_model import load_config, load_model, load_tokenizer
from graftlm.models.locating import BUNDLED, locate
from graftlm.pretraining_recipe import load_pretraining
from graftlm.training.likelihood import log_likelihoods

OWN = [name for name, entry in BUNDLED.items() if entry.package == "graftlm"]
ENGLISH = [
    "She opened the door and went out into the garden.",
    "He had never seen so many people in the street before.",
    "I do not know what you mean by that.",
    "The old man sat down by the fire and began to speak.",
    "They were glad to see their friends again after so long a time.",
    "It was a cold night, and the wind blew hard from the north.",
    "We must go home at once, or we shall be late for dinner.",
    "The king was angry because nobody would listen to him.",
    "There was a little house at the end of the road.",
    "You will find the letter on the table in my room.",
    "The ship had left the harbour before the sun was up.",
    "Her mother told her not to be afraid of the dog.",
]
SENTENCES = {
    "english": ENGLISH,
    "chinese": [
        "他看了信，心中大喜，便叫人备马。",
        "众人听了这话，都不敢言语。",
        "那妇人走到门前，只见一个老人坐在石上。",
        "将军领了三千人马，连夜出城去了。",
        "次日天明，大家吃了早饭，收拾行李上路。",
        "你且在此等候，我去去就来。",
        "老太太笑道，这孩子说得有理。",
        "忽然一阵大风，把船吹到岸边。",
        "我不知道你说的是什么意思。",
        "他们兄弟二人，从此不再相见。",
        "皇帝听罢大怒，命人把他拿下。",
        "山上有一座古寺，寺中有几个和尚。",
    ],
}


@pytest.fixture(params=OWN)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def _sentences(name: str) -> list[str]:
    return SENTENCES[name.partition("-")[0]]


def _loaded(name: str) -> tuple[Any, Any, Path]:
    files = locate(f"bundled:{name}")
    architecture = json.loads((files.folder / "pretraining.json").read_text(encoding="utf-8"))["architecture"]
    loaded = load_model(files, (architecture,), {}, 1)
    assert not loaded.new_parameters
    return loaded.model.eval(), load_tokenizer(files), files.folder


def test_it_is_small_and_tells_how_it_was_made(name: str) -> None:
    folder = locate(f"bundled:{name}").folder
    assert sum(path.stat().st_size for path in folder.rglob("*")) <= 12_000_000
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        keys = weights.keys()
        assert keys and all(weights.get_slice(key).get_dtype() == "F16" for key in keys)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "How the loss fell" in card and "proved: " in card and "half precision" in card
    assert load_pretraining(folder / "recipe.yaml").corpus.path.startswith("corpus/")
    described = ("config.json", "pretraining.json", "tokenizer_config.json", "README.md")
    assert not any(re.search(r"[\"`]/\w", (folder / each).read_text("utf-8")) for each in described)


def test_its_recipe_is_the_one_in_recipes(name: str) -> None:
    kept = Path(__file__).parents[2] / "recipes" / "pretraining" / f"{name}.yaml"
    assert load_pretraining(locate(f"bundled:{name}").folder / "recipe.yaml") == load_pretraining(kept)


def test_plain_transformers_loads_it_in_single_precision_and_says_the_same(name: str) -> None:
    model, tokenizer, folder = _loaded(name)
    plain, loading = getattr(transformers, type(model).__name__).from_pretrained(
        folder, output_loading_info=True
    )
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    assert plain.dtype == torch.float32
    sentences, own = _sentences(name), transformers.AutoTokenizer.from_pretrained(folder)
    batch, plainly = (each(sentences, return_tensors="pt", padding=True) for each in (tokenizer, own))
    assert batch["input_ids"].tolist() == plainly["input_ids"].tolist() and batch.keys() == plainly.keys()
    writes = {"decoder_input_ids": batch["input_ids"]} if model.config.is_encoder_decoder else {}
    with torch.inference_mode():
        one, other = (
            each(**given, **writes).logits for each, given in ((model, batch), (plain.eval(), plainly))
        )
    real = batch["attention_mask"].bool()
    assert torch.allclose(one[real], other[real], atol=1e-5)


def test_it_likes_sentences_better_than_their_words_in_another_order(name: str, seed: int) -> None:
    model, tokenizer, _ = _loaded(name)
    sentences, draw = _sentences(name), random.Random(seed)
    space = " " if name.startswith("english") else ""
    divided = [sentence.split() if space else list(sentence) for sentence in sentences]
    if model.config.is_encoder_decoder:
        better = sum(_prefers_the_end(model, tokenizer, words, draw) for words in divided)
        assert better >= len(sentences) - 2
        return
    shuffled = [space.join(draw.sample(words, len(words))) for words in divided]
    found = log_likelihoods(model, tokenizer, [*sentences, *shuffled])
    better = sum(found[: len(sentences)] > found[len(sentences) :])
    assert better >= len(sentences) - 1


def _prefers_the_end(model: Any, tokenizer: Any, words: list[str], draw: random.Random) -> bool:
    """Say whether the last five words, read as lost, are likelier than themselves in another order."""
    start, end = " ".join(words[:-5]), words[-5:]
    other = end
    while other == end:
        other = draw.sample(end, len(end))
    read = tokenizer(f"{start} <extra_id_0>", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        losses = [
            float(model(input_ids=read, labels=tokenizer(text, return_tensors="pt")["input_ids"]).loss)
            for text in (f"<extra_id_0> {' '.join(one)}" for one in (end, other))
        ]
    return losses[0] < losses[1]


def test_its_limit_is_the_length_it_was_trained_with(name: str) -> None:
    files = locate(f"bundled:{name}")
    length = load_pretraining(files.folder / "recipe.yaml").training.max_length_tokens
    assert load_tokenizer(files).model_max_length == length
    # T5 tells positions by distances, and has no limit.
    assert getattr(load_config(files), "max_position_embeddings", length) >= length
