"""A network whose weights come from a seed alone, to be pretrained."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from graftlm.errors import ModelError, clip
from graftlm.models.base_model import model_class_of, quiet_transformers
from graftlm.models.families import of_t5_kind
from graftlm.models.unscaled_attention import begin_attention


def new_model(config: PreTrainedConfig, architecture: str, seed: int) -> PreTrainedModel:
    """Return a network in float32, on the CPU, in evaluation mode; as `load_model` does with pretrained ones.

    Args:
        config: of `graftlm.models.architectures.architecture`; left as it is.
        architecture: auto class of transformers such as ``AutoModelForMaskedLM``.
        seed: decides every weight that is random; the generators of the caller are left as they were.

    Raises:
        ModelError: the family has no such head, or the configuration contradicts itself.
    """
    model_class = model_class_of((architecture,), config, Path(config.name_or_path or config.model_type))
    config = copy.deepcopy(config)
    config.dtype = torch.float32
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            model = model_class(config)
        except Exception as error:  # constructors of model families raise whatever they like
            raise ModelError(
                f"{model_class.__name__} cannot be built from this configuration: {clip(str(error), 300)}",
                where=config.name_or_path or config.model_type,
            ) from error
    if of_t5_kind(config):
        begin_attention(model)
    return model.float().eval()
