"""An exported network as a module: it stands where the network of transformers stands."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from graftlm.errors import ModelError, clip
from graftlm.models.exported.files import FILES, read_network, require_onnx


class ExportedNetwork(nn.Module):
    """A network that ONNX Runtime executes on the CPU, with as many threads as torch has when it is opened.

    Safe to share between threads.

    Args:
        session: of ONNX Runtime.
        config: of the network that was exported.
    """

    def __init__(self, session: Any, config: PreTrainedConfig) -> None:
        super().__init__()
        self.config = config
        self._session = session
        self._inputs: list[str] = [each.name for each in session.get_inputs()]
        self._outputs: list[str] = [each.name for each in session.get_outputs()]

    @property
    def base_model(self) -> nn.Module:
        """Itself: body and head are one graph."""
        return self

    def forward(self, **inputs: Tensor) -> Any:
        """Return the outputs under the names that transformers gives them: ``logits``, ``start_logits`` ..."""
        said = self._session.run(None, {name: inputs[name].numpy() for name in self._inputs})
        return SimpleNamespace(**dict(zip(self._outputs, map(torch.from_numpy, said), strict=True)))


def open_network(folder: Path, precision: str, config: PreTrainedConfig) -> ExportedNetwork:
    """Return an exported network, ready to run.

    Args:
        folder: that `graft export` made.
        precision: ``fp32`` or ``int8``.
        config: of the folder.

    Raises:
        MissingResource: ONNX Runtime is not installed.
        ModelError: there is no such network, or it is damaged.
    """
    require_onnx("onnxruntime")
    content = read_network(folder, precision)
    try:
        return ExportedNetwork(session_of(content), config)
    except Exception as error:  # each kind of failure of ONNX Runtime is a class of its own
        raise ModelError(
            f"ONNX Runtime cannot load this network: {clip(str(error), 200)}",
            where=str(folder / FILES[precision]),
            fix="export the run again, or install a newer onnxruntime",
        ) from None


def session_of(network: bytes) -> Any:
    """Return a session of ONNX Runtime on the CPU. From memory: a network cannot name further files to be read."""
    import onnxruntime  # of the extra [onnx]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors; warnings are about the graph, which no user can change
    return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
