"""Text -> a finished corpus on disk, once: documents, sentences, tokens, shards; a killed build goes on where it was.

Nothing is held but a batch of documents, so memory does not grow with the text, apart from what tells duplicates
(`duplicates`). After every 32 MiB of text the files are synced, and ``unfinished.json`` says how far they are valid.
A build that goes on reads its source again up to there, to know which documents were seen, but tokenises none twice;
its files are those of a build that was never interrupted, byte for byte.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from graftlm.data.corpus.document import Document
from graftlm.data.corpus.documents import Source, open_source, with_text
from graftlm.data.corpus.duplicates import Duplicates, open_duplicates
from graftlm.data.corpus.holding_out import Piece, pieces_of
from graftlm.data.corpus.identity import UNFINISHED, fingerprint, locked, read_unfinished, require_same
from graftlm.data.corpus.options import CorpusOptions
from graftlm.data.corpus.shards import (
    FORMAT_VERSION,
    MANIFEST,
    PARTS,
    Corpus,
    Sizes,
    describe,
    open_corpus,
    read_manifest,
)
from graftlm.data.corpus.writing import PartWriter, flattened
from graftlm.data.places import counted
from graftlm.errors import ConfigurationError, DataError
from graftlm.progress import Progress, Silent
from graftlm.rundir import write_json

Tokenise = Callable[[Sequence[str], Sequence[bool]], Sequence[Sequence[int]]]
"""Sentences, and which are the first of their document -> the ids of each, without special tokens."""

TOKENS_IN_SHARD = 1 << 25
BATCH_BYTES = 1 << 18
"""Of text: this much is tokenised at once."""
COMMIT_BYTES = 1 << 25
"""Of text: a build that is killed loses no more than this."""
# Two corpora that differ in these alone have the same content.
_NO_CONTENT = ("path", "max_row_bytes")


def build_corpus(
    options: CorpusOptions,
    tokenise: Tokenise,
    vocabulary_size: int,
    tokenizer_fingerprint: str,
    seed: int,
    folder: Path,
    progress: Progress,
) -> Corpus:
    """Return the corpus of some text: opened where ``folder`` holds it already, else built, or built to its end.

    Args:
        options: where the text is and how it is divided.
        tokenise: gives the ids of each sentence, which depend on that sentence, and on its being a first one, alone.
        vocabulary_size: ids are below it; up to 65,536 they take 2 bytes each, else 4.
        tokenizer_fingerprint: tells this tokenizer from any other.
        seed: decides what is held out.
        folder: of the corpus: empty, not there yet, or one that this function wrote.
        progress: is told how far the reading is, with tokens a second, and what was decided and left out.

    Raises:
        DataError: nothing holds text, a file of it cannot be read as it is (with file and line), nothing could be
            held out, or ``folder`` holds something else.
        MissingResource: disk space, a permission or the network is missing.
        ConfigurationError: the tokenizer gives ids that its vocabulary has not.
    """
    source = open_source(options)
    chosen: dict[str, Any] = {
        "options": {key: value for key, value in options.dump().items() if key not in _NO_CONTENT},
        "tokenizer": tokenizer_fingerprint,
        "vocabulary_size": vocabulary_size,
        "seed": seed,
    }
    progress.stage("looking at the corpus, MB")
    manifest = read_manifest(folder)
    if manifest is None:
        with locked(folder, progress):
            manifest = read_manifest(folder)  # another process may have finished it meanwhile
            if manifest is None:
                unfinished = read_unfinished(folder) or {"identity": {"source": None, **chosen}}
                identity = {"source": source.identity(unfinished["identity"]["source"], progress), **chosen}
                if "parts" in unfinished:
                    require_same(unfinished["identity"], identity, folder)
                with closing(_Builder(folder, identity, unfinished, tokenise, progress)) as builder:
                    manifest = builder.build(source, options)
    recorded = manifest["identity"]
    require_same(recorded, {"source": source.identity(recorded["source"], progress), **chosen}, folder)
    return open_corpus(folder)


class _Documents:
    """Numbers documents, and leaves out those that are empty or were there before."""

    def __init__(self, documents: Iterator[Document], duplicates: Duplicates) -> None:
        self.documents, self.duplicates = documents, duplicates
        self.read = self.empty = 0

    def __iter__(self) -> Iterator[tuple[int, str]]:
        for number, (text, _) in enumerate(self.documents):
            self.read = number + 1
            if not text or text.isspace():
                self.empty += 1
            elif not self.duplicates.seen(text):
                yield number, text


class _Builder:
    """Tokenises and writes batches of documents, and notes how far it is.

    Args:
        folder: of the corpus.
        identity: what it is made from.
        unfinished: what an interrupted build noted, if it did.
        tokenise: gives ids.
        progress: is told tokens a second and what was left out.
    """

    def __init__(
        self,
        folder: Path,
        identity: dict[str, Any],
        unfinished: dict[str, Any],
        tokenise: Tokenise,
        progress: Progress,
    ) -> None:
        self.folder, self.identity, self.tokenise, self.progress = folder, identity, tokenise, progress
        self.vocabulary_size: int = identity["vocabulary_size"]
        self.documents_done: int = unfinished.get("documents", 0)
        self.without_tokens: int = unfinished.get("without_tokens", 0)
        recorded: dict[str, dict[str, int]] = unfinished.get("parts", {})
        sizes = {name: Sizes(**recorded.get(name, {})) for name in PARTS}
        self.note(sizes)  # before any file is made: a folder with files and no note is another one's
        self.token_type = np.dtype("<u2" if self.vocabulary_size <= 1 << 16 else "<u4")
        with ExitStack() as opened:
            self.parts = {
                name: opened.enter_context(
                    closing(PartWriter(folder / name, self.token_type, TOKENS_IN_SHARD, sizes[name]))
                )
                for name in PARTS
            }
            self.opened = opened.pop_all()
        self.batch: list[Piece] = []
        self.batch_bytes = self.uncommitted_bytes = 0

    def build(self, source: Source, options: CorpusOptions) -> dict[str, Any]:
        """Write everything that is not there yet, and return the manifest."""
        self.progress.stage("reading and tokenising the corpus, MB")
        first = self.documents_done
        if first:
            self.progress.say(
                f"Going on after {counted(first, 'document')}, which are read again but not tokenised again."
            )
        with closing(open_duplicates(options.duplicates, self.folder)) as duplicates:
            texts = with_text(source.documents(_WithRate(self.progress, self)), options)
            documents = _Documents(texts, duplicates)
            for number, pieces in pieces_of(
                iter(documents), options.held_out_share, self.identity["seed"], first
            ):
                self.batch += pieces
                self.batch_bytes += sum(piece.size for piece in pieces)
                self.documents_done = number + 1
                if self.batch_bytes >= BATCH_BYTES:
                    self.write_batch()
                if self.uncommitted_bytes >= COMMIT_BYTES:
                    self.commit()
            self.write_batch()
            source.require_unchanged()
            left_out = {
                "empty_documents": documents.empty,
                "documents_without_tokens": self.without_tokens,
                "exact_duplicates": duplicates.exact,
                "near_duplicates": duplicates.near,
            }
            return self.finish(documents.read, left_out)

    def write_batch(self) -> None:
        """Tokenise the batch and append it to its parts; sentences and documents without tokens are left out."""
        pieces, self.batch = self.batch, []
        self.uncommitted_bytes, self.batch_bytes = self.uncommitted_bytes + self.batch_bytes, 0
        if not pieces:
            return
        sentences = [sentence for piece in pieces for sentence in piece.sentences]
        begins = [at == 0 for piece in pieces for at in range(len(piece.sentences))]
        tokens, lengths = flattened(self.tokenise(sentences, begins))
        if (
            len(lengths) != len(sentences)
            or tokens.min(initial=0) < 0
            or tokens.max(initial=0) >= self.vocabulary_size
        ):
            raise ConfigurationError(
                f"the tokenizer gave {len(lengths)} rows for {len(sentences)} sentences, with ids from "
                f"{tokens.min(initial=0)} to {tokens.max(initial=0)}; its vocabulary has {self.vocabulary_size}",
                fix="give the tokenizer and the size of its own vocabulary",
            )
        piece_of_sentence = np.repeat(np.arange(len(pieces)), [len(piece.sentences) for piece in pieces])
        sizes = np.array([piece.size for piece in pieces], dtype=np.int64)
        held_out = np.array([piece.held_out for piece in pieces])
        for name, members in (("train", ~held_out), ("held_out", held_out)):
            chosen = members[piece_of_sentence] & (lengths > 0)
            per_piece = np.bincount(piece_of_sentence[chosen], minlength=len(pieces))
            kept = members & (per_piece > 0)
            self.without_tokens += int(members.sum() - kept.sum())
            self.parts[name].add(
                tokens[np.repeat(chosen, lengths)], lengths[chosen], per_piece[kept], sizes[kept]
            )

    def commit(self) -> None:
        """Make what was written so far the point from which an interrupted build goes on."""
        for part in self.parts.values():
            part.commit()
        self.note({name: part.sizes for name, part in self.parts.items()})
        self.uncommitted_bytes = 0

    def note(self, sizes: dict[str, Sizes]) -> None:
        """Write down what is made from what, and how far the files are valid."""
        note = {
            "identity": self.identity,
            "documents": self.documents_done,
            "without_tokens": self.without_tokens,
            "parts": {name: asdict(part) for name, part in sizes.items()},
        }
        write_json(self.folder / UNFINISHED, note)

    def finish(self, documents_read: int, left_out: dict[str, int]) -> dict[str, Any]:
        """Write the manifest, which makes the corpus a finished one."""
        self.commit()
        sizes = {name: asdict(part.sizes) for name, part in self.parts.items()}
        if not sizes["train"]["documents"]:
            raise DataError(
                "nothing is left to train on: every document was held out, or none has tokens",
                where="corpus",
                fix="give more text, or lower corpus.held_out_share",
            )
        files = sorted(path for name in PARTS for path in (self.folder / name).glob("*.bin"))
        manifest: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "fingerprint": fingerprint(self.identity),
            "identity": self.identity,
            "facts": {**sizes, "documents_read": documents_read, **left_out},
            "token_type": self.token_type.str,
            "tokens_in_shard": TOKENS_IN_SHARD,
            "files": {path.relative_to(self.folder).as_posix(): describe(path) for path in files},
        }
        write_json(self.folder / MANIFEST, manifest)
        (self.folder / UNFINISHED).unlink()
        for name, part in self.parts.items():
            self.progress.say(_described(name, part.sizes))
        said = [f"{number:,} {name.replace('_', ' ')}" for name, number in left_out.items() if number]
        self.progress.say(f"Of {counted(documents_read, 'document')}, left out: {', '.join(said) or 'none'}.")
        return manifest

    def close(self) -> None:
        """Close all files."""
        self.opened.close()


class _WithRate(Silent):
    """Hands on what the reading tells, with the tokens a second since then."""

    def __init__(self, progress: Progress, builder: _Builder) -> None:
        self.progress, self.builder = progress, builder
        self.began, self.before = time.monotonic(), self._tokens()
        self.say, self.warn = progress.say, progress.warn

    def _tokens(self) -> int:
        return sum(part.sizes.tokens for part in self.builder.parts.values())

    def advance(self, done: int, total: int, **figures: Any) -> None:
        """Add the rate."""
        seconds = max(time.monotonic() - self.began, 1e-3)
        self.progress.advance(
            done, total, **figures, tokens_per_second=(self._tokens() - self.before) / seconds
        )


def _described(name: str, sizes: Sizes) -> str:
    return (
        f"{name.replace('_', ' ').capitalize()}: {counted(sizes.documents, 'document')}, "
        f"{counted(sizes.sentences, 'sentence')}, {counted(sizes.tokens, 'token')}, {counted(sizes.bytes, 'byte')}."
    )
