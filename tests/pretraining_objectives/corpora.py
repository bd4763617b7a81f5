"""A corpus in memory, and vocabularies of tokenizers that read words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from numpy.typing import NDArray
from tests.tiny import WORDS, tiny_tokenizer

from graftlm.models.vocabulary import Vocabulary


@dataclass(frozen=True)
class MemoryCorpus:
    """What `graftlm.data.corpus.shards.TokenCorpus` says, of tokens in memory."""

    tokens: NDArray[np.int64]
    document_starts: NDArray[np.int64]
    sentence_starts: NDArray[np.int64]
    document_sentences: NDArray[np.int64]
    document_bytes: NDArray[np.int64]

    @property
    def num_documents(self) -> int:
        return len(self.document_starts) - 1

    @property
    def num_tokens(self) -> int:
        return len(self.tokens)

    def window(self, start: int, end: int) -> NDArray[np.int64]:
        return self.tokens[start:end]


def corpus_of(documents: list[list[list[int]]]) -> Any:
    """Return the corpus of documents, which are lists of sentences, which are lists of tokens."""
    sentences = [sentence for document in documents for sentence in document]
    starts = np.cumsum([0, *map(len, sentences)])
    numbers = np.cumsum([0, *map(len, documents)])
    return MemoryCorpus(
        np.array([token for sentence in sentences for token in sentence]),
        starts[numbers],
        starts,
        numbers,
        4 * np.diff(starts[numbers]),
    )


def random_corpus(vocabulary: Vocabulary, seed: int, documents: int = 30) -> Any:
    """Return documents of one to nine sentences of one to twelve ordinary tokens."""
    random, ordinary = np.random.default_rng(seed), np.flatnonzero(vocabulary.ordinary)
    return corpus_of(
        [
            [random.choice(ordinary, random.integers(1, 13)).tolist() for _ in range(random.integers(1, 10))]
            for _ in range(documents)
        ]
    )


def tokenizer_of(folder: Path, family: str) -> transformers.PreTrainedTokenizerFast:
    """Return a small tokenizer with all that the objectives of its family need."""
    layouts = dict.fromkeys(("albert", "electra", "modernbert"), "bert")
    tokenizer = tiny_tokenizer(folder, WORDS[:60], layouts.get(family, family))
    if family == "modernbert":  # it has no segments
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    if family == "bart":
        tokenizer.add_special_tokens({"mask_token": "<mask>"})
    if family == "t5":
        tokenizer.add_special_tokens({"additional_special_tokens": [f"<extra_id_{n}>" for n in range(30)]})
    if tokenizer.pad_token is None:  # as `load_tokenizer` does
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def network(objective: Any, family: str, vocabulary: Vocabulary, dropout: float = 0.0) -> Any:
    """Return a tiny network with the head of an objective, drawn from torch's generator, and what stands beside it."""
    size, special = vocabulary.size, {"pad_token_id": vocabulary.padding["input_ids"]}
    narrow = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": 80,
    }  # fmt: skip
    match family:
        case "bert" | "roberta" | "albert" | "electra":
            name = family.capitalize()
            more = {"embedding_size": 16} if family in ("albert", "electra") else {}
            config = getattr(transformers, f"{name}Config")(
                vocab_size=size, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
                **narrow, **special, **more,
            )  # fmt: skip
        case "modernbert":
            config = transformers.ModernBertConfig(
                vocab_size=size, attention_dropout=dropout, mlp_dropout=dropout, embedding_dropout=dropout,
                cls_token_id=vocabulary.single.parts[0][0], sep_token_id=vocabulary.single.parts[1][0],
                bos_token_id=None, eos_token_id=None, **narrow, **special,
            )  # fmt: skip
        case "llama":
            config = transformers.LlamaConfig(vocab_size=size, num_key_value_heads=2, **narrow, **special)
        case "gpt2":
            config = transformers.GPT2Config(
                vocab_size=size, n_embd=32, n_layer=2, n_head=2, n_positions=80, resid_pdrop=dropout,
                embd_pdrop=dropout, attn_pdrop=dropout, bos_token_id=vocabulary.beginning,
                eos_token_id=vocabulary.end, **special,
            )  # fmt: skip
        case "bart":
            config = transformers.BartConfig(
                vocab_size=size, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
                decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=80,
                dropout=dropout, bos_token_id=vocabulary.beginning, eos_token_id=vocabulary.end,
                decoder_start_token_id=vocabulary.end, forced_eos_token_id=None, **special,
            )  # fmt: skip
        case _:
            config = transformers.T5Config(
                vocab_size=size, d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2, dropout_rate=dropout,
                eos_token_id=vocabulary.end, decoder_start_token_id=special["pad_token_id"], **special,
            )  # fmt: skip
    kind = objective.architecture(config)
    model = getattr(transformers, kind).from_config(config)
    objective.complete(model, 1)
    return model
