"""What every format answers."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Protocol

from graftlm.data.options import DataOptions
from graftlm.data.table import Table


class Format(Protocol):
    """How files of one kind are read. One file per format; the class is built without arguments."""

    suffixes: ClassVar[tuple[str, ...]]
    """File name endings in lower case, with the dot, without ``.gz``."""

    def read(self, path: Path, source: str, options: DataOptions) -> Table:
        """Read the whole file; ``source`` is its name as the user wrote it. Raises `DataError`."""
        ...
