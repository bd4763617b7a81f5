"""The ``corpus`` section of a recipe, and how other raw text is read: which text a model is pretrained on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from graftlm.config import Config
from graftlm.data.options import Share

DocumentForm = Literal["auto", "file", "blank_line", "line", "heading"]
DuplicateRule = Literal["keep", "exact", "near"]


class TextOptions(Config):
    """Where raw text is, and what a document is in it."""

    path: Annotated[str, Field(min_length=1)]
    """A file (plain text, .jsonl, .csv, .tsv, each also .gz, or .parquet), a folder of such files, read in the order
    of their names, or a data set of the hub, `hub:org/name@revision`, where it has several configurations
    `hub:org/name:configuration@revision`, which is streamed."""

    text_column: str = "text"
    """The column that holds the text, in files that have columns."""

    document_column: str | None = None
    """Rows that follow each other and have the same value here are one document. None: each row is a document."""

    split: str = "train"
    """Which split of a hub data set is read."""

    document: DocumentForm = "auto"
    """What a document is in plain text: a whole file, lines between blank_line and blank line, each line, or what a
    heading `= Title =` begins (WikiText). auto: the look of each file decides, and what was decided is said."""

    encoding: str = "utf-8"
    """Text encoding of the files; a byte-order mark is dropped."""

    max_row_bytes: PositiveInt = 67_108_864
    """A longer line is refused with its number: it is nearly always a broken file."""


class CorpusOptions(TextOptions):
    """Where raw text is, what a document is in it, and which part is held out."""

    duplicates: DuplicateRule = "exact"
    """Which repeated documents are left out: none (keep), those equal apart from case and white space (exact), or
    also those that share at least 0.8 of their sequences of 5 words (near)."""

    held_out_share: Share = 0.01
    """Share of the text set aside to measure the model, by document; documents beyond 64 KiB give stretches of about
    16 KiB. Which ones depends on the seed and their content only. 0 holds nothing out."""
