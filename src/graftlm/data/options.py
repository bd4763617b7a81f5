"""The ``data`` section of a recipe."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt, field_validator, model_validator

from graftlm.catalog import Catalog
from graftlm.config import Config
from graftlm.errors import nearest

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class DataOptions(Config):
    """Where the rows are, which columns matter, and how they are split."""

    path: str = ""
    """A file (.csv, .tsv, .jsonl, .json, .parquet, .conll, .conllu, each also .gz where it is text), a folder holding
    train/validation/test files, or a data set of the hub, `hub:org/name@revision`, where it has several
    configurations `hub:org/name:configuration@revision`, or a benchmark such as `glue:rte@revision` or `squad:v1`,
    `glue:rte=FOLDER` from the official files. Empty for data given in memory."""

    format: str | None = None
    """How the files are written, whatever their names end in, for instance conll. None: the suffix decides."""

    validation: str | None = None
    """A separate validation file. None: the split of that name in `path`, else carved from train."""

    test: str | None = None
    """A separate test file. None: the split of that name in `path`, else carved from a single file."""

    columns: dict[str, str] = Field(default_factory=dict[str, str])
    """Role -> column name, for instance {text: review, label: stars}. Roles left out are inferred."""

    label_separator: Annotated[str, Field(min_length=1)] = ","
    """Stands between the names where several labels are written as one string."""

    label_columns: list[str] = Field(default_factory=list[str])
    """Columns of 0 and 1, one per label, in place of a single column of labels (multi-label data)."""

    tag_names: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list[str])
    """Names of tags that are written as numbers, from 0 on, for instance [O, B-PER, I-PER]."""

    split_column: str | None = None
    """A column that says train, validation or test for each row of a single file."""

    group_column: str | None = None
    """Rows with the same value here (one author, one document) never fall into different splits."""

    validation_share: Share = 0.1
    """Share of the training rows carved for validation where no validation split is given."""

    test_share: Share = 0.2
    """Share of a single file's rows held out as test where no test split is given."""

    drop_empty_text: bool = False
    """Leave out rows whose text is empty or white space, and say how many; by default they are refused."""

    drop_misfit_spans: bool = False
    """Leave out character spans that do not fit their text (an end inside a word, an overlap, another text than the
    span says), and say how many; by default they are refused."""

    encoding: str = "utf-8"
    """Text encoding of the files; a byte-order mark is dropped."""

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """Column separator. None: a comma (CSV), a tab (TSV), a tab or else spaces (CoNLL)."""

    max_row_bytes: PositiveInt = 1_000_000
    """A longer line is refused with its number: it is nearly always a broken file."""

    @field_validator("format")
    @classmethod
    def _known_format(cls, value: str | None) -> str | None:
        known = Catalog("data.formats").names()
        if value is not None and value not in known:
            raise ValueError(f"must be one of {', '.join(known)}.{nearest(value, known)}")
        return value

    @model_validator(mode="after")
    def _shares_leave_rows_for_training(self) -> DataOptions:
        if self.validation_share + self.test_share >= 0.9:
            raise ValueError("data.validation_share + data.test_share must stay below 0.9")
        return self
