"""How many times faster is a step of ours than one of ``transformers.Trainer`` in bf16 on a GPU?

    python benchmarks/gpu_speed.py

Nothing of this has been measured yet: the project has had no GPU. The script is ready to run where there is one, and
begins no turn after ``--seconds``. Rows and mixes are those of `timed_rows.py`, the network is BERT-base with
random weights, batches have 16 rows, precision is bf16 by autocast on all sides:

- ours: flat, numbers read late, whole steps replayed as CUDA graphs, dropout 0.1 by key; *without dropout*: the same
  with 0, where attention goes through the flash kernel of torch; *without graphs*: ours with
  ``training.execution=flat``; *padded*: with ``training.execution=padded``, both with dropout 0.1;
- stock: the Trainer as it comes, with ``bf16=True`` and dropout 0.1; *without dropout*: with 0.

Before anything is timed it says which kernels have proved themselves on this GPU, and trains some steps of ours and of
the Trainer on the same batches without dropout: in float32 losses may differ by 1e-4, in bf16 by 2e-2; and 60 steps
with graphs and without, with dropout, where ten times as much is allowed as there are more of them. Sides take turns
in one process, each with some steps to warm up, in which most shapes of batches are recorded; what is timed begins and
ends with the GPU at rest.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from accelerate import Accelerator
from records import machine
from stock_trainer import without_padding
from timed_rows import BATCH, DECAY, MIXES, RATE, Mix, make_examples
from torch import nn
from training_speed import StockOnOurBatches, plan, stock_rows
from transformers import AutoTokenizer, DataCollatorWithPadding, PreTrainedModel, Trainer, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from turns import times_faster

from graftlm.kernels import attention_flash
from graftlm.models.flat.probe import make_flat
from graftlm.models.locating import locate
from graftlm.objectives.answer_span import AnswerSpan
from graftlm.objectives.cross_entropy import CrossEntropy
from graftlm.rundir import write_json
from graftlm.strategies.full import Full
from graftlm.training.batching import Examples
from graftlm.training.graphs import CudaRecorder, GraphedSteps
from graftlm.training.late import LATE_STEPS, Late
from graftlm.training.loop import fit
from graftlm.training.optimisation import build_optimizer
from graftlm.training.torch_adamw import TorchAdamW

RESULTS = Path(__file__).parent / "results" / "gpu_speed.json"
SIDES = {
    "ours": 0.1, "ours_without_dropout": 0.0, "ours_without_graphs": 0.1, "ours_padded": 0.1, "stock": 0.1,
    "stock_without_dropout": 0.0,
}  # fmt: skip
"""Dropout of each side."""
PAIRS = (
    ("ours", "stock"), ("ours_without_dropout", "stock_without_dropout"), ("ours_without_graphs", "stock"),
    ("ours", "ours_without_graphs"), ("ours_padded", "stock"),
)  # fmt: skip
NETWORKS: dict[str, dict[str, Any]] = {
    "bert-base": {},
    "tiny": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
}
"""tiny is for a look at whether the script itself works."""
EQUAL = {None: 1e-4, torch.bfloat16: 2e-2}


class Bench:
    """One network on one mix of lengths.

    Args:
        network: of `NETWORKS`.
        mix: of `MIXES`.
        device: to compute on.
        warm: steps before those that are timed.
        steps: that are timed.
    """

    def __init__(self, network: str, mix: Mix, device: torch.device, warm: int, steps: int) -> None:
        self.mix, self.device, self.warm, self.steps = mix, device, warm, steps
        head = "QuestionAnswering" if mix.answers else "SequenceClassification"
        torch.manual_seed(1)
        self.model: PreTrainedModel = getattr(transformers, f"BertFor{head}")(
            transformers.BertConfig(**NETWORKS[network])
        )
        self.examples: Examples = make_examples(mix, self.model.config.vocab_size)

    def fresh(self, dropout: float) -> PreTrainedModel:
        """Return the network as it was in the beginning, on the device."""
        model = copy.deepcopy(self.model)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
        return model.to(self.device)  # pyright: ignore[reportCallIssue, reportArgumentType]

    def ours(
        self,
        dropout: float,
        execution: str,
        precision: torch.dtype | None,
        steps: int,
        at: Callable[[int], None],
    ) -> list[float]:
        """Train; call ``at`` after the steps that were warmed up and after the last; return the losses."""
        model = self.fresh(dropout)
        optimizer = build_optimizer(model, Full().parameter_groups(model), RATE, DECAY)
        if execution != "padded" and (reason := make_flat(model)):
            raise SystemExit(f"the network does not work flat: {reason}")
        assert self.examples.targets is not None
        loss: Any = (AnswerSpan() if self.mix.answers else CrossEntropy()).bind(
            self.examples.targets, ["0", "1"]
        )
        chosen = replace(plan(steps), autocast=precision)
        late = Late(LATE_STEPS, lambda number: number in (self.warm, steps))
        if execution == "graphs" and self.device.type == "cuda":
            assert isinstance(optimizer, TorchAdamW)
            record = CudaRecorder(self.device)
            graphs = GraphedSteps(model, loss, optimizer, chosen, self.device, record, _refused)
            late = replace(late, whole=graphs)
        accelerator = Accelerator(cpu=self.device.type == "cpu")
        losses: list[float] = []
        for step in fit(model, self.examples, loss, optimizer, chosen, accelerator, late=late):
            losses.append(step.loss)
            at(step.number)
        return losses

    def stock(
        self, dropout: float, precision: torch.dtype | None, steps: int, at: Callable[[int], None], same: bool
    ) -> list[float]:
        """Train by the Trainer, with ``same`` on our batches; return the losses, which are read with ``same`` only."""
        tokenizer: Any = AutoTokenizer.from_pretrained(locate("bundled:minilm-l6").folder)
        with tempfile.TemporaryDirectory() as folder:
            trainer = (StockOnOurBatches if same else Trainer)(
                model=self.fresh(dropout),
                args=transformers.TrainingArguments(
                    output_dir=folder, max_steps=steps, per_device_train_batch_size=BATCH, learning_rate=RATE,
                    weight_decay=DECAY, lr_scheduler_type="linear", max_grad_norm=1.0, save_strategy="no",
                    report_to=[], use_cpu=self.device.type == "cpu", disable_tqdm=True, bf16=precision is not None,
                    logging_steps=1 if same else 10 * steps, dataloader_pin_memory=self.device.type != "cpu",
                ),
                train_dataset=stock_rows(self.examples, self.mix.answers),  # pyright: ignore[reportArgumentType]
                data_collator=DataCollatorWithPadding(tokenizer),
                callbacks=[_At(at)],
            )  # fmt: skip
            trainer.remove_callback(PrinterCallback)
            if same and self.mix.answers:
                without_padding(trainer.model)
            trainer.train()
        return [record["loss"] for record in trainer.state.log_history if "loss" in record]

    def check_equal(self) -> dict[str, float]:
        """Return the largest relative difference of losses on the same batches, by precision; refuse too large ones."""
        found: dict[str, float] = {}
        for precision, most in EQUAL.items():
            steps = min(6, self.warm + self.steps)
            ours = self.ours(0.0, "flat", precision, steps, lambda number: None)
            stock = self.stock(0.0, precision, steps, lambda number: None, same=True)
            found[str(precision or torch.float32)] = apart(ours, stock, most)
            with_graphs, without = (
                self.ours(0.1, execution, precision, min(60, self.warm + self.steps), lambda number: None)
                for execution in ("graphs", "flat")
            )
            found[f"{precision or torch.float32}, graphs"] = apart(with_graphs, without, 10 * most)
        return found

    def turn(self, side: str) -> float:
        """Return the seconds of a step of a side."""
        marks: list[float] = []

        def at(number: int) -> None:
            if number in (self.warm, self.warm + self.steps):
                if self.device.type == "cuda":
                    torch.cuda.synchronize()
                marks.append(time.perf_counter())

        total, dropout = self.warm + self.steps, SIDES[side]
        if side.startswith("ours"):
            execution = {"ours_padded": "padded", "ours_without_graphs": "flat"}.get(side, "graphs")
            self.ours(dropout, execution, torch.bfloat16, total, at)
        else:
            self.stock(dropout, torch.bfloat16, total, at, same=False)
        return (marks[1] - marks[0]) / self.steps


def apart(losses: list[float], others: list[float], most: float) -> float:
    """Return the largest relative difference of losses; refuse to compare what differs by more than ``most``."""
    found = max(abs(one - other) / other for one, other in zip(losses, others, strict=True))
    if not found <= most:
        raise SystemExit(f"the losses differ by {found:.2e}, nothing to compare: {losses} and {others}")
    return found


def _refused(reason: str) -> None:
    raise SystemExit(reason)


class _At(TrainerCallback):
    def __init__(self, at: Callable[[int], None]) -> None:
        self._at = at

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Tell the number of the step."""
        self._at(state.global_step)


def kernels(device: torch.device) -> dict[str, bool]:
    """Return which kernels have proved themselves on this device."""
    found = {"flash attention": device.type == "cuda" and attention_flash.proved(device)}
    try:
        from graftlm.kernels import dropout_triton

        found["dropout in Triton"] = device.type == "cuda" and dropout_triton.proved(device, torch.bfloat16)
    except ImportError:
        found["dropout in Triton"] = False
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--network", choices=list(NETWORKS), default="bert-base")
    parser.add_argument("--mixes", choices=list(MIXES), nargs="*", default=["short", "paragraphs"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--warm", type=int, default=150)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=420, help="no turn begins after so many")
    parser.add_argument("--output", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    began, device = time.perf_counter(), torch.device(chosen.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no GPU here, so there is nothing to measure")
    transformers.utils.logging.set_verbosity_error()
    gpu = torch.cuda.get_device_name() if device.type == "cuda" else "none"
    document: dict[str, Any] = {"machine": {**machine(), "gpu": gpu}, "kernels": kernels(device), "runs": []}
    print(f"{gpu}; kernels that work: {document['kernels']}", flush=True)
    benches = {
        name: Bench(chosen.network, MIXES[name], device, chosen.warm, chosen.steps) for name in chosen.mixes
    }
    for name, bench in benches.items():
        run: dict[str, Any] = {
            "network": chosen.network,
            "mix": name,
            "seconds": {side: [] for side in SIDES},
        }
        run["loss_difference"] = bench.check_equal()
        document["runs"].append(run)
        print(f"{name}: largest relative difference of losses {run['loss_difference']}", flush=True)
    for _ in range(
        chosen.turns
    ):  # all mixes in each turn, so that one that is cut short has something of each
        if time.perf_counter() - began > chosen.seconds:
            break
        for run in document["runs"]:
            for side, seconds in run["seconds"].items():
                seconds.append(benches[run["mix"]].turn(side))
        write_json(chosen.output, document)
    for run in document["runs"]:
        for side, seconds in run["seconds"].items():
            print(
                f"{run['mix']}, {side}: {1000 * float(np.median(seconds)):.2f} ms a step, {len(seconds)} turns"
            )
        for fast, slow in PAIRS:
            value, low, high = times_faster(run["seconds"][slow], run["seconds"][fast])
            print(f"{run['mix']}: {fast} is {value:.2f} [{low:.2f}, {high:.2f}] times as fast as {slow}")


if __name__ == "__main__":
    main()
