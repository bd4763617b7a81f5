"""The recipe of a pretraining: from raw text to a base model."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)

from graftlm.catalog import Catalog
from graftlm.composition import Composition, Overrides
from graftlm.config import Config
from graftlm.data.corpus.documents import look_at_beginnings
from graftlm.data.corpus.options import CorpusOptions, TextOptions
from graftlm.data.options import Share
from graftlm.errors import ConfigurationError, DataError
from graftlm.models.architecture_sizes import require_known
from graftlm.models.tokenizer_options import TokenizerOptions
from graftlm.settings import Settings, dump_yaml

SECTIONS: Mapping[str, Catalog] = {
    "objective": Catalog("pretraining_objectives"),
    "strategy": Catalog("strategies"),
}


class PretrainingOptions(Config):
    """How much is learnt at a time, how the weights are moved, and when the model is looked at."""

    epochs: Annotated[float, Field(gt=0.0, le=100_000.0)] = 1.0
    """Passes over the tokens of the corpus."""

    max_length_tokens: Annotated[int, Field(ge=8)] = 128
    """Tokens of an example, special tokens included; longer documents are cut into windows."""

    batch_tokens: PositiveInt = 8192
    """Tokens per optimiser step, over all processes."""

    short_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Share of the steps, from the beginning, whose examples have a quarter of `max_length_tokens`."""

    batch_warmup_share: Share = 0.0
    """Share of the steps over which the tokens of a step grow from an eighth to `batch_tokens`."""

    micro_batch: PositiveInt | None = None
    """Examples per forward pass; smaller needs less memory and changes no number. None: all of a step."""

    gradient_checkpointing: bool = False
    """Whether layers keep only what they are given, and are computed again on the way back: needs much less memory,
    takes about a third longer and changes no number."""

    first_embeddings: Literal["random", "cooccurrence"] = "random"
    """How the embeddings of a new network begin, those of the output too where they are tied. cooccurrence: by which
    tokens stand near which in the corpus, otherwise learnt in many steps; takes about a minute for small networks."""

    optimizer: Literal["adamw", "muon", "adafactor"] | None = None
    """adamw; muon for the matrices inside the layers, with adamw for everything else; adafactor, whose rates are
    relative to the size of the weights and at most 1 / sqrt(step). None: adafactor where all weights of T5 or its kind
    are trained, else adamw."""

    learning_rate: PositiveFloat | None = None
    """Peak learning rate. None: that of the objective, 1e-3; for a new network by adafactor 1e-2; with a strategy other
    than full, that of the strategy."""

    weight_decay: Annotated[float, Field(ge=0.0)] | None = None
    """Decoupled weight decay of matrices; biases and norms are exempt. None: 0.01, and 0 for adafactor."""

    warmup_share: Share = 0.05
    """Share of all steps over which the learning rate rises linearly from 0."""

    schedule: Literal["linear", "cosine", "constant", "trapezoid"] = "trapezoid"
    """Shape of the learning rate after warm-up; trapezoid is constant until it falls linearly to 0."""

    decay_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2
    """Share of all steps over which a trapezoid falls."""

    averaging: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Decay of an exponential moving average of the weights, which is judged and saved. None: no average."""

    max_gradient_norm: PositiveFloat | None = 1.0
    """Global norm to which gradients are clipped. None: no clipping."""

    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    """Dropout of every layer. None: that of the architecture or base model."""

    evaluations: PositiveInt = 10
    """How often, evenly over the run, the held-out text is scored."""

    checkpoint_steps: PositiveInt | None = None
    """Steps between checkpoints. None: about one a minute."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the forward pass. auto: bf16 on GPUs that have it, fp32 elsewhere."""

    execution: Literal["auto", "padded"] = "auto"
    """auto: without padding on CPUs and CUDA where the network allows it, at the same numbers. padded: never so."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute. auto: the accelerator where there is one."""

    @property
    def patience_evaluations(self) -> None:
        """A pretraining runs to its end."""
        return None

    @property
    def keeps_best(self) -> bool:
        """The last weights are kept: held-out text chooses nothing."""
        return False

    @model_validator(mode="after")
    def _trapezoid_fits(self) -> PretrainingOptions:
        if self.schedule == "trapezoid" and self.warmup_share + self.decay_share > 1.0:
            raise ValueError(
                f"a trapezoid cannot rise for training.warmup_share ({self.warmup_share}) and fall for "
                f"training.decay_share ({self.decay_share}): together they exceed 1"
            )
        return self

    @model_validator(mode="after")
    def _step_holds_an_example(self) -> PretrainingOptions:
        if self.batch_tokens < self.max_length_tokens:
            raise ValueError(
                f"training.batch_tokens ({self.batch_tokens}) must hold an example of training.max_length_tokens "
                f"({self.max_length_tokens})"
            )
        return self


def _with_path(given: object) -> object:
    return {"path": given} if isinstance(given, str) else given


class PretrainingEvaluation(Config):
    """How the held-out text is scored."""

    tokens: PositiveInt = 200_000
    """Tokens of the held-out text that are scored at most: of whole documents, drawn from it, always the same ones."""

    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    """Level of the bootstrap intervals over documents."""

    general_text: Annotated[TextOptions | None, BeforeValidator(_with_path)] = None
    """Other text than the corpus that is scored too; of a base model that is trained further it tells what was
    forgotten. A path as in `corpus.path`, or a section with `path` and any of `text_column`, `document_column`,
    `split`, `document`, `encoding` and `max_row_bytes`, as in `corpus`. None: none."""

    proof: Literal["fresh_process", "none"] = "fresh_process"
    """After training, a fresh process reloads the saved model, which must say the same; none skips it aloud."""


class PretrainingRecipe(Config):
    """Everything that decides what a pretraining computes. Build it with `load_pretraining`."""

    format_version: Literal[1] = 1
    """Version of this file's layout."""

    base: Annotated[str, Field(min_length=1)] = "bert-mini"
    """What is trained: an architecture by name (`graft pretrain --architectures`) or a configuration file (.json), from
    nothing; or a base model that is trained further: a folder, `org/name@revision`, or `bundled:<name>`."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    """Decides the first weights, the held-out part, the order of examples, what is hidden, and dropout."""

    corpus: CorpusOptions
    tokenizer: TokenizerOptions = TokenizerOptions()
    objective: SerializeAsAny[BaseModel]
    strategy: SerializeAsAny[BaseModel]
    training: PretrainingOptions = PretrainingOptions()
    evaluation: PretrainingEvaluation = PretrainingEvaluation()

    @field_validator("objective", "strategy", mode="plain")
    @classmethod
    def _member_of_catalog(cls, section: object, info: ValidationInfo) -> BaseModel:
        return PRETRAINING.member(section, info)

    def dump(self) -> dict[str, Any]:
        """Return the complete recipe, every default written out, ready for YAML."""
        return PRETRAINING.named(self, super().dump())

    def changed(self, changes: Mapping[str, Any]) -> PretrainingRecipe:
        """Return a recipe with dotted keys set to other values, validated again."""
        return load_pretraining(None, changes, Settings(self.dump()))

    def to_yaml(self) -> str:
        """Return the complete recipe as a YAML file's text."""
        return dump_yaml(self.dump(), width=100)


_DEFAULTS = {"objective": "masked_language_modelling", "strategy": "full"}


def _usual(section: str, settings: Settings) -> str | None:
    """Return the objective of the base, by its configuration; None for a hub id, which only the network could tell."""
    if section != "objective":
        return None
    base = settings.values.get("base", PretrainingRecipe.model_fields["base"].default)
    require_known(base)
    # A configuration is read by transformers, so the question goes to a plug-in, as everything does that loads it.
    member: Any = SECTIONS[section].get(_DEFAULTS[section])
    return member.usual_for(base)


PRETRAINING = Composition(PretrainingRecipe, SECTIONS, _DEFAULTS, "graft options --pretraining", usual=_usual)


def look_first(outline: PretrainingRecipe) -> None:
    """Refuse what a look tells, before torch is loaded and any text is read to its end: base and texts.

    Raises:
        ConfigurationError: there is no such architecture, file or folder, or no such encoding.
        DataError: the beginning of a text cannot be read.
        MissingResource: a permission is missing.
    """
    require_known(outline.base)
    look_at_beginnings(outline.corpus)
    if (other := general_text(outline.evaluation)) is not None:
        with about_general_text():
            look_at_beginnings(other)


def general_text(evaluation: PretrainingEvaluation) -> CorpusOptions | None:
    """Return how the text is read that is scored beside the held-out part; None where there is none."""
    if evaluation.general_text is None:
        return None
    return CorpusOptions(**evaluation.general_text.dump(), held_out_share=0.0, duplicates="keep")


@contextlib.contextmanager
def about_general_text() -> Generator[None]:
    """Let an error about how text is read name the keys of ``evaluation.general_text``, called as in ``corpus``."""
    try:
        yield
    except (ConfigurationError, DataError) as error:
        keys = "|".join(TextOptions.model_fields)
        what, where, fix = (
            re.sub(rf"\bcorpus\.(?=({keys})\b)", "evaluation.general_text.", text)
            for text in (error.what, error.where, error.fix)
        )
        raise type(error)(what, where=where, fix=fix) from None


def load_pretraining(
    file: str | Path | None = None, overrides: Overrides = (), start: Settings | None = None
) -> PretrainingRecipe:
    """Read a recipe file, apply overrides, validate, and fill in every default; see `Composition.load`."""
    return PRETRAINING.load(file, overrides, start)
