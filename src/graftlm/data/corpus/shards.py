"""A finished corpus on disk: tokens in shards, where documents and sentences begin, and a manifest that vouches for it.

manifest.json                  what it was made from, counts, size and sha256 of every other file; written last
train/, held_out/
    tokens-00000.bin ...       token ids, uint16 or uint32, little-endian; every shard but the last is full
    document_starts.bin        int64 [documents + 1], in tokens
    sentence_starts.bin        int64 [sentences + 1], in tokens
    document_sentences.bin     int64 [documents + 1], in sentences
    document_bytes.bin         int64 [documents], UTF-8 bytes of the text
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from graftlm.errors import DataError, MissingResource

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
PARTS = ("train", "held_out")
INDICES = ("document_starts", "sentence_starts", "document_sentences", "document_bytes")
_REMEDY = "delete this folder; the corpus is then built again from its text"


@dataclass(frozen=True)
class Sizes:
    """How much a part holds; also where a writer goes on."""

    documents: int = 0
    sentences: int = 0
    tokens: int = 0
    bytes: int = 0


@dataclass(frozen=True, eq=False)
class TokenCorpus:
    """One part of a corpus, memory-mapped: what is not asked for is not read.

    Args:
        sizes: documents, sentences, tokens and UTF-8 bytes.
        shards: token ids of each shard; all but the last have ``tokens_in_shard``.
        tokens_in_shard: of a full shard.
        document_starts: first token of each document, and the end of the last, int64 [documents + 1].
        sentence_starts: first token of each sentence, and the end of the last, int64 [sentences + 1].
        document_sentences: first sentence of each document, and the end of the last, int64 [documents + 1].
        document_bytes: UTF-8 bytes of the text of each document, int64 [documents].
    """

    sizes: Sizes
    shards: list[NDArray[np.uint16] | NDArray[np.uint32]]
    tokens_in_shard: int
    document_starts: NDArray[np.int64]
    sentence_starts: NDArray[np.int64]
    document_sentences: NDArray[np.int64]
    document_bytes: NDArray[np.int64]

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents; no special tokens are stored."""
        return self.sizes.tokens

    @property
    def num_documents(self) -> int:
        """Documents."""
        return self.sizes.documents

    @property
    def num_bytes(self) -> int:
        """UTF-8 bytes of all documents: what bits per byte are measured by."""
        return self.sizes.bytes

    def window(self, start: int, end: int) -> NDArray[np.int64]:
        """Return the ids of the tokens ``start`` to ``end`` of all documents one behind the other, [end - start].

        Raises:
            IndexError: there are no such tokens.
        """
        if not 0 <= start <= end <= self.num_tokens:
            raise IndexError(f"tokens {start} to {end} of {self.num_tokens}")
        found = np.empty(end - start, dtype=np.int64)
        done = 0
        while start + done < end:
            shard, offset = divmod(start + done, self.tokens_in_shard)
            taken = self.shards[shard][offset : offset + len(found) - done]
            found[done : done + len(taken)] = taken
            done += len(taken)
        return found


@dataclass(frozen=True, eq=False)
class Corpus:
    """Text as token ids, in documents and sentences.

    Args:
        train: what a model learns from.
        held_out: what measures it; without documents where nothing was to be held out.
        facts: counts of both parts and of what was left out, as JSON values.
        fingerprint: of text, options, tokenizer and seed.
    """

    train: TokenCorpus
    held_out: TokenCorpus
    facts: dict[str, Any]
    fingerprint: str


def open_corpus(folder: Path) -> Corpus:
    """Check every file of a finished corpus against its manifest, and map them.

    Raises:
        DataError: the folder holds no finished corpus, or a file is missing, cut short or damaged, by name.
        MissingResource: a file may not be read.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise DataError(
            f"this folder holds no finished corpus (it has no {MANIFEST})",
            where=str(folder),
            fix="build it, or finish building it, with the recipe it belongs to",
        )
    for name, recorded in manifest["files"].items():
        _check(folder / name, recorded)
    parts = {name: _part(folder / name, manifest) for name in PARTS}
    return Corpus(parts["train"], parts["held_out"], manifest["facts"], manifest["fingerprint"])


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a finished corpus, None where there is none; raise `DataError` for a damaged one."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as problem:
        raise MissingResource(f"cannot be read: {problem.strerror}", where=str(path)) from None
    except ValueError as problem:
        raise DataError(f"is damaged: {problem}", where=str(path), fix=_REMEDY) from None
    if not isinstance(manifest, dict):
        raise DataError("is damaged: it is no JSON object", where=str(path), fix=_REMEDY)
    found = cast("dict[str, Any]", manifest)
    if found.get("format_version") != FORMAT_VERSION:
        raise DataError(
            f"this corpus has format version {found.get('format_version')!r}; this GraftLM reads {FORMAT_VERSION}",
            where=str(path),
            fix=_REMEDY,
        )
    return found


def describe(path: Path) -> dict[str, Any]:
    """Return size and sha256 of a file."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def shard_path(folder: Path, number: int) -> Path:
    """Return where a shard of a part lies."""
    return folder / f"tokens-{number:05}.bin"


def shards_for(tokens: int, tokens_in_shard: int) -> int:
    """Return how many shards hold so many tokens."""
    return -(-tokens // tokens_in_shard)


def _check(path: Path, recorded: dict[str, Any]) -> None:
    try:
        size = path.stat().st_size
        if size != recorded["bytes"]:
            what = f"has {size:,} bytes; the manifest says {recorded['bytes']:,}"
            raise DataError(what, where=str(path), fix=_REMEDY)
        if describe(path) != recorded:
            raise DataError(
                "is damaged: its sha256 is another one than recorded", where=str(path), fix=_REMEDY
            )
    except FileNotFoundError:
        raise DataError("is missing from this corpus", where=str(path), fix=_REMEDY) from None
    except OSError as problem:
        raise MissingResource(f"cannot be read: {problem.strerror}", where=str(path)) from None


def _part(folder: Path, manifest: dict[str, Any]) -> TokenCorpus:
    sizes = Sizes(**manifest["facts"][folder.name])
    in_shard, kind = int(manifest["tokens_in_shard"]), np.dtype(manifest["token_type"])
    shards = [
        _mapped(shard_path(folder, number), kind) for number in range(shards_for(sizes.tokens, in_shard))
    ]
    return TokenCorpus(
        sizes, shards, in_shard, *(_mapped(folder / f"{name}.bin", np.dtype("<i8")) for name in INDICES)
    )


def _mapped(path: Path, kind: np.dtype[Any]) -> NDArray[Any]:
    # An empty file cannot be mapped.
    return np.memmap(path, dtype=kind, mode="r") if path.stat().st_size else np.zeros(0, dtype=kind)
