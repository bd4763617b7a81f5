"""A finished run as a function: text -> prediction."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from transformers import PreTrainedModel

from graftlm.data.dataset import Split
from graftlm.errors import ConfigurationError, DataError, ModelError, clip
from graftlm.models.artefact import ArtefactFacts, read_facts
from graftlm.models.base_model import length_limit, load_model, load_tokenizer
from graftlm.models.encoder import TextEncoder
from graftlm.models.locating import locate
from graftlm.recipe import PLUG_IN_SECTIONS
from graftlm.tasks._task import Task
from graftlm.training.batching import Examples
from graftlm.training.devices import choose_device, resolve_precision
from graftlm.training.evaluation import predict_logits
from graftlm.training.memory import place

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Predictor:
    """A trained model with everything around it. Open one with `Predictor.open`.

    Calling it with texts gives one prediction per text, in order; a text gives the same prediction alone as among
    others (to float rounding).
    """

    model: PreTrainedModel
    encoder: TextEncoder
    task: Task
    facts: ArtefactFacts
    device: torch.device
    autocast: torch.dtype | None = None

    @classmethod
    def open(cls, path: str | Path, device: str = "auto", precision: str = "fp32") -> Predictor:
        """Load a run directory or its ``model`` folder.

        Raises:
            ModelError: when there is no finished model, or it cannot be loaded safely.
        """
        folder = Path(path)
        if (folder / "model").is_dir():
            folder = folder / "model"
        elif (folder / "run.json").exists():
            raise ModelError(
                "this run has no model yet",
                where=str(folder),
                fix=f"finish it: graft finetune --resume {folder}",
            )
        if not folder.is_dir():
            raise ModelError(
                f"there is no run or model folder {str(path)!r}",
                fix="the run comes first, then the texts: graft predict runs/NAME texts.csv",
            )
        facts = read_facts(folder)
        task = _task(facts, folder)
        files = locate(str(folder))
        tokenizer = load_tokenizer(files)
        loaded = load_model(files, task.architecture, {}, seed=0)
        if loaded.new_parameters:
            raise ModelError(
                f"the saved model lacks the weights {loaded.new_parameters[:5]}", where=str(folder)
            )
        config: Any = loaded.model.config
        limit = length_limit(tokenizer, config)
        if not 0 < facts.max_length_tokens <= limit:
            raise ModelError(
                f"graftlm.json cuts texts at {facts.max_length_tokens} tokens; this model reads 1 to {limit}",
                where=str(folder),
                fix="restore the folder as it was written",
            )
        names = [config.id2label[index] for index in range(config.num_labels)]
        if names != facts.labels:
            raise ModelError(
                f"config.json and graftlm.json name different labels: {clip(names)} and {clip(facts.labels)}",
                where=str(folder),
                fix="restore the folder as it was written",
            )
        chosen = choose_device(device)
        place(loaded.model, chosen)
        return cls(
            loaded.model.eval(),
            TextEncoder(tokenizer, facts.max_length_tokens),
            task,
            facts,
            chosen,
            resolve_precision(precision, chosen),
        )

    def __call__(self, texts: Sequence[str], batch_size: int = 32) -> Sequence[Any]:
        """Return one prediction per text, in order; for classification a `LabelPrediction` each."""
        if isinstance(texts, str):
            raise DataError("a list of texts is wanted, got one text", fix="write predictor([text])")
        for row, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
                raise DataError(
                    f"a non-empty text is wanted, got {clip(text)}", where=f"text {row} (0-based)"
                )
            if _LONE_SURROGATE.search(text):
                raise DataError(
                    "half of a surrogate pair, which is no character", where=f"text {row} (0-based)"
                )
        columns: dict[str, list[object]] = {self.task.roles[0].name: list(texts)}
        split = Split("prediction", columns, [f"text {row}" for row in range(len(texts))])
        return self.task.decode(self.logits(split, batch_size), self.facts.labels)

    def logits(
        self, split: Split, batch_size: int, on_batch: Callable[[int], None] = lambda examples: None
    ) -> NDArray[np.float32]:
        """Return the logits [rows, labels] of a split, in row order."""
        features = self.task.encode(split, self.encoder)
        if not len(features):
            return np.zeros((0, len(self.facts.labels)), dtype=np.float32)
        examples = Examples(
            features.inputs,
            np.zeros(len(features), dtype=np.int64),
            self.encoder.padding,
            self.encoder.tokenizer.padding_side,
        )
        logits = predict_logits(self.model, examples, batch_size, self.device, self.autocast, on_batch)
        broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if len(broken):
            raise ModelError(
                f"the model's outputs are not finite for {len(broken)} of {len(logits)} texts",
                where=split.row_ids[broken[0]],
                fix="use another model; this one is damaged or overflows in this precision",
            )
        return logits


def _task(facts: ArtefactFacts, folder: Path) -> Task:
    """Return the task that the model was trained for."""
    options = {key: value for key, value in facts.task.items() if key != "name"}
    try:
        member: Any = PLUG_IN_SECTIONS["task"].get(facts.task["name"])
        return member.model_validate(options)
    except (KeyError, ValidationError, ConfigurationError) as error:
        reason = error.what if isinstance(error, ConfigurationError) else type(error).__name__
        raise ModelError(f"graftlm.json names no usable task: {reason}", where=str(folder)) from None
