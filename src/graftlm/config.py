"""The base of every configuration: frozen, complete, and deaf to nothing (unknown keys are errors)."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen group of options. Attribute docstrings are the help shown by ``graft options``."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,  # `seed: true` is not 1
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )

    def dump(self) -> dict[str, Any]:
        """Return the complete options as plain YAML-ready values, every default written out."""
        return self.model_dump(mode="json")
