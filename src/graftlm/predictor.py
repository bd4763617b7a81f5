"""A finished run as a function: text -> prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from pydantic import ValidationError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from graftlm.data.dataset import Split
from graftlm.data.features import Features, Outputs
from graftlm.data.given_rows import split_of_rows
from graftlm.data.roles import INPUT_KINDS, Role
from graftlm.errors import ConfigurationError, ModelError, clip
from graftlm.kernels.library import said_of_missing
from graftlm.models.adapters import find_base, holds_adapter, load_adapter
from graftlm.models.artefact import ArtefactFacts, read_facts
from graftlm.models.base_model import length_limit, load_config, load_model, load_tokenizer
from graftlm.models.decoding import make_encoder, set_decoding
from graftlm.models.encoder import TextEncoder
from graftlm.models.exported.files import FILES, is_exported
from graftlm.models.exported.network import ExportedNetwork, open_network
from graftlm.models.flat.probe import make_flat
from graftlm.models.locating import BaseFiles, locate
from graftlm.progress import Progress, Silent
from graftlm.recipe import BATCH_TOKENS, PLUG_IN_SECTIONS
from graftlm.rundir import RunDirectory, require_folder
from graftlm.tasks._task import SPEAKING, Learnt, Task
from graftlm.tokenising import Watched, encoded
from graftlm.training.batching import Examples
from graftlm.training.devices import choose_device, resolve_precision
from graftlm.training.evaluation import predict_outputs
from graftlm.training.memory import place


@dataclass(frozen=True)
class Predictor:
    """A trained model with everything around it. Open one with `Predictor.open`.

    Calling it with texts gives one prediction per text, in order; a text gives the same prediction alone as among
    others (to float rounding).

    Args:
        model: the network, in evaluation mode.
        encoder: makes tokens of texts.
        task: makes predictions of what the network says.
        facts: of the folder.
        device: of the network.
        autocast: dtype of the forward pass, or None for float32.
        notes: why it is slower than it could be, a sentence each.
    """

    model: PreTrainedModel | ExportedNetwork
    encoder: TextEncoder
    task: Task
    facts: ArtefactFacts
    device: torch.device
    autocast: torch.dtype | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: str | Path, device: str = "auto", precision: str = "fp32") -> Predictor:
        """Load a run directory, its ``model`` folder or a folder that ``graft export`` made.

        Args:
            path: of the folder.
            device: auto, cpu, cuda or mps. An exported network works on the CPU.
            precision: fp32, bf16 or auto; of an exported network fp32 or int8.

        Raises:
            RunError: when there is no such folder.
            ModelError: when there is no finished model, or it cannot be loaded safely.
            ConfigurationError: when there is no such device or precision.
            MissingResource: when an exported network needs ONNX Runtime, which is not installed.
        """
        chosen = choose_device(device)
        autocast = None if precision == "int8" else resolve_precision(precision, chosen)
        folder = model_folder(Path(path))
        if is_exported(folder):
            chosen, autocast = _require_exported(device, precision), None
        elif precision == "int8":
            raise ConfigurationError(
                "only an exported folder has a network in int8",
                where="precision",
                fix=f"graft export {path} NEW_FOLDER --int8, then open that",
            )
        facts = read_facts(folder)
        task = task_of(facts, folder)
        files = finished_files(folder)
        decoding = task.decoding
        tokenizer = load_tokenizer(files, positions=decoding is None)
        config: Any = load_config(files)
        if is_exported(folder):
            model = open_network(folder, precision, config)
        else:
            model = load_network(files, facts, task, tokenizer)
        limit = length_limit(tokenizer, config)
        if not 0 < facts.max_length_tokens <= limit:
            raise ModelError(
                f"graftlm.json cuts texts at {facts.max_length_tokens} tokens; this model reads 1 to {limit}",
                where=str(folder),
                fix="restore the folder as it was written",
            )
        names = [config.id2label[index] for index in range(config.num_labels)] if facts.labels else []
        if names != facts.labels:
            raise ModelError(
                f"config.json and graftlm.json name different labels: {clip(names)} and {clip(facts.labels)}",
                where=str(folder),
                fix="restore the folder as it was written",
            )
        chat = any(role.kind == "messages" for role in task.roles)
        encoder = make_encoder(
            tokenizer,
            files,
            config,
            facts.max_length_tokens,
            decoding,
            chat,
            facts.rule.get(SPEAKING, "first"),
        )
        notes: list[str] = []
        if isinstance(model, PreTrainedModel):
            if decoding is not None:
                set_decoding(model, encoder, files, decoding)
            place(model, chosen)
            if reason := make_flat(model, gradients=False):
                notes.append(f"this model works on padded batches: {reason}")
            notes += said_of_missing(chosen)
        return cls(model.eval(), encoder, task, facts, chosen, autocast, tuple(notes))

    def __repr__(self) -> str:
        parts = [self.facts.task["name"], f"reads {', '.join(role.name for role in self.roles)}"]
        if self.facts.labels:
            parts.append(f"{len(self.facts.labels):,} labels")
        return f"Predictor({', '.join(parts)}, {type(self.model).__name__} on {self.device})"

    @property
    def roles(self) -> list[Role]:
        """The columns that a row to be predicted must have."""
        return [role for role in self.trained_roles if role.kind in INPUT_KINDS]

    @property
    def trained_roles(self) -> list[Role]:
        """The columns that the model was trained on: none of them is optional any more."""
        return [replace(role, optional=False) for role in self.task.roles if role.name in self.facts.roles]

    @property
    def learnt(self) -> Learnt:
        """Labels and rule of the model."""
        return learnt_of(self.facts)

    def __call__(self, rows: Iterable[Any], batch_tokens: int = BATCH_TOKENS) -> Sequence[Any]:
        """Return one prediction per row, in order; its class is that of the task.

        Args:
            rows: texts, or lists of words for a task on words, or lists of messages for a dialogue; where a row has
                several parts, tuples in the order of the roles, or dicts. A dict, a pandas DataFrame and a
                datasets.Dataset are read by the column names of the training rows, or by the names of the roles.
            batch_tokens: most tokens of a forward pass, padding included.

        Raises:
            DataError: with the position of a row that cannot be read.
        """
        trained: Mapping[str, str] = self.facts.reading.get("columns", {})
        return self.predict(split_of_rows(rows, self.roles, trained), batch_tokens)

    def encode(self, split: Split) -> Features:
        """Return the token ids of a split."""
        return self.task.encode(split, self.encoder)

    def predict(
        self,
        split: Split,
        batch_tokens: int,
        progress: Progress | None = None,
        compared: bool = False,
    ) -> Sequence[Any]:
        """Return one prediction per row of a split, in order.

        Args:
            split: rows.
            batch_tokens: most tokens of a forward pass, padding included.
            progress: is told how many rows are tokenised and predicted; None is silence.
            compared: the predictions will be compared with what the rows hold. Rows that hold nothing of the kind are
                refused before anything is computed, and of texts that are known it is computed how probable they are.

        Raises:
            DataError: a row that is to be compared holds nothing to compare with.
        """
        progress = progress or Silent()
        progress.stage("tokenising")
        features = encoded(self.task, split, self.encoder, Watched(progress, len(split)).add)
        if compared:
            self.task.targets(split, features, self.learnt)
        else:
            features = features.without_targets()
        progress.stage("predicting")
        done = 0

        def on_batch(examples: int) -> None:
            nonlocal done
            done += examples
            progress.advance(done, len(features))  # a long row has several examples

        outputs = self.outputs(split, features, batch_tokens, on_batch)
        return self.task.decode(outputs, split, features, self.learnt)

    def outputs(
        self,
        split: Split,
        features: Features,
        batch_tokens: int,
        on_batch: Callable[[int], None] = lambda examples: None,
    ) -> Outputs:
        """Return what the model says about each example of ``features``, in order."""
        known = features.writing.targets if features.writing is not None else ()
        side = self.encoder.tokenizer.padding_side
        examples = Examples.of(features, known or None, self.encoder.padding, side)
        outputs = predict_outputs(self.model, examples, batch_tokens, self.device, self.autocast, on_batch)
        broken = [example for example, output in enumerate(outputs) if not np.isfinite(output).all()]
        if broken:
            raise ModelError(
                f"the model's outputs are not finite for {len(broken)} of {len(outputs)} texts",
                where=split.row_ids[features.rows[broken[0]]],
                fix="use another model; this one is damaged or overflows in this precision",
            )
        return outputs


def model_folder(path: Path) -> Path:
    """Return the folder of the model that ``path`` means: of a run its ``model`` folder, else the folder itself.

    Raises:
        RunError: there is no such folder.
        ModelError: the run has no model yet.
    """
    require_folder(path)
    if (path / "model").is_dir():
        return path / "model"
    if (path / "run.json").exists():
        fix = f"finish it: {RunDirectory(path).resume_command}"
        raise ModelError("this run has no model yet", where=str(path), fix=fix)
    return path


def finished_files(folder: Path) -> BaseFiles:
    """Return the files of a model that was trained, which may be an adapter or an exported network."""
    return replace(locate(str(folder)), finished=True)


def load_network(
    files: BaseFiles, facts: ArtefactFacts, task: Task, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel:
    """Return the network of a saved model, or its base model with the saved adapter and head.

    Raises:
        ModelError: weights are missing or damaged.
    """
    if not holds_adapter(files.folder):
        loaded = load_model(files, task.architectures, {}, seed=0)
        if loaded.new_parameters:
            raise ModelError(
                f"the saved model lacks the weights {loaded.new_parameters[:5]}", where=str(files.folder)
            )
        return loaded.model
    padding = tokenizer.pad_token_id if task.decoding is None else None
    options = task.model_options(learnt_of(facts))
    base = find_base(files.folder, facts.base)
    loaded = load_model(base, task.architectures, options, seed=0, pad_token_id=cast("int | None", padding))
    load_adapter(loaded.model, files.folder)
    return loaded.model


def _require_exported(device: str, precision: str) -> torch.device:
    """Return where an exported network works; refuse what only a network of torch can."""
    if device not in ("auto", "cpu") or precision not in FILES:
        raise ConfigurationError(
            f"an exported network works on the CPU, in fp32 or int8, got {clip(device)} and {clip(precision)}",
            where="device" if precision in FILES else "precision",
            fix="open the run itself for another device or precision",
        )
    return torch.device("cpu")


def learnt_of(facts: ArtefactFacts) -> Learnt:
    """Return labels and rule of a saved model."""
    return Learnt(tuple(facts.labels), facts.rule)


def task_of(facts: ArtefactFacts, folder: Path) -> Task:
    """Return the task that the model was trained for."""
    options = {key: value for key, value in facts.task.items() if key != "name"}
    try:
        member: Any = PLUG_IN_SECTIONS["task"].get(facts.task["name"])
        return member.model_validate(options)
    except (KeyError, ValidationError, ConfigurationError) as error:
        reason = error.what if isinstance(error, ConfigurationError) else type(error).__name__
        raise ModelError(f"graftlm.json names no usable task: {reason}", where=str(folder)) from None
