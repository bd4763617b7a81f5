"""``graft export``: the network of a run for ONNX Runtime and the browser, with proof that it still is that network."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from graftlm.checking.findings import examine_rows
from graftlm.data.dataset import Split
from graftlm.data.options import DataOptions
from graftlm.errors import ConfigurationError, DataError, MissingResource, ModelError, RunError
from graftlm.models.artefact import copy_facts, read_facts, save_folder
from graftlm.models.base_model import length_limit, load_config
from graftlm.models.exported.exporting import export_network
from graftlm.models.exported.files import FILES, FORMAT_VERSION, is_exported, require_onnx, sha256_of
from graftlm.models.exported.network import ExportedNetwork, session_of
from graftlm.models.exported.quantising import quantise
from graftlm.models.weight_files import EXPORT_REPORT
from graftlm.predictor import Predictor, finished_files, load_network, model_folder, task_of
from graftlm.progress import Progress, Silent
from graftlm.recipe import load_recipe
from graftlm.reports.export_card import parity_sentence, render_export_card
from graftlm.rundir import run_around, write_bytes, write_json
from graftlm.workflows.parity import MOST_ROWS, Answers, answers_of, parity
from graftlm.workflows.unseen_rows import read_unseen

TOLERANCE = 1e-4
"""Of outputs in single precision, relative to the largest: more is not rounding."""
LEAST_INT8_SHARE = 0.8
"""Of the weights of products and tables, by entries; below it there is a warning."""


def export(
    path: Path,
    folder: Path,
    data: object = None,
    options: DataOptions | None = None,
    int8: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the network of a finished run as ONNX, whole or not at all; return the report of the export.

    What it says about labelled rows is compared with what the trained network says: the validation rows of the run, or
    where it had none those of train, or else the rows that are given, of which the same holds where they have splits.

    Args:
        path: the run directory, or a model folder.
        folder: to be made.
        data: labelled rows in memory, or tables that were read.
        options: how rows are read; with its ``path`` or ``data`` these are compared instead of those of the run.
        int8: write a quantised network as well.
        progress: who listens.

    Raises:
        ConfigurationError: a model that writes texts.
        RunError: the folder is there, or the rows of the run are not.
        ModelError: torch cannot export this family, or the export says something else.
        MissingResource: the extra ``onnx`` is not installed.
    """
    progress = progress or Silent()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError("this folder exists already", where=str(folder), fix="choose another name")
    source = model_folder(path)
    _refuse_writing(source)
    require_onnx("onnx", "onnxscript", "onnxruntime")
    predictor = Predictor.open(source, "cpu")
    progress.stage("reading the rows to compare on")
    split = _rows(path, data, options, predictor, progress)
    progress.stage("predicting with the trained network")
    trained = answers_of(predictor, split)
    report: dict[str, Any] = {}

    def write(partial: Path) -> None:
        report.update(_write(partial, source, predictor, split, trained, int8, progress))

    save_folder(folder, write, fix="free disk space, then export again")
    return report


def _write(
    partial: Path,
    source: Path,
    predictor: Predictor,
    split: Split,
    trained: Answers,
    int8: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Fill the folder of an export and return its report."""
    files = finished_files(source)
    tokenizer: Any = predictor.encoder.tokenizer
    config: Any = load_config(files)
    model = load_network(files, predictor.facts, predictor.task, tokenizer)
    config.architectures = [type(model).__name__]
    config.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    copy_facts(source, partial)
    exact, small = (partial / FILES[precision] for precision in ("fp32", "int8"))
    exact.parent.mkdir()
    progress.stage("exporting")
    arguments = [*predictor.encoder.argument_names, "attention_mask"]
    fused = export_network(model, arguments, length_limit(tokenizer, config), exact)
    networks = {"fp32": _compared("fp32", exact, predictor, split, trained, progress)}
    networks["fp32"]["fused"] = fused
    _require_same(networks["fp32"]["parity"])
    if int8:
        progress.stage("quantising")
        share = quantise(exact, small)
        networks["int8"] = _compared("int8", small, predictor, split, trained, progress)
        networks["int8"]["int8_share"] = share
        if share < LEAST_INT8_SHARE:
            progress.warn(
                f"only {share:.0%} of the weights are in int8: this family has products of other kinds"
            )
    report = {
        "format_version": FORMAT_VERSION,
        "graftlm_version": version("graftlm"),
        "onnxruntime_version": version("onnxruntime"),
        "compared_on": {"split": split.name, "fingerprint": split.fingerprint},
        "networks": networks,
    }
    write_json(partial / EXPORT_REPORT, report)
    write_bytes(partial / "README.md", render_export_card(source, partial, report).encode())
    return report


def _compared(
    precision: str, file: Path, predictor: Predictor, split: Split, trained: Answers, progress: Progress
) -> dict[str, Any]:
    """Return what the report says about a network."""
    content = file.read_bytes()
    progress.stage(f"predicting with the network in {precision}")
    exported = replace(predictor, model=ExportedNetwork(session_of(content), predictor.model.config))
    found = parity(predictor, split, trained, answers_of(exported, split))
    tell = progress.warn if found["significant_loss"] else progress.say
    tell(f"{precision}: {parity_sentence(found)}")
    return {"file": FILES[precision], "sha256": sha256_of(content), "bytes": len(content), "parity": found}


def _require_same(found: dict[str, Any]) -> None:
    allowed = TOLERANCE * max(1.0, found["largest_output"])
    if not found["largest_difference"] <= allowed:  # so that what is not a number is refused
        raise ModelError(
            f"the exported network says something else: outputs differ by up to {found['largest_difference']:.2g}, "
            f"rounding explains {allowed:.2g}; nothing was written",
            fix="serve the run itself with graft predict, and please report the family of the base model",
        )


def _refuse_writing(source: Path) -> None:
    if is_exported(source):
        raise ModelError(
            "this folder is an export already", where=str(source), fix="name the run it was made from"
        )
    facts = read_facts(source)
    if task_of(facts, source).decoding is not None:
        raise ConfigurationError(
            f"a model of {facts.task['name']} writes token by token, which is more than one pass through a network; "
            "only those that read once are exported",
            where=str(source),
            fix="serve it with `graft predict`, or hand on its model/ folder, which plain transformers loads",
        )


def _rows(
    path: Path, data: object, options: DataOptions | None, predictor: Predictor, progress: Progress
) -> Split:
    """Return the labelled rows on which networks are compared, never those of test."""
    options = options or DataOptions()
    if data is not None or options.path:
        roles, reading = predictor.trained_roles, predictor.facts.reading
        split = read_unseen(data, roles, options, reading, progress, usual=("validation", "train"))
    else:
        split = _rows_of_run(path, predictor)
    if len(split) > MOST_ROWS:
        every = [number * len(split) // MOST_ROWS for number in range(MOST_ROWS)]
        progress.say(f"compared on {MOST_ROWS:,} of {len(split):,} rows")
        split = split.take(every)
    return split


def _rows_of_run(path: Path, predictor: Predictor) -> Split:
    run = run_around(path)
    fix = "name labelled rows: graft export RUN FOLDER --data FILE (in Python data=)"
    if run is None:
        raise RunError("a model folder alone has no rows to compare on", where=str(path), fix=fix)
    recipe = load_recipe(run.recipe)
    if not recipe.data.path:
        raise RunError("the rows of this run were given in memory", where=str(path), fix=fix)
    try:
        dataset, _ = examine_rows(recipe, None)
    except (DataError, MissingResource) as error:
        raise RunError(
            f"the rows of this run cannot be read again: {error.what}", where=error.where, fix=fix
        ) from None
    if dataset.fingerprints() != predictor.facts.data:
        raise RunError(
            f"the rows of {recipe.data.path} have changed since the training", where=str(path), fix=fix
        )
    name = next(name for name in ("validation", "train") if name in dataset.splits)
    return dataset.splits[name]
