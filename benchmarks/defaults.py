"""Which defaults are good for small data? Every choice is made on validation rows; no test row is read.

    python benchmarks/defaults.py --data trec --seeds 1 --set training.learning_rate=2e-4

trains one setting per call (a run that is on file is skipped); ``--table`` shows what is on file. Rows:

- messages: the sample that ships with the project without the rows of the demo's own test split;
- trec, sst2: the first training rows only, half of them held out, so that the training set is small and the figure
  precise;
- conll2003, ewt: the first training sentences, scored on the first of the development split; metric of the task.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from arguments import common_arguments
from data_sets import load, shared_data
from records import Records, machine, pack, run_key, show, stopwatch, unpack

from graftlm.data.assembling import assemble
from graftlm.data.loading import read_tables
from graftlm.opening import open_rows
from graftlm.preparation import (
    build_model,
    build_objective,
    build_strategy,
    evaluation_steps,
    make_plan,
    prepare,
)
from graftlm.progress import Silent
from graftlm.recipe import BATCH_TOKENS, Recipe
from graftlm.training.devices import open_accelerator
from graftlm.training.evaluation import predict_outputs
from graftlm.training.loop import fit
from graftlm.workflows.demo import demo_recipe

RESULTS = Path(__file__).parent / "results" / "defaults.jsonl"
# Rows that are looked at, share of them held out for validation, passes.
PROTOCOLS: dict[str, tuple[int | None, float, float]] = {
    "messages": (None, 0.2, 10),
    "trec": (2_400, 0.5, 8),
    "sst2": (4_000, 0.5, 3),
    "conll2003": (4_500, 1 / 3, 3),
    "ewt": (4_500, 1 / 3, 3),
}


def training_rows(name: str, folder: str | None) -> Any:
    """Return the rows a choice may look at, never one of a test split; in two parts where the set has two."""
    if name != "messages":
        data = load(name, shared_data(folder))
        rows, share, _ = PROTOCOLS[name]
        if data.validation is None or rows is None:
            return data.train[:rows]
        held_out = round(rows * share)
        return {"train": data.train[: rows - held_out], "validation": data.validation[:held_out]}
    recipe = demo_recipe()
    task: Any = recipe.task
    splits = assemble(read_tables(None, recipe.data), task.roles, recipe.data, recipe.seed).splits
    return [
        {"text": str(text), "label": str(label)}
        for part in (splits["train"].columns, splits["validation"].columns)
        for text, label in zip(part["text"], part["label"], strict=True)
    ]


def measure(recipe: Recipe, rows: Any) -> dict[str, Any]:
    """Train once and return the score after each evaluation, which validation rows were right, and the seconds."""
    prepared = prepare(recipe, rows, Silent())
    task: Any = recipe.task
    train, held_out = prepared.examples["train"], prepared.examples["validation"]
    split, features = prepared.dataset.splits["validation"], prepared.features["validation"]
    plan = make_plan(recipe, len(train), None)
    model = build_model(recipe, prepared, Silent())
    optimizer = build_strategy(recipe, model)
    accelerator = open_accelerator("cpu")
    marks = evaluation_steps(recipe, len(train), plan.total_steps)
    looks: list[dict[str, Any]] = []
    training = 0.0
    with stopwatch() as seconds:
        for step in fit(model, train, build_objective(recipe, prepared), optimizer, plan, accelerator):
            training += step.seconds
            if step.number in marks:
                outputs = predict_outputs(model, held_out, BATCH_TOKENS, accelerator.device)
                predictions = task.decode(outputs, split, features, prepared.learnt)
                scores = task.score(predictions, split, prepared.learnt, resamples=100, seed=recipe.seed)
                look: dict[str, Any] = {"step": step.number, scores.primary: scores.headline.value}
                if task.answer_kind == "labels":
                    correct = np.asarray(outputs).argmax(axis=1) == held_out.targets
                    look["correct"] = pack(correct)
                looks.append(look)
    metric: str = task.primary_metric
    return {
        "train_rows": len(train),
        "validation_rows": len(held_out),
        "steps": plan.total_steps,
        "metric": metric,
        metric: looks[-1][metric],
        "best": max(look[metric] for look in looks),
        "seconds": {**seconds, "training": round(training, 1)},
        "looks": looks,
    }


def main() -> None:
    parser = common_arguments(__doc__, PROTOCOLS, [1], RESULTS)
    parser.add_argument("--set", dest="settings", nargs="*", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    records = Records(arguments.output)
    if arguments.table:
        show("defaults", table(records), into_page=arguments.output == RESULTS)
        return
    torch.set_num_threads(1)
    settings = {
        key: yaml.safe_load(value) for key, _, value in (word.partition("=") for word in arguments.settings)
    }
    settings = {key: float(value) if key.endswith("rate") else value for key, value in settings.items()}
    for seed in arguments.seeds:
        for name in arguments.data:
            _, share, epochs = PROTOCOLS[name]
            complete = {"training.epochs": epochs, "task.max_length_tokens": 128, **settings}
            key = run_key(data=name, seed=seed, **complete)
            if key in records.by_key:
                continue
            split = {"seed": seed, "data.test_share": 0.0, "data.validation_share": share}
            rows = training_rows(name, arguments.shared_data)
            recipe, tables = open_rows(None, {**complete, **split}, rows)
            result = measure(recipe, tables)
            records.add(
                {"key": key, "data": name, "seed": seed, "settings": complete, **result, "machine": machine()}
            )
            print(
                f"{name} seed {seed} {settings}: {result[result['metric']]:.4f} (best {result['best']:.4f})",
                flush=True,
            )


def table(records: Records) -> str:
    """Return one Markdown row per data set and setting, means over the seeds.

    The last two scores answer whether to keep the best or the last weights: for the second, as many validation rows
    as the defaults carve choose the evaluation to keep, and the others score it.
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in records.by_key.values():
        settings = {key.split(".")[-1]: value for key, value in record["settings"].items()}
        del settings["max_length_tokens"]
        groups.setdefault((record["data"], json.dumps(settings, sort_keys=True)), []).append(record)
    lines = [
        "| data | settings | seeds | rows: train, validation | steps | metric, x 100 | last step "
        "| kept best by other rows | training, processor s |",
        "|---|---|---|---|---:|---|---:|---:|---:|",
    ]
    for (data, settings), runs in sorted(groups.items()):
        metric = runs[0].get("metric", "accuracy")
        flagged = "correct" in runs[0]["looks"][0]
        cells = [
            data,
            ", ".join(f"{key} {value}" for key, value in json.loads(settings).items()),
            ", ".join(str(run["seed"]) for run in runs),
            f"{runs[0]['train_rows']:,}, {runs[0]['validation_rows']:,}",
            str(runs[0]["steps"]),
            metric,
            f"{100 * np.mean([run[metric] for run in runs]):.2f}",
            f"{100 * np.mean([best_by_other_rows(run) for run in runs]):.2f}" if flagged else "",
            f"{np.mean([run['seconds']['processor'] for run in runs]):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def best_by_other_rows(run: dict[str, Any], draws: int = 1_000) -> float:
    """Return the mean accuracy of the weights that some of the rows would keep, on the rest of them."""
    rows = run["validation_rows"]
    correct = np.array([unpack(look["correct"], rows) for look in run["looks"]])  # [evaluations, rows]
    random = np.random.default_rng(0)
    scores: list[float] = []
    for _ in range(draws):
        chooses = (
            random.permutation(rows) < run["train_rows"] // 9
        )  # a tenth of all rows, as validation_share says
        kept = int(
            correct[:, chooses].sum(axis=1).argmax()
        )  # the first of equals, as training.keep=best does
        scores.append(float(correct[kept, ~chooses].mean()))
    return float(np.mean(scores))


if __name__ == "__main__":
    main()
