"""The verbs as Python functions: data and a few keywords in, results out."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

from graftlm.data.loading import read_tables
from graftlm.data.table import Tables
from graftlm.errors import ConfigurationError
from graftlm.models.publishing import Published
from graftlm.opening import open_rows
from graftlm.pretraining_recipe import PretrainingRecipe, load_pretraining, look_first
from graftlm.progress import Silent
from graftlm.recipe import BATCH_TOKENS, Recipe, load_part
from graftlm.reports.display import Display
from graftlm.run import Run
from graftlm.rundir import RunDirectory
from graftlm.scoring.scores import Scores
from graftlm.workflows.check import CheckResult
from graftlm.workflows.check import check as check_rows
from graftlm.workflows.evaluate import evaluate as evaluate_rows
from graftlm.workflows.export import export as write_network
from graftlm.workflows.finetune import finetune as train
from graftlm.workflows.finetune import resume as continue_run
from graftlm.workflows.import_checkpoint import import_checkpoint as convert
from graftlm.workflows.minimal_pairs import score_minimal_pairs
from graftlm.workflows.pretrain import pretrain as train_base
from graftlm.workflows.pretrain import resume as continue_pretraining
from graftlm.workflows.push import push as upload
from graftlm.workflows.unseen_rows import SCORING_KEYS


def finetune(
    data: Any = None,
    *,
    recipe: Recipe | str | Path | None = None,
    run_directory: str | Path | None = None,
    resume: str | Path | None = None,
    extend_epochs: float | None = None,
    quiet: bool = False,
    **options: Any,
) -> Run:
    """Fine-tune a model on labelled rows and return the finished, proved run.

    Args:
        data: a path, a pandas DataFrame, a datasets.Dataset or DatasetDict, a list of dicts, or a dict of split
            name to one of these. None takes ``data.path`` of the recipe.
        recipe: a `Recipe` or the path of a YAML file to start from; None starts from the defaults.
        run_directory: a folder to create; None makes one under ``runs/``.
        resume: continue this run instead of starting a new one.
        extend_epochs: with ``resume``, train a finished run on to this many epochs.
        quiet: show nothing.
        options: recipe keys, dotted names by unpacking: ``base="bundled:minilm-l6", **{"training.epochs": 3}``.

    Raises:
        GraftError: with what happened, where, and what to do.

    Example:
        ``run = graftlm.finetune("reviews.csv"); run.metrics; run.predictor()(["fine"])``
    """
    in_memory = None if data is None or isinstance(data, str | Path) else data
    with contextlib.ExitStack() as stack:
        progress = Silent() if quiet or not _watched() else stack.enter_context(Display())
        if resume is not None:
            if recipe is not None or options:
                raise ConfigurationError("a resumed run keeps its recipe", fix="leave recipe and options out")
            if run_directory is not None:
                raise ConfigurationError("a resumed run keeps its directory", fix="leave run_directory out")
            return continue_run(Path(resume), in_memory, extend_epochs, progress)
        if extend_epochs is not None:
            raise ConfigurationError(
                "extend_epochs goes with resume", fix='for a new run give **{"training.epochs": N}'
            )
        complete, rows = _recipe_and_rows(recipe, data, options)
        return train(complete, rows, Path(run_directory) if run_directory else None, progress)


def pretrain(
    corpus: str | Path | None = None,
    *,
    recipe: PretrainingRecipe | str | Path | None = None,
    run_directory: str | Path | None = None,
    resume: str | Path | None = None,
    extend_epochs: float | None = None,
    quiet: bool = False,
    **options: Any,
) -> RunDirectory:
    """Pretrain a base model on raw text and return the run directory; its ``model`` folder is the base model.

    Args:
        corpus: a text file, a folder of them, or ``hub:org/name``. None takes ``corpus.path`` of the recipe.
        recipe: a `PretrainingRecipe` or the path of a YAML file to start from; None starts from the defaults.
        run_directory: a folder to create; None makes one under ``runs/``.
        resume: continue this run instead of starting a new one.
        extend_epochs: with ``resume``, train a finished run on to this many passes.
        quiet: show nothing.
        options: recipe keys, dotted names by unpacking: ``base="bert-mini", **{"training.epochs": 10}``.

    Raises:
        GraftError: with what happened, where, and what to do.

    Example:
        ``run = graftlm.pretrain("texts/"); graftlm.finetune("reviews.csv", base=str(run.model))``
    """
    with contextlib.ExitStack() as stack:
        progress = Silent() if quiet or not _watched() else stack.enter_context(Display())
        if resume is not None:
            if recipe is not None or options or corpus is not None or run_directory is not None:
                raise ConfigurationError(
                    "a resumed run keeps its recipe and its directory", fix="leave everything else out"
                )
            return continue_pretraining(Path(resume), extend_epochs, progress)
        if extend_epochs is not None:
            raise ConfigurationError(
                "extend_epochs goes with resume", fix='for a new run give **{"training.epochs": N}'
            )
        changes = options if corpus is None else {**options, "corpus.path": str(corpus)}
        complete = (
            recipe.changed(changes)
            if isinstance(recipe, PretrainingRecipe)
            else load_pretraining(recipe, changes)
        )
        look_first(complete)
        return train_base(complete, Path(run_directory) if run_directory else None, progress)


def evaluate(
    path: str | Path,
    data: Any,
    *,
    split: str | None = None,
    batch_tokens: int = BATCH_TOKENS,
    device: str = "auto",
    precision: str = "fp32",
    **options: Any,
) -> Scores:
    """Score a run or model folder on labelled rows it has not seen; ``rows_in_training`` counts those it has.

    Args:
        path: a run directory or a model folder.
        data: as in `finetune`. Where a column names the split of each row, those of test are scored
            (``split_column=None`` scores all).
        split: train, validation or test, where the data has splits; None: test.
        batch_tokens: most tokens of a forward pass, padding included.
        device: auto, cpu, cuda or mps.
        precision: see `Predictor.open`; int8 is for folders from `export`.
        options: entries of the data section that say how rows are read, such as ``columns={"text": "review"}``.
    """
    in_memory = None if isinstance(data, str | Path) else data
    section = {f"data.{key}": value for key, value in options.items()}
    recipe = load_part("evaluate", SCORING_KEYS, section, str(data) if in_memory is None else "")
    return evaluate_rows(
        Path(path), in_memory, recipe.data, device, batch_tokens, split=split, precision=precision
    )


def check(data: Any, **options: Any) -> CheckResult:
    """Examine rows without training; ``result.findings`` lists what should be known about them."""
    return check_rows(*_recipe_and_rows(None, data, options))


def import_checkpoint(
    source: str | Path, folder: str | Path, *, lowercase: bool | None = None, quiet: bool = False
) -> Path:
    """Make a base model folder from an original BERT checkpoint of TensorFlow, or from pickled weights of PyTorch.

    Args:
        source: of TensorFlow the folder with bert_config.json, vocab.txt and bert_model.ckpt.*, or the prefix of a
            checkpoint in it; of PyTorch a folder with config.json, a tokenizer and pytorch_model.bin, or that file.
        folder: the folder to make, which is returned.
        lowercase: whether a BERT checkpoint is for lower-cased texts; None finds out and says so.
        quiet: show nothing.
    """
    with contextlib.ExitStack() as stack:
        progress = Silent() if quiet or not _watched() else stack.enter_context(Display())
        return convert(Path(source), Path(folder), lowercase, progress).folder


def minimal_pairs(
    base: str | Path,
    path: str | Path,
    *,
    rows: int | None = None,
    within_word: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> Scores:
    """Return how often a base model finds the acceptable sentence of two the more probable one (BLiMP).

    Args:
        base: a folder, ``org/name@revision`` or ``bundled:<name>``, with a pretrained language modelling head.
        path: a folder of paradigms, or one file.
        rows: take the first so many pairs of each paradigm; None takes all.
        within_word: of an encoder, mask the later tokens of a word with each.
        device: auto, cpu, cuda or mps.
        quiet: show nothing.
    """
    with contextlib.ExitStack() as stack:
        progress = Silent() if quiet or not _watched() else stack.enter_context(Display())
        found = score_minimal_pairs(str(base), Path(path), rows, within_word, device, progress=progress)
    return Scores.load(found["scores"])


def export(
    run: Run | str | Path,
    folder: str | Path,
    data: Any = None,
    *,
    int8: bool = False,
    quiet: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Write the network of a finished run as ONNX and return how it compares with the trained one.

    `Predictor.open` opens the folder; its layout is the one that optimum and transformers.js read.

    Args:
        run: a finished run or its directory.
        folder: to be made.
        data: labelled rows to compare on, as in `finetune`; None takes the validation rows of the run, which were
            read from a file.
        int8: write a quantised network as well.
        quiet: show nothing.
        options: entries of the data section that say how rows are read, such as ``columns={"text": "review"}``.
    """
    in_memory = None if isinstance(data, str | Path) else data
    section = {f"data.{key}": value for key, value in options.items()}
    recipe = load_part("export", SCORING_KEYS, section, str(data) if isinstance(data, str | Path) else "")
    with contextlib.ExitStack() as stack:
        progress = Silent() if quiet or not _watched() else stack.enter_context(Display())
        path = run.path if isinstance(run, Run) else Path(run)
        return write_network(path, Path(folder), in_memory, recipe.data, int8, progress)


def push(
    run: Run | str | Path,
    name: str,
    *,
    public: bool = False,
    revision: str | None = None,
    quiet: bool = False,
) -> Published:
    """Upload the model of a finished run to the Hugging Face hub, its card included, in one commit.

    Interrupted, nothing is visible; pushed again, only what is missing is sent.

    Args:
        run: a finished run or its directory.
        name: the repository, ``org/name``; made if there is none.
        public: whether everybody may have the model. One that is there and public is refused without it.
        revision: the branch, made if there is none; None is ``main``.
        quiet: show nothing.
    """
    with contextlib.ExitStack() as stack:
        progress = None if quiet or not _watched() else stack.enter_context(Display())
        return upload(run.path if isinstance(run, Run) else Path(run), name, public, revision, progress)


def _recipe_and_rows(
    recipe: Recipe | str | Path | None, data: Any, options: dict[str, Any]
) -> tuple[Recipe, Tables]:
    """Return recipe and rows; without a recipe that names it, the task is inferred from the columns."""
    is_path = isinstance(data, str | Path)
    changes = {**options, "data.path": str(data)} if is_path else options
    in_memory = None if is_path else data
    if isinstance(recipe, Recipe):
        complete = recipe.changed(changes)
        return complete, read_tables(in_memory, complete.data)
    return open_rows(Path(recipe) if recipe is not None else None, changes, in_memory)


def _watched() -> bool:
    """Whether somebody sees the progress: a terminal or a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules
