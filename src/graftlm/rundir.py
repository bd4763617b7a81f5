"""Every path of a run, made atomically, locked against a second process, never overwritten."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from graftlm.errors import MissingResource, RunError, nearest

FORMAT_VERSION = 1


@dataclass(frozen=True)
class RunDirectory:
    """The one place that knows where things of a run lie."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The complete recipe, every default written out."""
        return self.path / "recipe.yaml"

    @property
    def record(self) -> Path:
        """State, versions, hardware, fingerprints, decisions and timings, as JSON."""
        return self.path / "run.json"

    @property
    def steps(self) -> Path:
        """One JSON line per optimiser step."""
        return self.path / "steps.jsonl"

    @property
    def checkpoints(self) -> Path:
        """One folder per checkpoint."""
        return self.path / "checkpoints"

    @property
    def corpus(self) -> Path:
        """The tokens of a pretraining's text."""
        return self.path / "corpus"

    @property
    def general_text(self) -> Path:
        """The tokens of the other text on which a pretraining is judged."""
        return self.path / "general_text"

    @property
    def tokenizer(self) -> Path:
        """The tokenizer that a pretraining made."""
        return self.path / "tokenizer"

    @property
    def model(self) -> Path:
        """The artefact: loads with plain transformers."""
        return self.path / "model"

    @property
    def generator(self) -> Path:
        """What was trained beside an ELECTRA to replace tokens: a masked language model."""
        return self.path / "generator"

    @property
    def report(self) -> Path:
        """What a reader should conclude."""
        return self.path / "report.md"

    @property
    def training_texts(self) -> Path:
        """Hashes of the training texts; not in ``model/``, which is handed on: those of short texts can be guessed."""
        return self.path / "training_texts.bin"

    def evaluation(self, split: str) -> Path:
        """Scores of one split, as JSON."""
        return self.path / "evaluations" / f"{split}.json"

    def predictions(self, split: str) -> Path:
        """One JSON line per row of a split: row id, reference, prediction, probabilities; no text."""
        return self.path / "predictions" / f"{split}.jsonl"

    def read_record(self) -> dict[str, Any]:
        """Return run.json; a missing or broken one is a `RunError`."""
        require_folder(self.path)
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(
                "this folder is not a run (it has no run.json)",
                where=str(self.path),
                fix="name a folder made by `graft finetune`, for instance one under runs/",
            ) from None
        except OSError as error:
            raise MissingResource(f"cannot be read: {error.strerror}", where=str(self.record)) from None
        except ValueError as error:
            raise RunError(f"run.json is damaged: {error}", where=str(self.record)) from None
        if not isinstance(record, dict):
            raise RunError("run.json is damaged: it is no JSON object", where=str(self.record))
        if record.get("format_version") != FORMAT_VERSION:
            raise RunError(
                f"this run has format version {record.get('format_version')!r}; this GraftLM reads {FORMAT_VERSION}",
                where=str(self.record),
                fix="use the GraftLM version that wrote it",
            )
        return record

    @property
    def verb(self) -> str:
        """What made the run: ``pretrain`` or ``finetune``."""
        lines = self.recipe.read_text(encoding="utf-8").splitlines() if self.recipe.is_file() else []
        return "pretrain" if "corpus:" in lines else "finetune"  # a section that no other recipe has

    @property
    def resume_command(self) -> str:
        """What continues it."""
        return f"graft {self.verb} --resume {self.path}"

    def require_made_by(self, verb: str) -> None:
        """Refuse a run that another verb made.

        Raises:
            RunError: it was.
        """
        if self.verb != verb:
            raise RunError(f"graft {self.verb} made this run", where=str(self.path), fix=self.resume_command)

    def update_record(self, **entries: Any) -> None:
        """Write entries into run.json, atomically; entries set to None are removed."""
        current = self.read_record() if self.record.exists() else {}
        record = {"format_version": FORMAT_VERSION, **current, **entries}
        write_json(self.record, {key: value for key, value in record.items() if value is not None})

    @contextlib.contextmanager
    def locked(self) -> Generator[None]:
        """Hold the run's lock; a second process is refused. A lock of a dead process does not count."""
        lock = FileLock(self.path / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RunError(
                "another process is working on this run",
                where=str(self.path),
                fix="wait for it, or stop it, then resume",
            ) from None
        except OSError as error:
            raise MissingResource(
                f"cannot lock this run: {error.strerror}",
                where=str(self.path),
                fix="free disk space or check permissions",
            ) from None
        try:
            yield
        finally:
            lock.release()


def create_run(parent: Path, name: str, exact: Path | None = None) -> RunDirectory:
    """Create a new, empty run directory.

    Args:
        parent: where runs go when ``exact`` is None; the folder is ``<name>-<date>-<time>[-n]``.
        name: a hint such as the stem of the data file.
        exact: the very folder to create; it must not exist or be empty.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S")
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "run"
    try:
        if exact is not None:
            exact.parent.mkdir(parents=True, exist_ok=True)
            if exact.is_dir() and not any(exact.iterdir()):
                return RunDirectory(exact)
            exact.mkdir()
            return RunDirectory(exact)
        parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(1000):
            path = parent / (f"{stem}-{stamp}" + (f"-{attempt}" if attempt else ""))
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                return RunDirectory(path)
    except FileExistsError as error:
        if exact is None or Path(error.filename) != exact:
            raise MissingResource(
                "the run directory cannot be created: this is a file, not a folder", where=str(error.filename)
            ) from None
        raise RunError(
            "this folder exists already; a run never overwrites anything",
            where=str(exact),
            fix="choose another --run-dir, or continue this run with --resume",
        ) from None
    except OSError as error:
        raise MissingResource(
            f"the run directory cannot be created: {error.strerror}", where=str(exact or parent)
        ) from None
    raise RunError("no free name for the run directory", where=str(parent))


def require_folder(path: Path) -> None:
    """Refuse a path that is no folder, with the nearest name beside it; quick, so before anything heavy is loaded."""
    try:
        if path.is_dir():
            return
        around = path.parent.iterdir() if path.parent.is_dir() else ()
        beside = [entry.name for entry in around if entry.is_dir()]
    except OSError as error:
        raise MissingResource(f"cannot be read: {error.strerror}", where=str(path)) from None
    raise RunError(
        f"there is no run or model folder {str(path)!r}.{nearest(path.name, beside)}",
        fix="name a folder that `graft finetune` or `graft pretrain` made, for instance runs/NAME; a file of rows "
        "comes after it",
    )


def run_around(path: Path) -> RunDirectory | None:
    """Return the run that ``path`` means: the directory itself, or the one around its ``model`` folder."""
    place = path.resolve()
    candidates = (RunDirectory(place), RunDirectory(place.parent))
    return next((run for run in candidates if run.record.is_file() and place in (run.path, run.model)), None)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file or nothing: temporary file beside it, fsync, rename, fsync of the folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)  # noqa: PTH101 - mkstemp makes it 0600; a run is an ordinary folder
            os.replace(temporary, path)  # noqa: PTH105
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise MissingResource(
            f"cannot write this file: {error.strerror}",
            where=str(path),
            fix="free disk space or check permissions",
        ) from None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file atomically; NaN and infinity are refused, since JSON has neither."""
    write_bytes(path, (json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode())


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
