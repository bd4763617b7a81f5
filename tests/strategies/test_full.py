from __future__ import annotations

import pytest
from tests.strategies.test_contract import classifier
from tests.tiny import FAMILIES

from graftlm.strategies.full import Full

# Three blocks: embeddings are layer 0, blocks 1 to 3, what follows them in the body 3, the head 4.
DEPTHS = {
    "bert": {
        "bert.embeddings.word_embeddings.weight": 0, "bert.embeddings.LayerNorm.bias": 0,
        "bert.encoder.layer.0.attention.self.query.weight": 1, "bert.encoder.layer.1.output.LayerNorm.weight": 2,
        "bert.encoder.layer.2.output.dense.bias": 3, "bert.pooler.dense.weight": 3, "classifier.weight": 4,
    },
    "roberta": {
        "roberta.embeddings.position_embeddings.weight": 0, "roberta.encoder.layer.0.output.dense.weight": 1,
        "roberta.encoder.layer.2.output.dense.weight": 3, "classifier.dense.weight": 4, "classifier.out_proj.bias": 4,
    },
    "distilbert": {
        "distilbert.embeddings.word_embeddings.weight": 0, "distilbert.transformer.layer.0.ffn.lin1.weight": 1,
        "distilbert.transformer.layer.2.ffn.lin1.bias": 3, "pre_classifier.weight": 4, "classifier.bias": 4,
    },
    "electra": {
        "electra.embeddings.LayerNorm.weight": 0, "electra.encoder.layer.1.attention.self.key.weight": 2,
        "classifier.dense.weight": 4, "classifier.out_proj.weight": 4,
    },
    "gpt2": {
        "transformer.wte.weight": 0, "transformer.wpe.weight": 0, "transformer.h.0.attn.c_attn.weight": 1,
        "transformer.h.2.mlp.c_fc.bias": 3, "transformer.ln_f.weight": 3, "score.weight": 4,
    },
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_has_its_speed(family: str) -> None:
    groups = Full(layer_decay=0.5).parameter_groups(classifier(family, layers=3))
    scales = {name: group.learning_rate_scale for group in groups for name in group.names}
    for name, depth in DEPTHS[family].items():
        assert scales[name] == 0.5 ** (4 - depth), name
    assert sorted(set(scales.values())) == [0.5**4, 0.5**3, 0.5**2, 0.5, 1.0]


@pytest.mark.parametrize("family", FAMILIES)
def test_biases_and_norms_do_not_decay_and_matrices_do(family: str) -> None:
    model = classifier(family)
    decayed = {name: group.decayed for group in Full().parameter_groups(model) for name in group.names}
    assert set(decayed) == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        norm = "norm" in name.lower() or ".ln_" in name
        assert decayed[name] == (not norm and not name.endswith("bias") and parameter.ndim == 2), name


def test_one_speed_is_two_groups() -> None:
    groups = Full().parameter_groups(classifier("bert"))
    assert [(group.learning_rate_scale, group.decayed) for group in groups] == [(1.0, False), (1.0, True)]
