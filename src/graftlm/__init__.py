"""GraftLM: the transfer-learning toolkit for language tasks.

>>> import graftlm
>>> run = graftlm.finetune("reviews.csv")          # doctest: +SKIP
>>> run.predictor()(["I like it"])[0].label        # doctest: +SKIP

Names are handed on lazily, so that importing the package loads neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graftlm.bridges.transformers import Trainer
    from graftlm.errors import GraftError
    from graftlm.predictor import Predictor
    from graftlm.python_api import (
        check,
        evaluate,
        export,
        finetune,
        import_checkpoint,
        minimal_pairs,
        pretrain,
        push,
    )
    from graftlm.recipe import Recipe, load_recipe
    from graftlm.run import Run

_HOMES = {
    "GraftError": "graftlm.errors",
    "Predictor": "graftlm.predictor",
    "Recipe": "graftlm.recipe",
    "Run": "graftlm.run",
    "Trainer": "graftlm.bridges.transformers",
    "check": "graftlm.python_api",
    "evaluate": "graftlm.python_api",
    "export": "graftlm.python_api",
    "finetune": "graftlm.python_api",
    "import_checkpoint": "graftlm.python_api",
    "load_recipe": "graftlm.recipe",
    "minimal_pairs": "graftlm.python_api",
    "pretrain": "graftlm.python_api",
    "push": "graftlm.python_api",
}

__all__ = [
    "GraftError",
    "Predictor",
    "Recipe",
    "Run",
    "Trainer",
    "check",
    "evaluate",
    "export",
    "finetune",
    "import_checkpoint",
    "load_recipe",
    "minimal_pairs",
    "pretrain",
    "push",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'graftlm' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
