"""Plug-ins found by scanning a folder: the file name is the name, the CamelCase of it is the class.

Names are known without importing anything, so a wrong name is refused before torch is loaded. Installed
packages add members through entry points of the group ``graftlm.<kind>`` (for instance ``graftlm.tasks``).
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from graftlm.errors import ConfigurationError, nearest


@dataclass(frozen=True)
class Member:
    """One plug-in: where it comes from and how to import it."""

    name: str
    module: str
    attribute: str
    origin: str


@dataclass(frozen=True)
class Catalog:
    """All plug-ins of one kind.

    Args:
        kind: the folder under ``graftlm`` (``tasks``, ``strategies``, ``data.formats`` ...).
    """

    kind: str

    def names(self) -> list[str]:
        """Return the sorted names of all members, without importing any."""
        return sorted(_members(self.kind))

    def check(self, name: str) -> None:
        """Raise `ConfigurationError` with the nearest name when there is no such member."""
        if name not in _members(self.kind):
            known = self.names()
            raise ConfigurationError(
                f"no {_singular(self.kind)} is called {name!r}.{nearest(name, known)} Known: {', '.join(known)}"
            )

    def get(self, name: str) -> type:
        """Import and return the class of the member ``name``."""
        self.check(name)
        member = _members(self.kind)[name]
        return getattr(importlib.import_module(member.module), member.attribute)


def camel_case(name: str) -> str:
    """Return the class name of a catalog file: ``cross_entropy`` -> ``CrossEntropy``."""
    return "".join(part.capitalize() for part in name.split("_"))


def _singular(kind: str) -> str:
    last = kind.rsplit(".", 1)[-1]
    return {"strategies": "strategy"}.get(last, last.removesuffix("s"))


@cache
def _members(kind: str) -> dict[str, Member]:
    package = f"graftlm.{kind}"
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise ConfigurationError(f"there is no catalog {package!r}")
    found: list[Member] = []
    for folder in spec.submodule_search_locations:
        for file in sorted(Path(folder).glob("*.py")):
            if not file.stem.startswith("_"):
                found.append(Member(file.stem, f"{package}.{file.stem}", camel_case(file.stem), str(file)))
    for point in entry_points(group=package):
        origin = point.dist.name if point.dist else point.value
        found.append(Member(point.name, point.module, point.attr, f"entry point of {origin}"))
    members: dict[str, Member] = {}
    for member in found:
        if member.name in members:
            raise ConfigurationError(
                f"two members of {package} are called {member.name!r}: "
                f"{members[member.name].origin} and {member.origin}",
                fix="uninstall or rename one of them",
            )
        members[member.name] = member
    return members
