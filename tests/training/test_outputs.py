"""One forward pass: what a network is given beside the text, and what comes out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tests.tiny import tiny_config

from graftlm.models.flat.probe import make_flat
from graftlm.training.batching import Examples
from graftlm.training.outputs import forward, forward_where_targets

END = 2


@pytest.mark.parametrize("head", ["SequenceClassification", "QuestionAnswering"])
@pytest.mark.parametrize("family", ["bart", "t5"])
def test_an_encoder_decoder_classifies(seed: int, family: str, head: str) -> None:
    draw = np.random.default_rng(seed)
    config: Any = tiny_config(family, 60)
    config.eos_token_id = END
    torch.manual_seed(seed)
    name = {"bart": "Bart", "t5": "T5"}[family]
    model = getattr(transformers, f"{name}For{head}")(config).eval()
    make_flat(model)
    texts = [[*draw.integers(5, 60, size).tolist(), END] for size in draw.integers(1, 9, 6)]
    shape = (6,) if head == "SequenceClassification" else (6, 2)
    examples = Examples({"input_ids": texts}, draw.integers(0, 2, shape), {"input_ids": config.pad_token_id})
    batch = examples.batch(np.arange(6), torch.device("cpu"))
    outputs, targets = forward_where_targets(model, batch, None)
    assert torch.equal(targets, torch.from_numpy(np.asarray(examples.targets)))
    assert torch.equal(outputs, forward(model, batch, None))
    for row in range(6):
        alone = forward(model, examples.batch(np.array([row]), torch.device("cpu")), None)[0]
        assert torch.allclose(outputs[row][: len(alone)], alone, atol=1e-5)


def test_a_thread_does_not_disturb_what_another_asks_of_a_padded_model(seed: int) -> None:
    """One scores targets, its head seeing their places only, while another asks the same model for everything."""
    torch.manual_seed(seed)
    config: Any = tiny_config("gpt2", 60)
    model = transformers.GPT2LMHeadModel(config).eval()
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    with torch.inference_mode():
        alone = model(input_ids=ids).logits
    seen: list[torch.Tensor] = []

    def ask() -> torch.Tensor:
        with torch.inference_mode():
            return model(input_ids=ids).logits

    def meanwhile(*_: object) -> None:
        if not seen:
            seen.append(torch.empty(0))
            seen[0] = pool.submit(ask).result()

    targets = [np.array([-100, 6, 7, -100]), np.array([10, -100, -100, -100])]
    examples = Examples({"input_ids": ids.tolist()}, targets, {"input_ids": 0}, written=True)
    with ThreadPoolExecutor(1) as pool, torch.inference_mode():
        model.register_forward_pre_hook(meanwhile)
        outputs, _ = forward_where_targets(model, examples.batch(np.arange(2), torch.device("cpu")), None)
    assert torch.equal(seen[0], alone)
    assert torch.allclose(outputs[0], alone[[0, 0, 1], [1, 2, 0]], atol=1e-6)
