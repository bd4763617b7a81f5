"""Positions of flat tokens where a module counts them itself: the family of BART, which takes none as argument."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from graftlm.models.flat.passes import current_pass


def hook_positions(module: nn.Module) -> list[RemovableHandle]:
    """Let a module of position embeddings answer for flat tokens in flat passes."""
    if "position_ids" in inspect.signature(module.forward).parameters:
        return [module.register_forward_pre_hook(_name_positions, with_kwargs=True)]
    return [
        module.register_forward_pre_hook(_show_padded, with_kwargs=True),
        module.register_forward_hook(_make_flat),
    ]


def _name_positions(_: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    current = current_pass()
    if current is None or not current.inside:
        return None
    return args[:2], {**keywords, "position_ids": current.layout.positions}


def _show_padded(_: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Let M2M100 and NLLB count in the padded batch: they count whatever is not the token that pads."""
    current = current_pass()
    if current is None or not current.inside:
        return None
    layout = current.layout
    shown = [layout.padded(each) if isinstance(each, Tensor) else each for each in args]
    named = {
        name: layout.padded(each) if isinstance(each, Tensor) else each for name, each in keywords.items()
    }
    return tuple(shown), named


def _make_flat(_: nn.Module, __: Any, output: Tensor) -> Tensor | None:
    current = current_pass()
    return None if current is None or not current.inside else current.layout.flat(output)
