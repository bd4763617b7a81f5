"""Parquet: columns with types of their own, kept as Python values."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from graftlm.data.delimited import unique_names
from graftlm.data.options import DataOptions
from graftlm.data.reading import require_file
from graftlm.data.table import Table
from graftlm.errors import DataError, MissingResource


class Parquet:
    """Parquet files. Binary, decimal, timestamp and nested values are kept; roles refuse the wrong ones."""

    suffixes: ClassVar[tuple[str, ...]] = (".parquet",)

    def read(self, path: Path, source: str, options: DataOptions) -> Table:
        """Read the whole file; missing values are None. Raises `DataError`."""
        # pyarrow takes a quarter of a second to load and only this format needs it.
        import pyarrow
        import pyarrow.parquet

        require_file(path, source)
        if path.suffix.lower() == ".gz":
            raise DataError(
                "Parquet is compressed inside and is not read from .gz",
                where=source,
                fix="unpack it with gunzip",
            )
        if path.stat().st_size == 0:
            raise DataError("is empty (0 bytes)", where=source, fix="write the file again")
        try:
            with path.open("rb") as file:
                # One thread and no memory map: a damaged file must end in an exception, not in a signal.
                contents = pyarrow.parquet.ParquetFile(file).read(use_threads=False)
            contents.validate(full=True)
            names = unique_names([str(name) for name in contents.schema.names], source)
            columns: dict[str, list[object]] = {
                name: contents.column(position).to_pylist() for position, name in enumerate(names)
            }
        except PermissionError as problem:
            raise MissingResource(f"cannot be opened: {problem.strerror}", where=source) from None
        except (pyarrow.ArrowException, OSError, ValueError, ArithmeticError, MemoryError) as problem:
            raise DataError(
                f"is not a whole Parquet file: {' '.join(str(problem).split())[:200]}",
                where=source,
                fix="copy or write the file again; a file that was cut short ends like this",
            ) from None
        if not columns:
            raise DataError("has no columns", where=source, fix="write at least a text column")
        if contents.num_rows == 0:
            raise DataError("has columns but no rows", where=source, fix="write the file with its rows")
        return Table(source, columns, None, typed=True)
