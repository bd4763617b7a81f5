"""From a network of transformers to one of ONNX, in single precision, with as few operations as ONNX Runtime has."""

from __future__ import annotations

import inspect
import logging
import re
import tempfile
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from graftlm.errors import ModelError, clip
from graftlm.models.adapters import adapter_of, merged_weights
from graftlm.models.base_model import quiet_transformers
from graftlm.models.exported.network import session_of
from graftlm.models.flat.probe import random_batch

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""With which torch paints its messages."""
MARGIN = 1e-5
"""A fused network is kept where no output moves by more than this share of the largest."""


def export_network(model: PreTrainedModel, arguments: Sequence[str], longest: int, file: Path) -> bool:
    """Write a network as ONNX for any number of rows and tokens; return whether operations could be fused.

    Args:
        model: with its head; its adapter, if it has one, is merged.
        arguments: what its tokenizer gives, ``input_ids`` and so on; those that its forward pass takes are inputs.
        longest: most tokens that it reads.
        file: to be written.

    Raises:
        ModelError: torch cannot export this family, or it is larger than the 2 GB that one file may have.
    """
    network = merged(model).eval()
    batch = {name: values for name, values in random_batch(network).items() if name in arguments}
    taken = inspect.signature(network.forward).parameters
    batch = {name: values for name, values in batch.items() if name in taken}
    # The pieces of which this is made are those that ONNX Runtime knows as one operation.
    network.set_attn_implementation("eager")
    # Decoders that only read would give the keys and values of their tokens beside what is asked.
    network.config.use_cache = False
    rows, tokens = (
        torch.export.Dim(name, min=1, max=most) for name, most in (("rows", 2**20), ("tokens", longest))
    )
    try:
        with _quiet(), torch.inference_mode():
            outputs = list(network(**batch).keys())
            torch.onnx.export(
                network, (), str(file), kwargs=batch, input_names=list(batch), output_names=outputs,
                dynamic_shapes={name: {0: rows, 1: tokens} for name in batch}, dynamo=True, external_data=False,
                verbose=False,
            )  # fmt: skip
    except Exception as error:  # whatever torch meets in the code of a family
        raise ModelError(
            f"torch cannot export a {network.config.model_type} network: {type(error).__name__}: "
            f"{clip(_COLOURS.sub('', str(error)), 300)}",
            fix="serve the run itself: graft predict RUN",
        ) from error
    return _fuse(network, file, {name: values.numpy() for name, values in batch.items()})


def merged(model: PreTrainedModel) -> PreTrainedModel:
    """Return the network without adapter that computes the same; the model itself where it has none."""
    if adapter_of(model) is None:
        return model
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        network = type(model)(model.config)
    network.load_state_dict(merged_weights(model))
    return network


def difference(one: bytes, other: bytes, batch: Mapping[str, NDArray[np.int64]]) -> float:
    """Return how far the outputs of two networks are apart on a batch, as a share of the largest output.

    What is not a finite number is infinitely far from everything.

    Args:
        one, other: networks of ONNX.
        batch: as they take it; padding is not looked at where each token has an output.
    """
    outputs = [session_of(network).run(None, dict(batch)) for network in (one, other)]
    real = batch["attention_mask"].astype(bool)
    apart = 0.0
    for first, second in zip(*outputs, strict=True):
        if first.shape[:2] == real.shape:
            first, second = first[real], second[real]
        if not (np.isfinite(first).all() and np.isfinite(second).all()):
            return float("inf")
        apart = max(apart, float(np.abs(first - second).max() / max(1.0, np.abs(first).max())))
    return apart


def _fuse(model: PreTrainedModel, file: Path, batch: Mapping[str, NDArray[np.int64]]) -> bool:
    """Fuse what ONNX Runtime has as one operation (attention, GELU, normalisation), where the numbers stay."""
    from onnxruntime.transformers import optimizer  # of the extra [onnx]
    from onnxruntime.transformers.fusion_options import FusionOptions

    settings: Any = model.config
    options = FusionOptions("bert")
    # Quantising looks for the products of tokens and weights; these two would hide them.
    options.use_multi_head_attention, options.enable_embed_layer_norm = True, False
    with tempfile.TemporaryDirectory(prefix="graftlm-onnx-") as folder:
        fused = Path(folder) / "fused.onnx"
        try:
            with _quiet():
                found = optimizer.optimize_model(
                    str(file), "bert", num_heads=getattr(settings, "num_attention_heads", 0),
                    hidden_size=getattr(settings, "hidden_size", 0), optimization_options=options,
                )  # fmt: skip
                found.save_model_to_file(str(fused))
            content = fused.read_bytes()
            kept = difference(file.read_bytes(), content, batch) <= MARGIN
        except Exception:  # a graph that it does not understand stays as it is
            return False
    if kept:
        file.write_bytes(content)
    return kept


@contextmanager
def _quiet() -> Generator[None]:
    """Silence what exporters say about themselves."""
    logger = logging.getLogger()
    before = logger.manager.disable
    logging.disable(logging.ERROR)
    try:
        with quiet_transformers(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
