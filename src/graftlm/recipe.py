"""The recipe: the complete, frozen configuration of one run. The union of the catalogs."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import (
    BaseModel,
    Field,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)

from graftlm.catalog import Catalog
from graftlm.composition import Composition, Overrides, pairs
from graftlm.config import Config
from graftlm.data.options import DataOptions
from graftlm.errors import ConfigurationError
from graftlm.settings import KeyPath, Settings, dump_yaml

log = logging.getLogger("graftlm")

PLUG_IN_SECTIONS: Mapping[str, Catalog] = {
    "task": Catalog("tasks"),
    "objective": Catalog("objectives"),
    "strategy": Catalog("strategies"),
}

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class TrainingOptions(Config):
    """How the weights are moved, when the run is evaluated, and when it stops."""

    epochs: Annotated[float, Field(gt=0.0, le=10_000.0)] | None = None
    """Passes over the training rows. None: about 1,500 steps, within 3 to 20 passes."""

    learning_rate: PositiveFloat | None = None
    """Peak learning rate of AdamW (bias-corrected). None: that of the strategy, for `full` 1e-4, or 1e-3 for our own
    small base models."""

    batch_size: PositiveInt = 16
    """Examples per optimiser step, over all processes."""

    micro_batch: PositiveInt | None = None
    """Examples per forward pass; smaller needs less memory and changes no number. None: the whole batch."""

    gradient_checkpointing: bool = False
    """Whether layers keep only what they are given, and are computed again on the way back: needs much less memory,
    takes about a third longer and changes no number."""

    order: Literal["shuffled", "length_grouped"] = "length_grouped"
    """Batches of rows of similar length (little padding, so faster), or of fully shuffled rows."""

    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    """Decoupled weight decay of matrices; biases and norms are exempt."""

    warmup_share: Share = 0.1
    """Share of all steps over which the learning rate rises linearly from 0."""

    schedule: Literal["linear", "cosine", "constant", "trapezoid"] = "linear"
    """Shape of the learning rate after warm-up. A trapezoid stays up and falls to 0 at the end."""

    decay_share: Share = 0.2
    """Share of all steps over which a trapezoid falls linearly to 0."""

    max_gradient_norm: PositiveFloat | None = 1.0
    """Global norm to which gradients are clipped. None: no clipping."""

    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    """Dropout of body and head. None: what the base model was made with."""

    evaluations_per_epoch: PositiveInt = 1
    """Validations in each pass over the training rows; the last step is always evaluated."""

    patience_evaluations: PositiveInt | None = None
    """Stop after this many validations without improvement. None: run all epochs."""

    keep: Literal["best", "last"] | None = None
    """Which weights become the model: those of the best validation, or those of the last step. None: the last;
    with `patience_evaluations` the best."""

    checkpoint_steps: PositiveInt | None = None
    """Steps between checkpoints. None: about one a minute."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the forward pass. auto: bf16 on GPUs that have it, fp32 elsewhere."""

    execution: Literal["auto", "flat", "padded"] = "auto"
    """auto: without padding on CPUs and CUDA where the base model allows it, at the same numbers, and on CUDA with
    whole steps replayed as graphs. flat: likewise, but without graphs. padded: neither."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute. auto: the accelerator where there is one."""

    @property
    def keeps_best(self) -> bool:
        """Whether validation rows choose the weights."""
        return self.keep == "best" or (self.keep is None and self.patience_evaluations is not None)

    @model_validator(mode="after")
    def _trapezoid_fits(self) -> TrainingOptions:
        if self.schedule == "trapezoid" and self.warmup_share + self.decay_share > 1.0:
            raise ValueError(
                f"a trapezoid cannot rise for training.warmup_share ({self.warmup_share}) and fall for "
                f"training.decay_share ({self.decay_share}): together they exceed 1"
            )
        return self

    @model_validator(mode="after")
    def _micro_batch_fits(self) -> TrainingOptions:
        if self.micro_batch is not None and self.micro_batch > self.batch_size:
            raise ValueError(
                f"training.micro_batch ({self.micro_batch}) cannot exceed training.batch_size ({self.batch_size})"
            )
        return self


BATCH_TOKENS = 4096
"""Enough to keep the cores busy, few enough to stay near their caches (docs/log.md, 2026-11-29)."""


class EvaluationOptions(Config):
    """How scores and their intervals are computed."""

    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    """Level of the bootstrap intervals."""

    resamples: Annotated[int, Field(ge=100)] = 2000
    """Bootstrap resamples of the rows."""

    batch_tokens: PositiveInt = BATCH_TOKENS
    """Most tokens of a forward pass in evaluation and prediction, padding included; one example may have more."""

    proof: Literal["fresh_process", "none"] = "fresh_process"
    """After training, a fresh process reloads the saved model and must decide alike; none skips it aloud."""

    @model_validator(mode="before")
    @classmethod
    def _rows_of_earlier_versions(cls, values: Any) -> Any:
        if isinstance(values, dict) and "batch_size" in values:
            log.warning(
                "evaluation.batch_size is not used any more: evaluation.batch_tokens bounds a forward pass"
            )
            return {
                key: value for key, value in cast("dict[str, Any]", values).items() if key != "batch_size"
            }
        return values


class Recipe(Config):
    """Everything that decides what a run computes. Build it with `load_recipe`."""

    format_version: Literal[1] = 1
    """Version of this file's layout."""

    base: Annotated[str, Field(min_length=1)] = "bundled:minilm-l6"
    """Base model: a folder, `org/name@revision` on the hub, or `bundled:<name>`."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    """Decides splits, order of rows, dropout and the new head."""

    data: DataOptions = DataOptions()
    task: SerializeAsAny[BaseModel]
    objective: SerializeAsAny[BaseModel]
    strategy: SerializeAsAny[BaseModel]
    training: TrainingOptions = TrainingOptions()
    evaluation: EvaluationOptions = EvaluationOptions()

    @field_validator("task", "objective", "strategy", mode="plain")
    @classmethod
    def _member_of_catalog(cls, section: object, info: ValidationInfo) -> BaseModel:
        return FINE_TUNING.member(section, info)

    @model_validator(mode="after")
    def _objective_fits_the_task(self) -> Recipe:
        task: Any = self.task
        kinds: tuple[str, ...] | None = getattr(self.objective, "kinds", None)
        if kinds is not None and task.answer_kind not in kinds:
            objective: Any = self.objective
            raise ValueError(
                f"objective.name={objective.name} trains {' or '.join(kinds)}, and task.name={task.name} answers "
                f"with {task.answer_kind}; leave objective.name out for {task.objective}"
            )
        return self

    def dump(self) -> dict[str, Any]:
        """Return the complete recipe, every default written out, ready for YAML."""
        return FINE_TUNING.named(self, super().dump())

    def changed(self, changes: Mapping[str, Any]) -> Recipe:
        """Return a recipe with dotted keys set to other values, validated again."""
        return load_recipe(None, changes, Settings(self.dump()))

    def to_yaml(self) -> str:
        """Return the complete recipe as a YAML file's text."""
        return dump_yaml(self.dump(), width=100)


def _usual(section: str, settings: Settings) -> str | None:
    """Return the objective of the task; a task that is wrong in itself is complained about later."""
    task = settings.values["task"]
    name = task.get("name") if isinstance(task, dict) else None
    if section != "objective" or name not in PLUG_IN_SECTIONS["task"].names():
        return None
    member: Any = PLUG_IN_SECTIONS["task"].get(name)
    return member.objective


DEFAULT_MEMBERS: Mapping[str, str] = {
    "task": "text_classification",
    "objective": "cross_entropy",
    "strategy": "full",
}
FINE_TUNING = Composition(
    Recipe, PLUG_IN_SECTIONS, DEFAULT_MEMBERS, "graft options", outlined=("task",), usual=_usual
)


def load_recipe(
    file: str | Path | None = None, overrides: Overrides = (), start: Settings | None = None
) -> Recipe:
    """Read a recipe file, apply overrides, validate, and fill in every default; see `Composition.load`."""
    return FINE_TUNING.load(file, overrides, start)


def load_outline(
    file: str | Path | None = None, overrides: Overrides = (), start: Settings | None = None
) -> Recipe:
    """Like `load_recipe`, without importing torch: objective and strategy are checked by name only.

    For what needs no more than data and task, such as ``graft check``; such a recipe cannot be trained.
    """
    return FINE_TUNING.outline(file, overrides, start)


def written_settings(
    file: str | Path | None, overrides: Overrides, start: Settings | None = None
) -> Settings:
    """Return what was written, in a file (or ``start``) and as overrides, without any default."""
    return FINE_TUNING.written(file, overrides, start)


def load_part(verb: str, used: Collection[str], overrides: Overrides, path: str = "") -> Recipe:
    """Like `load_outline`, for a verb that uses some keys only: any other is refused instead of being ignored.

    Args:
        verb: how the user calls it, for the message.
        used: dotted keys, each with all that lies below it.
        overrides: what the user wrote.
        path: the data file, which these verbs take as a word of its own.
    """
    written = list(pairs(overrides))
    recipe = load_outline(None, [*((".".join(key), value) for key, value in written), ("data.path", path)])
    idle = [key for key in _leaves(written) if not any(f"{key}.".startswith(f"{known}.") for known in used)]
    if idle:
        raise ConfigurationError(
            f"{verb} has no use for this; the keys that it uses are {', '.join(used)}",
            where=", ".join(dict.fromkeys(idle)),
            fix="leave it out",
        )
    return recipe


def _leaves(written: Iterable[tuple[KeyPath, Any]]) -> Iterator[str]:
    """Yield the dotted keys of all values, also where a whole section was written at once."""
    for key, value in written:
        if isinstance(value, dict) and value:
            inner = cast("dict[str, Any]", value)
            yield from _leaves(((*key, name), part) for name, part in inner.items())
        else:
            yield ".".join(key)
