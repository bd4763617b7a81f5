"""Predictions, loss and metrics of a whole data set, for `graftlm.Trainer`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from accelerate.utils import send_to_device
from torch import nn
from torch.utils.data import DataLoader
from transformers.trainer_pt_utils import EvalLoopContainer, LengthGroupedSampler
from transformers.trainer_utils import EvalLoopOutput, EvalPrediction, denumpify_detensorize

from graftlm.bridges.collated import count_rows
from graftlm.data.features import IGNORED
from graftlm.errors import Diverged
from graftlm.training.memory import memory_for

if TYPE_CHECKING:
    from graftlm.bridges.transformers import Trainer

SMALLER_BATCHES = "take a smaller per_device_eval_batch_size"


class Gathered:
    """What the batches of a data set give, joined.

    Args:
        trainer: that predicts.
        loss_only: whether the loss is all that is wanted.
        ignore_keys: outputs of the model that no prediction is made of.
    """

    def __init__(self, trainer: Trainer, loss_only: bool, ignore_keys: list[str] | None) -> None:
        self.trainer, self.loss_only, self.ignore_keys = trainer, loss_only, ignore_keys
        self.wanted: Any = trainer.args.include_for_metrics
        self.parts: dict[str, Any] = {
            name: EvalLoopContainer(trainer.args.eval_do_concat_batches, padding_index=IGNORED)
            for name in ("losses", "predictions", "label_ids", "inputs")
        }
        self.total, self.items, self.rows = 0.0, 0, 0

    def add(self, batch: Any, description: str) -> None:
        """Predict one collated batch."""
        trainer: Any = self.trainer
        size, items = count_rows(batch), trainer.count_items(batch)
        inputs: Any = send_to_device(batch, trainer.args.device)
        with memory_for(f"{description}, batch of {size} rows", SMALLER_BATCHES):
            loss, logits, labels = trainer.prediction_step(
                trainer.model, inputs, self.loss_only, self.ignore_keys
            )
        self.rows += size
        if loss is not None and items:
            self.total, self.items = self.total + float(loss) * items, self.items + items
            self.parts["losses"].add(loss.detach().cpu().repeat(size))
        if "inputs" in self.wanted:
            self.parts["inputs"].add(inputs[getattr(trainer.model, "main_input_name", "input_ids")])
        if logits is not None:
            if trainer.preprocess_logits_for_metrics is not None:
                logits = trainer.preprocess_logits_for_metrics(logits, labels)
            self.parts["predictions"].add(logits)
        if labels is not None:
            self.parts["label_ids"].add(labels)
        for part in self.parts.values():
            part.to_cpu_and_numpy()

    def outcome(self, prefix: str, description: str) -> EvalLoopOutput:
        """Return everything, with the loss, the mean over all items, and what the user's metrics say.

        Raises:
            Diverged: the loss is not finite.
        """
        found: dict[str, Any] = {name: part.get_arrays() for name, part in self.parts.items()}
        metrics: Any = {}
        measure: Any = self.trainer.compute_metrics
        if measure is not None and found["predictions"] is not None and found["label_ids"] is not None:
            more = {
                name: found[name]
                for name, asked in (("losses", "loss"), ("inputs", "inputs"))
                if asked in self.wanted
            }
            metrics = denumpify_detensorize(
                measure(EvalPrediction(found["predictions"], found["label_ids"], **more))
            )
        if self.items:
            loss = self.total / self.items
            if not math.isfinite(loss):
                raise Diverged(f"{description}: the loss is {loss}", fix="lower learning_rate")
            metrics = {**metrics, f"{prefix}_loss": loss}
        named = {
            name if name.startswith(f"{prefix}_") else f"{prefix}_{name}": value
            for name, value in metrics.items()
        }
        predictions: Any = found["predictions"]
        return EvalLoopOutput(predictions, found["label_ids"], named, self.rows)


def predict_all(
    trainer: Trainer,
    loader: DataLoader[Any],
    description: str,
    loss_only: bool | None,
    ignore_keys: list[str] | None,
    prefix: str,
) -> EvalLoopOutput:
    """Predict what a loader gives, in the order of its data set; see `graftlm.Trainer.evaluation_loop`."""
    arguments, loader = trainer.args, _in_order(loader)
    handler: Any = trainer.callback_handler
    handler.eval_dataloader = loader
    model: Any = trainer.model
    assert isinstance(model, nn.Module)
    model.eval()
    gathered = Gathered(
        trainer, arguments.prediction_loss_only if loss_only is None else loss_only, ignore_keys
    )
    with trainer.forward_pass().installed():
        for batch in loader:
            gathered.add(batch, description)
            trainer.control = handler.on_prediction_step(arguments, trainer.state, trainer.control)
    return gathered.outcome(prefix, description)


def _in_order(loader: DataLoader[Any]) -> DataLoader[Any]:
    """Return a loader whose rows come in the order of the data set, instead of one that sorts them by length."""
    batches: Any = getattr(loader, "batch_sampler", None)
    if not isinstance(getattr(batches, "sampler", None), LengthGroupedSampler):
        return loader
    return DataLoader(
        loader.dataset,
        batch_size=batches.batch_size,
        collate_fn=loader.collate_fn,
        num_workers=loader.num_workers,
    )
