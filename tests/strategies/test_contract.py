"""What every strategy must keep: the contract of `graftlm.strategies._strategy`."""

from __future__ import annotations

from typing import Any

import pytest
import transformers
from tests.tiny import FAMILIES, tiny_config

from graftlm.catalog import Catalog

NAMES = Catalog("strategies").names()


def classifier(family: str, layers: int = 3) -> Any:
    config = tiny_config(family, 50, hidden=8, layers=layers)
    config.num_labels = 3
    return transformers.AutoModelForSequenceClassification.from_config(config)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", NAMES)
def test_each_moving_parameter_is_in_exactly_one_group(name: str, family: str) -> None:
    model = classifier(family)
    strategy = Catalog("strategies").get(name)()
    strategy.adapt(model, [], 0)  # pyright: ignore
    groups = strategy.parameter_groups(model)  # pyright: ignore
    named = [parameter for group in groups for parameter in group.names]
    assert len(named) == len(set(named)) > 0
    assert set(named) <= {parameter for parameter, _ in model.named_parameters()}
    assert all(group.names and 0 < group.learning_rate_scale <= 1 for group in groups)
    # A new head always moves: without it nothing could be learnt.
    head = [
        parameter
        for parameter, _ in model.named_parameters()
        if not parameter.startswith(model.base_model_prefix)
    ]
    assert head
    assert set(head) <= set(named)
