"""A run that has happened, read back from its directory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graftlm.errors import RunError, nearest
from graftlm.recipe import Recipe, load_recipe
from graftlm.rundir import RunDirectory
from graftlm.scoring.scores import Scores

if TYPE_CHECKING:
    from graftlm.predictor import Predictor


@dataclass(frozen=True)
class Run:
    """A finished (or unfinished) run. Open one with `Run.open`."""

    directory: RunDirectory

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open a run directory; a folder that is none is a `RunError`."""
        run = RunDirectory(Path(path))
        run.read_record()
        return cls(run)

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.directory.path

    @property
    def record(self) -> dict[str, Any]:
        """State, versions, hardware, decisions, fingerprints and timings."""
        return self.directory.read_record()

    @property
    def recipe(self) -> Recipe:
        """The complete recipe of the run."""
        return load_recipe(self.directory.recipe)

    @property
    def headline_split(self) -> str | None:
        """The split of the headline: test, else validation; None where nothing was held out."""
        return self.record.get("headline")

    def evaluation(self, split: str) -> dict[str, Any]:
        """Return the stored evaluation of a split: scores, baseline, whether the split selected anything."""
        file = self.directory.evaluation(split)
        if not file.is_file():
            scored = sorted(other.stem for other in file.parent.glob("*.json"))
            raise RunError(
                f"no scores of {split!r} are stored; stored are those of {', '.join(scored) or 'nothing'}."
                f"{nearest(split, scored)}",
                where=str(self.path),
                fix="score other rows with graftlm.evaluate(run.path, rows)"
                if self.record["state"] == "finished"
                else f"finish the run: {self.directory.resume_command}",
            )
        return json.loads(file.read_text(encoding="utf-8"))

    def scores(self, split: str) -> Scores:
        """Return the scores of a split, with intervals."""
        return Scores.load(self.evaluation(split)["scores"])

    @property
    def metrics(self) -> dict[str, float]:
        """Metric name -> value on the headline split (see ``scores`` for the intervals)."""
        split = self.headline_split
        return (
            {} if split is None else {name: score.value for name, score in self.scores(split).values.items()}
        )

    def predictor(self, device: str = "auto") -> Predictor:
        """Return the trained model as a function of texts."""
        from graftlm.predictor import Predictor  # which loads torch; what a run has written is read without

        return Predictor.open(self.path, device)

    def report(self) -> str:
        """Return the report, as Markdown."""
        if not self.directory.report.is_file():
            raise RunError(
                f"this run is {self.record['state']}, so it has no report",
                where=str(self.path),
                fix=f"finish it: {self.directory.resume_command}",
            )
        return self.directory.report.read_text(encoding="utf-8")
