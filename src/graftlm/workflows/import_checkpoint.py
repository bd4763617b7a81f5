"""``graft import-checkpoint``: weights of another form become a base model folder of safetensors."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from safetensors.torch import save_file

from graftlm.data.places import first_places
from graftlm.errors import ConfigurationError, ModelError
from graftlm.models.imported import save_imported
from graftlm.models.locating import FINGERPRINTED, BaseFiles, locate
from graftlm.models.safety import read_config
from graftlm.models.separate_process import read_apart
from graftlm.models.tensorflow_checkpoint import (
    VOCABULARY,
    bert_tokenizer,
    find_checkpoint,
    lowercases,
    read_bert_config,
    read_variables,
    read_vocabulary,
    weights_of,
)
from graftlm.models.weight_files import WEIGHTS, inside, pytorch_files, read_header
from graftlm.progress import Progress, Silent
from graftlm.rundir import write_json


def import_checkpoint(
    source: Path, folder: Path, lowercase: bool | None = None, progress: Progress | None = None
) -> BaseFiles:
    """Write a base model folder from an original BERT checkpoint or from pickled weights of PyTorch.

    Args:
        source: of TensorFlow the folder with bert_config.json, vocab.txt and bert_model.ckpt.*, or the prefix of one
            checkpoint in it; of PyTorch a folder with config.json, a tokenizer and pytorch_model.bin, or that file.
        folder: the folder to make.
        lowercase: whether a BERT checkpoint is for lower-cased texts; None finds out and says so.
        progress: who listens.

    Returns:
        the new base model.

    Raises:
        ModelError: the source is none of these, damaged, or would run code.
        MissingResource: TensorFlow is not installed, or the disk is full.
        ConfigurationError: ``lowercase`` where the folder's own tokenizer says it.
    """
    progress = progress or Silent()
    prefix = find_checkpoint(source)
    if prefix is not None:
        _import_tensorflow(prefix, folder, lowercase, progress)
        return locate(str(folder))
    home = source.parent if source.is_file() else source
    weights = [source] if source.suffix == ".bin" and source.is_file() else pytorch_files(home)
    if not weights:
        raise ModelError(
            "there is no such file or folder"
            if not source.exists()
            else "here is neither a checkpoint of TensorFlow (*.index) nor a pytorch_model.bin",
            where=str(source),
            fix="a folder with config.json and model.safetensors needs no import: name it as base",
        )
    if lowercase is not None:
        raise ConfigurationError(
            "the tokenizer in this folder says itself whether it lower-cases",
            fix="leave --lowercase or --cased out",
        )
    _import_pytorch(weights, home, folder, progress)
    return locate(str(folder))


def _import_tensorflow(prefix: Path, folder: Path, lowercase: bool | None, progress: Progress) -> None:
    config, unused = read_bert_config(prefix.parent)
    vocabulary = read_vocabulary(prefix.parent / VOCABULARY, config.vocab_size)
    config.pad_token_id = vocabulary["[PAD]"]
    told, reason = lowercases(prefix.parent, vocabulary)
    lower = told if lowercase is None else lowercase
    if lowercase is None:
        other = "--cased" if lower else "--lowercase"
        progress.say(
            f"texts are {'lower-cased' if lower else 'left as they are'}: {reason} ({other} if that is wrong)"
        )
    if unused:
        progress.say(f"not used of the configuration, nor by the original: {', '.join(unused[:10])}")

    def write(partial: Path) -> None:
        progress.stage(f"reading {prefix.name} with TensorFlow")
        weights, unknown = weights_of(read_variables(prefix, partial), config, str(prefix))
        if unknown:
            progress.warn(
                f"variables that a BERT of pretraining does not have, left out: {first_places(unknown)}"
            )
        progress.stage(f"writing {folder}")
        save_file(weights, partial / WEIGHTS, metadata={"format": "pt"})
        config.save_pretrained(partial)
        bert_tokenizer(vocabulary, lower, config).save_pretrained(partial)

    save_imported(folder, prefix, ["AutoModelForPreTraining"], write)


def _import_pytorch(weights: list[Path], home: Path, folder: Path, progress: Progress) -> None:
    fix = "this folder needs no import: name it as base"
    if there := [file.name for file in home.glob("model*.safetensors")]:
        raise ModelError(f"{there[0]} lies here too", where=str(home), fix=fix)
    read_config(home)
    shard = re.search(r"-of-(\d+)\.bin$", weights[0].name)
    expected = int(shard[1]) if shard else 1
    if len(weights) != expected:
        raise ModelError(
            f"{len(weights)} of {expected} files are here", where=str(home), fix="copy all of them"
        )

    def write(partial: Path) -> None:
        """Copy what is no weight, and convert the weights, file by file."""
        for file in sorted(home.iterdir()):
            if FINGERPRINTED.fullmatch(file.name) or file.name == "README.md":
                shutil.copyfile(inside(home, file.name), partial / file.name)
        owner: dict[str, str] = {}
        for number, source in enumerate(weights, 1):
            progress.stage(f"reading {source.name} in a process of its own")
            name = WEIGHTS if len(weights) == 1 else f"model-{number:05}-of-{len(weights):05}.safetensors"
            read_apart(
                "graftlm.models.pickled_weights", inside(home, source.name), partial / name, "this pickle",
                "choose a model that has safetensors; a file that asks for more than tensors is never run",
            )  # fmt: skip
            owner |= dict.fromkeys(read_header(partial / name), name)
        if len(weights) > 1:
            write_json(partial / f"{WEIGHTS}.index.json", {"metadata": {}, "weight_map": owner})

    save_imported(folder, home, ["AutoModel"], write)
