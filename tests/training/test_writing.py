"""How probable a model finds texts: the same numbers in passes of a bounded size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tasks.test_contract import written_rows
from tests.tiny import tiny_base

from graftlm.preparation import build_model, prepare
from graftlm.progress import Silent
from graftlm.recipe import load_recipe
from graftlm.training import writing
from graftlm.training.batching import Batch
from graftlm.training.outputs import forward_where_targets

CPU = torch.device("cpu")


@pytest.mark.parametrize("family", ["bart", "llama"])
def test_logits_are_never_held_for_more_rows_than_the_bound_allows(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {
        "base": str(tiny_base(tmp_path / family, family)), "task.name": "text_generation", "task.max_target_tokens": 14,
        "data.validation_share": 0.0, "data.test_share": 0.0,
    }  # fmt: skip
    recipe = load_recipe(None, options)
    prepared = prepare(recipe, written_rows(11), Silent())
    model, examples = build_model(recipe, prepared, Silent()).eval(), prepared.examples["train"]
    sizes: list[tuple[int, ...]] = []

    def watched(model: Any, batch: Batch, autocast: torch.dtype | None) -> tuple[torch.Tensor, torch.Tensor]:
        logits, targets = forward_where_targets(model, batch, autocast)
        assert batch.targets is not None
        sizes.append((*batch.targets.shape, logits.shape[-1]))
        assert logits.shape[:-1].numel() <= batch.targets.numel()
        return logits, targets

    monkeypatch.setattr(writing, "forward_where_targets", watched)
    with torch.inference_mode():
        whole = writing._log_probabilities(model, examples, CPU, None)
        ((rows, tokens, vocabulary),) = sizes
        assert rows == 11
        for allowed in (3, 1, 0):  # rows at once; one is the least
            monkeypatch.setattr(writing, "MOST_LOGITS", allowed * tokens * vocabulary + 1)
            sizes.clear()
            found = writing._log_probabilities(model, examples, CPU, None)
            assert [size[0] for size in sizes] == {3: [3, 3, 3, 2]}.get(allowed, [1] * 11)
            for one, other in zip(whole, found, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-5)
    targets: Any = examples.targets
    assert [len(one) for one in whole] == [(each != -100).sum() for each in targets]
