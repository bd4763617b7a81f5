"""Token ids of texts, cut to the limit that was asked for, whoever else asks at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest

from graftlm.errors import ConfigurationError
from graftlm.models.base_model import load_tokenizer
from graftlm.models.encoder import TextEncoder
from graftlm.models.locating import locate
from graftlm.models.sequences import SequenceLimits

LONG = "the parcel is late again and nobody in the team has an answer for me or for you at all today"


def test_threads_with_different_lengths_get_their_own(tiny_bert: Path) -> None:
    """Both on one tokenizer, which can hold one length at a time."""
    tokenizer = load_tokenizer(locate(str(tiny_bert)))
    encoders = [TextEncoder(tokenizer, length) for length in (8, 16, 8, 16)]

    def lengths(encoder: TextEncoder) -> set[int]:
        return {len(ids) for _ in range(50) for ids in encoder([LONG] * 50).inputs["input_ids"]}

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lengths, encoders)) == [{8}, {16}, {8}, {16}]


def test_what_was_cut_is_counted_at_the_limit_exactly(tiny_bert: Path, seed: int) -> None:
    tokenizer = load_tokenizer(locate(str(tiny_bert)))
    lengths = Random(seed).choices(range(6, 14), k=60)
    features = TextEncoder(tokenizer, 12)(["bus " * length for length in lengths])
    longest = 12 - tokenizer.num_special_tokens_to_add()
    assert features.truncated_rows == [row for row, length in enumerate(lengths) if length > longest]
    kept = [min(length, longest) for length in lengths]
    assert [len(ids) - 2 for ids in features.inputs["input_ids"]] == kept


def test_pairs_are_joined_in_segments_and_the_longer_half_is_cut(tiny_bert: Path) -> None:
    tokenizer = load_tokenizer(locate(str(tiny_bert)))
    encoder = TextEncoder(tokenizer, 12)
    features = encoder(["the red bus", "the " * 30], ["a ticket", "a day"])
    plain = tokenizer("the red bus", "a ticket")
    assert features.inputs["input_ids"][0] == plain["input_ids"]
    assert features.inputs["token_type_ids"][0] == plain["token_type_ids"]
    assert features.truncated_rows == [1]
    assert len(features.inputs["input_ids"][1]) == 12
    assert tokenizer.convert_ids_to_tokens(features.inputs["input_ids"][1])[-3:] == ["a", "day", "[SEP]"]


@pytest.mark.parametrize(
    ("read", "fewest"),
    [
        (lambda encoder: encoder(["the red bus"]), 3),
        (lambda encoder: encoder(["the red bus"], ["a ticket"]), 5),
        (lambda encoder: encoder.words([["the", "red", "bus"]]), 3),
        (lambda encoder: encoder.windows(["the red bus"], ["a ticket is here"], 4), 5),
        (lambda encoder: encoder.sequences(["the red bus"], None, "", ""), 3),
    ],
    ids=["text", "pair", "words", "question", "written"],
)
def test_a_limit_without_room_beside_special_tokens_is_refused(
    read: Any, fewest: int, tiny_bert: Path
) -> None:
    tokenizer = load_tokenizer(locate(str(tiny_bert)))
    for length in range(1, fewest):
        with pytest.raises(
            ConfigurationError, match=f"^task.max_length_tokens: {length} tokens leave no room"
        ) as caught:
            read(TextEncoder(tokenizer, length, encoder_decoder=True, max_target_tokens=4))
        assert caught.value.fix == f"allow at least {fewest}"
    features = read(TextEncoder(tokenizer, fewest, encoder_decoder=True, max_target_tokens=4))
    assert {len(ids) for ids in features.inputs["input_ids"]} == {fewest}


def test_a_prompt_without_room_names_the_least_that_does() -> None:
    with pytest.raises(
        ConfigurationError, match="leave 2 of 4 to what is read before them, which needs 8"
    ) as caught:
        _ = SequenceLimits(4, 2).prompt
    assert caught.value.fix == "set task.max_length_tokens to 10 or more"
    assert SequenceLimits(10, 2).prompt == 8
