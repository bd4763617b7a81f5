"""How a recipe is put together: a file, overrides, defaults, and the catalogs whose members it names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, ValidationError, ValidationInfo

from graftlm.catalog import Catalog
from graftlm.config import Config
from graftlm.errors import ConfigurationError, clip
from graftlm.settings import KeyPath, Settings, apply_overrides, explain, parse_override, read_yaml

Overrides = Iterable[str | tuple[str, Any]] | Mapping[str, Any]
Made = TypeVar("Made", bound=BaseModel)


@dataclass(frozen=True)
class Composition(Generic[Made]):
    """One kind of recipe.

    Core keys and catalog names are validated before any plug-in (hence torch) is imported.

    Args:
        kind: the class of the recipe.
        sections: plug-in section -> the catalog of its members.
        defaults: plug-in section -> the member that is meant where none is named.
        outlined: sections whose members load no torch, so that an outline validates them.
        listing: the command that lists the keys.
        usual: section and settings -> the member that is meant where none is named and another section decides it.
    """

    kind: type[Made]
    sections: Mapping[str, Catalog]
    defaults: Mapping[str, str]
    listing: str
    outlined: tuple[str, ...] = ()
    usual: Callable[[str, Settings], str | None] = lambda section, settings: None

    def load(
        self, file: str | Path | None = None, overrides: Overrides = (), start: Settings | None = None
    ) -> Made:
        """Read a recipe file, apply overrides, validate, and fill in every default.

        Args:
            file: a YAML recipe; None starts from the defaults.
            overrides: ``key=value`` words (or pairs of dotted key and Python value among them), or a mapping of dotted
                keys to Python values.
            start: settings to start from instead of a file.

        Raises:
            ConfigurationError: with the place, the key and the nearest name.
        """
        settings = self.written(file, overrides, start)
        unnamed = self._fill(settings)
        self._validate(settings, outline=True)
        # What another section decides may take loading: after everything that can be wrong without.
        for section in unnamed:
            settings.values[section]["name"] = self.usual(section, settings) or self.defaults[section]
        return self._validate(settings, outline=False)

    def outline(
        self, file: str | Path | None = None, overrides: Overrides = (), start: Settings | None = None
    ) -> Made:
        """Like `load`, without importing torch: most plug-ins are checked by name only."""
        settings = self.written(file, overrides, start)
        self._fill(settings)
        return self._validate(settings, outline=True)

    def written(
        self, file: str | Path | None, overrides: Overrides, start: Settings | None = None
    ) -> Settings:
        """Return what was written, in a file (or ``start``) and as overrides, without any default."""
        settings = start or (read_yaml(Path(file)) if file is not None else Settings())
        return apply_overrides(settings, pairs(overrides), self.defaults)

    def _fill(self, settings: Settings) -> list[str]:
        """Name the usual members where none is named; return those sections."""
        unnamed: list[str] = []
        for section, member in self.defaults.items():
            chosen = settings.values.setdefault(section, {})
            if isinstance(chosen, dict) and "name" not in chosen:
                chosen["name"] = member
                unnamed.append(section)
        return unnamed

    def _validate(self, settings: Settings, outline: bool) -> Made:
        try:
            return self.kind.model_validate(settings.values, context={"outline": outline})
        except ValidationError as error:
            raise explain(error, settings, self._keys(settings, outline), self.listing) from None

    def _keys(self, settings: Settings, outline: bool) -> list[str]:
        """Return every dotted key of the core and of the plug-ins these settings name; an outline knows no torch."""
        keys = [key for key, _, _ in options(self.kind, "")]
        for section, catalog in self.sections.items():
            given = settings.values[section]
            name = given.get("name") if isinstance(given, dict) else None
            keys.append(f"{section}.name")
            if name in catalog.names() and (section in self.outlined or not outline):
                keys += [key for key, _, _ in options(catalog.get(name), f"{section}.")]
        return keys

    def member(self, section: object, info: ValidationInfo) -> BaseModel:
        """Find the member of a section by its name and validate its options with the member's own class."""
        assert info.field_name is not None
        catalog = self.sections[info.field_name]
        if isinstance(section, BaseModel):
            return section
        if not isinstance(section, dict) or not isinstance(section.get("name"), str):
            raise ValueError(f"a section with a name is needed; known names: {', '.join(catalog.names())}")
        try:
            catalog.check(section["name"])
        except ConfigurationError as error:
            raise ValueError(error.what) from None
        if info.context and info.context.get("outline") and info.field_name not in self.outlined:
            return Config()  # named, not loaded: it imports torch
        member: type[BaseModel] = catalog.get(section["name"])
        return member.model_validate({key: value for key, value in section.items() if key != "name"})

    def named(self, recipe: BaseModel, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values of a recipe with the names of the members it is made of, ready for YAML."""
        for section in self.sections:
            values[section] = {"name": getattr(recipe, section).name, **values[section]}
        return values


def options(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any, str]]:
    """Yield (dotted key, pydantic field, help) for every option of a configuration class, depth first.

    Sections that plug-ins fill are left out.
    """
    for name, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, Config):
            yield from options(inner, f"{prefix}{name}.")
        elif inner is not BaseModel:
            yield f"{prefix}{name}", info, " ".join((info.description or "").split())


def pairs(overrides: Overrides) -> Iterator[tuple[KeyPath, Any]]:
    """Yield key path and value of every override, however it was written."""
    if isinstance(overrides, Mapping):
        for key, value in cast("Mapping[str, Any]", overrides).items():
            yield tuple(key.split(".")), value
        return
    for word in overrides:
        if isinstance(word, tuple):
            yield tuple(word[0].split(".")), word[1]
            continue
        if not isinstance(word, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"an override is a text such as training.epochs=3, got {clip(word)}")
        yield parse_override(word)
