"""BERT of pretraining in plain numpy, by the names and in the layout of the original TensorFlow checkpoint."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CONFIG = {
    "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 24,
    "initializer_range": 0.02, "intermediate_size": 40, "max_position_embeddings": 32, "num_attention_heads": 3,
    "num_hidden_layers": 3, "type_vocab_size": 2, "vocab_size": 30,
}  # fmt: skip
CHINESE = {"directionality": "bidi", "pooler_fc_size": 768, "pooler_type": "first_token_transform"}
TOKENS = (
    "[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "!", ",", "a", "b", "##a", "##b", "\u2028", "bird",
    "##s", "the", "the-", "天", "地", "##天", "##地", "elan", "naïve", "sings", "##ing", "sing", "ß", "i", "##i", ".",
)  # fmt: skip
LAYER_NORM_EPSILON = 1e-12

Variables = dict[str, NDArray[np.float32]]


def write_texts(
    folder: Path, config: Mapping[str, object] = CONFIG, tokens: tuple[str, ...] = TOKENS
) -> None:
    """Write bert_config.json and vocab.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bert_config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_bytes("".join(token + "\n" for token in tokens).encode())


def variables(random: np.random.Generator) -> Variables:
    """Random variables; gamma and beta too, so that none can be exchanged unseen."""
    wide, inner = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    found: Variables = {}

    def add(name: str, *shape: int) -> None:
        found[name] = random.normal(0.0, 0.3, shape).astype(np.float32)

    def norm(name: str) -> None:
        add(f"{name}/LayerNorm/gamma", wide)
        add(f"{name}/LayerNorm/beta", wide)

    def dense(name: str, reads: int, gives: int) -> None:
        add(f"{name}/kernel", reads, gives)
        add(f"{name}/bias", gives)

    for kind, rows in (
        ("word", "vocab_size"),
        ("position", "max_position_embeddings"),
        ("token_type", "type_vocab_size"),
    ):
        add(f"bert/embeddings/{kind}_embeddings", CONFIG[rows], wide)
    norm("bert/embeddings")
    for number in range(CONFIG["num_hidden_layers"]):
        layer = f"bert/encoder/layer_{number}"
        for part in ("query", "key", "value"):
            dense(f"{layer}/attention/self/{part}", wide, wide)
        dense(f"{layer}/attention/output/dense", wide, wide)
        norm(f"{layer}/attention/output")
        dense(f"{layer}/intermediate/dense", wide, inner)
        dense(f"{layer}/output/dense", inner, wide)
        norm(f"{layer}/output")
    dense("bert/pooler/dense", wide, wide)
    dense("cls/predictions/transform/dense", wide, wide)
    norm("cls/predictions/transform")
    add("cls/predictions/output_bias", CONFIG["vocab_size"])
    add("cls/seq_relationship/output_weights", 2, wide)
    add("cls/seq_relationship/output_bias", 2)
    return found


def forward(
    values: Variables, ids: NDArray[np.int64], segments: NDArray[np.int64], real: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return logits of the masked tokens [texts, tokens, vocabulary] and of the next sentence [texts, 2]."""
    value = {name: each.astype(np.float64) for name, each in values.items()}

    def dense(hidden: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        return hidden @ value[f"{name}/kernel"] + value[f"{name}/bias"]

    def norm(hidden: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        centred = hidden - hidden.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + LAYER_NORM_EPSILON)
        return scaled * value[f"{name}/LayerNorm/gamma"] + value[f"{name}/LayerNorm/beta"]

    def gelu(hidden: NDArray[np.float64]) -> NDArray[np.float64]:
        return 0.5 * hidden * (1.0 + np.vectorize(math.erf)(hidden / math.sqrt(2.0)))

    def heads(hidden: NDArray[np.float64]) -> NDArray[np.float64]:
        texts, tokens, wide = hidden.shape
        number = CONFIG["num_attention_heads"]
        return hidden.reshape(texts, tokens, number, wide // number).transpose(0, 2, 1, 3)

    table = value["bert/embeddings/word_embeddings"]
    hidden = table[ids] + value["bert/embeddings/token_type_embeddings"][segments]
    hidden = norm(hidden + value["bert/embeddings/position_embeddings"][: ids.shape[1]], "bert/embeddings")
    for number in range(CONFIG["num_hidden_layers"]):
        layer = f"bert/encoder/layer_{number}"
        query, key, seen = (
            heads(dense(hidden, f"{layer}/attention/self/{part}")) for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(query.shape[-1])
        scores += (1.0 - real[:, None, None, :]) * -10_000.0
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = (weights @ seen).transpose(0, 2, 1, 3).reshape(hidden.shape)
        hidden = norm(hidden + dense(mixed, f"{layer}/attention/output/dense"), f"{layer}/attention/output")
        grown = gelu(dense(hidden, f"{layer}/intermediate/dense"))
        hidden = norm(hidden + dense(grown, f"{layer}/output/dense"), f"{layer}/output")
    pooled = np.tanh(dense(hidden[:, 0], "bert/pooler/dense"))
    transformed = norm(gelu(dense(hidden, "cls/predictions/transform/dense")), "cls/predictions/transform")
    masked = transformed @ table.T + value["cls/predictions/output_bias"]
    following = (
        pooled @ value["cls/seq_relationship/output_weights"].T + value["cls/seq_relationship/output_bias"]
    )
    return masked, following
