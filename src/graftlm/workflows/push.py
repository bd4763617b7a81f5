"""``graft push``: the proved model of a run goes to the hub, without the paths of the machine it was made on."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from graftlm.data.benchmark_reading import folder_of, is_benchmark
from graftlm.data.hub import PREFIX
from graftlm.errors import RunError
from graftlm.models.locating import is_model_file
from graftlm.models.publishing import Published, check_repository_name, publish
from graftlm.models.weight_files import ADAPTER
from graftlm.progress import Progress, Silent
from graftlm.rundir import RunDirectory, run_around
from graftlm.settings import dump_yaml

_CARD, _RECIPE = "README.md", "recipe.yaml"
# What a fine-tuned model, and a base model that was pretrained, say about themselves.
_FACTS = ("graftlm.json", "pretraining.json")


def push(
    path: Path, name: str, public: bool = False, branch: str | None = None, progress: Progress | None = None
) -> Published:
    """Upload the model folder of a finished run, its card included, as one commit.

    Args:
        path: the run directory, or its ``model`` folder.
        name: of the repository, ``org/name``; made if there is none.
        public: whether everybody may have the model.
        branch: made if there is none; None is ``main``.
        progress: who listens; None is silence.

    Raises:
        RunError: the run is not finished, or its model folder is not whole.
        ConfigurationError: the name is none, or the repository is public and ``public`` is False.
        MissingResource: no login, no right to write, no network.
    """
    bars = progress is not None and sys.stderr.isatty()
    progress = progress or Silent()
    check_repository_name(name)
    run = run_around(path) or RunDirectory(path)
    record = run.read_record()
    if record["state"] != "finished":
        raise RunError(
            f"this run is {record['state']}, so it has no proved model to push",
            where=str(path),
            fix=f"continue it: {run.resume_command}",
        )
    with run.locked():  # nobody extends it meanwhile
        if not record["proof"]["done"]:
            progress.warn("this model is NOT proved: no fresh process has reloaded it (evaluation.proof)")
        files = _files(run, progress)
        progress.stage(f"pushing {len(files)} files to {name}")
        published = publish(files, name, public, branch, bars)
    if not published.changed:
        progress.say("exactly these files lie there already; nothing was sent")
    if public and published.private:
        progress.warn(f"{name} was private before and stays so; its settings page makes it public")
    return published


def _files(run: RunDirectory, progress: Progress) -> dict[str, Path | bytes]:
    """Return what goes to the hub: files that a saved model has, local paths in them cut to the last name."""
    names = sorted(file.name for file in run.model.iterdir()) if run.model.is_dir() else []
    facts_file = next((name for name in _FACTS if name in names), _FACTS[0])
    if lacking := [name for name in (_CARD, _RECIPE, facts_file, "config.json") if name not in names]:
        raise RunError(
            f"the model folder lacks {', '.join(lacking)}",
            where=str(run.model),
            fix="restore it, or train again",
        )
    aside = [name for name in names if not is_model_file(name) or not (run.model / name).is_file()]
    if aside:
        progress.say(f"left here, because GraftLM did not write it: {', '.join(aside[:10])}")
    files: dict[str, Path | bytes] = {name: run.model / name for name in names if name not in aside}
    card, recipe = ((run.model / name).read_text(encoding="utf-8") for name in (_CARD, _RECIPE))
    facts = json.loads((run.model / facts_file).read_text(encoding="utf-8"))
    settings = yaml.safe_load(recipe)
    if paths := local_paths(settings, facts):
        files[_CARD] = shortened(card, paths).encode()
        files[_RECIPE] = dump_yaml(shortened(settings, paths), width=100).encode()
        files[facts_file] = (
            json.dumps(shortened(facts, paths), ensure_ascii=False, indent=2) + "\n"
        ).encode()
        progress.say(f"local paths are cut to their last name: {', '.join(paths.values())}")
    if ADAPTER in files and facts["base"]["revision"] is None:
        adapter = json.loads((run.model / ADAPTER).read_text(encoding="utf-8"))
        name = shortened(facts["base"]["name"], paths)
        adapter["base_model_name_or_path"] = name
        files[ADAPTER] = (json.dumps(adapter, ensure_ascii=False, indent=2) + "\n").encode()
        progress.warn(
            f"this adapter needs its base model {name}, which is not on the hub: others cannot load it "
            "(strategy.merge=true makes a whole model)"
        )
    return files


def local_paths(settings: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, str]:
    """Return each path of this machine that the recipe names, as written -> its last name."""
    data = settings.get("data") or settings["corpus"]
    written: list[str] = [_local(data[key]) for key in ("path", "validation", "test") if data.get(key)]
    base = facts["base"]
    if base["revision"] is None and not base["name"].startswith("bundled:"):
        written += [base["name"], settings["base"]]
    paths = {path.rstrip("/"): Path(path).name for path in written if "/" in path.rstrip("/")}
    # The longest first, so that no path is cut in the middle of another.
    return dict(sorted(paths.items(), key=lambda item: -len(item[0])))


def _local(address: str) -> str:
    """Return the path that an address of data holds; an empty one for what lies on the hub."""
    if is_benchmark(address):
        return folder_of(address) or ""
    return "" if address.startswith(PREFIX) else address


def shortened(value: Any, paths: Mapping[str, str]) -> Any:
    """Return a text, or plain values with texts in them, with every path replaced by its last name."""
    if isinstance(value, str):
        for path, name in paths.items():
            value = value.replace(path, name)
        return value
    if isinstance(value, dict):
        return {key: shortened(inner, paths) for key, inner in value.items()}
    return [shortened(inner, paths) for inner in value] if isinstance(value, list) else value
