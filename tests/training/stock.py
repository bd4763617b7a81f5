"""The stock Trainer, fed our batches in our order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import transformers
from torch import nn

from graftlm.training.batching import Examples


class _SameBatches(transformers.Trainer):
    def __init__(self, batches: list[list[int]], **options: object) -> None:
        super().__init__(**options)
        self.batches = batches

    def get_train_dataloader(self) -> object:
        return torch.utils.data.DataLoader(
            self.train_dataset, batch_sampler=self.batches, collate_fn=self.data_collator
        )


def stock_steps(
    model: nn.Module, examples: Examples, batches: list[list[int]], learning_rate: float, folder: Path
) -> tuple[list[float], list[float]]:
    """Train 50 steps with `transformers.Trainer` as `tests.training.networks.plan` says; return losses and norms."""
    device = torch.device("cpu")
    dataset = [{"row": row} for row in range(len(examples))]

    def collate(rows: list[dict[str, int]]) -> dict[str, torch.Tensor]:
        batch = examples.batch(np.array([row["row"] for row in rows]), device)
        assert batch.targets is not None
        return {**batch.inputs, "labels": batch.targets}

    arguments = transformers.TrainingArguments(
        output_dir=str(folder), max_steps=50, per_device_train_batch_size=len(batches[0]),
        learning_rate=learning_rate, weight_decay=0.01, warmup_steps=5, lr_scheduler_type="linear",
        max_grad_norm=1.0, logging_steps=1, logging_strategy="steps", save_strategy="no", report_to=[],
        use_cpu=True, disable_tqdm=True, dataloader_pin_memory=False, remove_unused_columns=False,
    )  # fmt: skip
    trainer = _SameBatches(batches, model=model, args=arguments, train_dataset=dataset, data_collator=collate)
    trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
    trainer.train()
    history = trainer.state.log_history
    return (
        [record["loss"] for record in history if "loss" in record],
        [record["grad_norm"] for record in history if "grad_norm" in record],
    )
