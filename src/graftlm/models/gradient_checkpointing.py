"""Gradient checkpointing: layers keep only what they are given, and are computed again on the way back.

Memory for n layers is that of n inputs and one layer, for about a third more time (Chen et al. 2016, arXiv:1604.06174).
Numbers are the same to the last bit: the second time a layer has the dropout of the first, padded by the generator's
state that torch keeps, flat by the pass as it stood where the layer began.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from transformers import PreTrainedModel

from graftlm.errors import ConfigurationError
from graftlm.models.base_model import quiet_transformers
from graftlm.models.flat.passes import current_pass, going_on


def require_checkpointing(model: PreTrainedModel) -> None:
    """Refuse a family whose layers cannot be computed again.

    Raises:
        ConfigurationError: it is such a family.
    """
    marked = any(hasattr(module, "gradient_checkpointing") for module in model.modules())
    if not (model.supports_gradient_checkpointing and marked):
        raise ConfigurationError(
            f"transformers cannot compute layers of this model ({model.config.model_type}) a second time",
            where="training.gradient_checkpointing",
            fix="leave it out; a smaller training.micro_batch needs less memory too and changes no number",
        )


def checkpoint_layers(model: PreTrainedModel) -> None:
    """Let layers be computed again on the way back, wherever the model is being trained.

    Raises:
        ConfigurationError: see `require_checkpointing`.
    """
    require_checkpointing(model)
    # The older name warns since transformers 5.23 and is gone in 6.
    named = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
    enable: Any = next(getattr(model, name) for name in named if hasattr(model, name))
    with quiet_transformers():
        enable({"use_reentrant": False, "context_fn": _recomputing})
    # Only reentrant checkpoints need inputs with gradients; for a frozen body they would cost the memory of all layers.
    model.disable_input_require_grads()


def _recomputing() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return what a layer that begins now is computed in, the first time and on the way back."""
    current = current_pass()
    return nullcontext(), nullcontext() if current is None else going_on(current.here())
