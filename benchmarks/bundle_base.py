"""Make the base model of a finished pretraining one that ships with the package.

    python benchmarks/bundle_base.py runs/english-encoder english-encoder --text "47 novels of 1849-1920, ..."

writes ``src/graftlm/bundled/english-encoder`` with weights in half precision, and prints what
`graftlm.models.locating.BUNDLED` must say about it. Corpus and recipe are those of the run directory. The rounded
weights are judged on the held-out text of the run: where their loss is another by more than 0.001 nats, nothing is
written.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from graftlm.models.artefact import save_folder
from graftlm.pretraining import HELD_OUT, Pretraining
from graftlm.pretraining_recipe import load_pretraining
from graftlm.progress import Silent
from graftlm.reports.figures import read_evaluation
from graftlm.rundir import RunDirectory, write_bytes
from graftlm.training.devices import open_accelerator

BUNDLED = Path(__file__).parents[1] / "src" / "graftlm" / "bundled"
WEIGHTS = "model.safetensors"
MOST_BYTES = 12_000_000
TOLERANCE = 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="directory of a finished `graft pretrain`")
    parser.add_argument("name", help="what stands behind `bundled:`")
    parser.add_argument(
        "--text", required=True, help="a sentence for the card: what was read, and what is not in it"
    )
    given = parser.parse_args()
    run = RunDirectory(given.run)
    rounded = {name: _half(tensor) for name, tensor in load_file(run.model / WEIGHTS).items()}
    before = float(read_evaluation(run, HELD_OUT)["scores"]["values"]["loss"]["value"])
    after = held_out_loss(run, rounded)
    said = f"rounded to half precision: held-out loss {after:.4f}, before {before:.4f}"
    if not abs(after - before) <= TOLERANCE:
        raise SystemExit(f"{said}; more than {TOLERANCE} apart")

    def write(folder: Path) -> None:
        shutil.copytree(run.model, folder, dirs_exist_ok=True)
        save_file(rounded, folder / WEIGHTS, metadata={"format": "pt"})
        card = (folder / "README.md").read_text(encoding="utf-8")
        recipe = "- the complete recipe is in `recipe.yaml`"
        for mark, become in {
            recipe: f"{recipe}\n- the weights are {said}",
            "base=path/to/model`": f"base=bundled:{given.name}`",
            "- Check the licence of the corpus before sharing it.": f"- {given.text}",
        }.items():
            assert mark in card
            card = card.replace(mark, become)
        write_bytes(folder / "README.md", card.encode())

    folder = BUNDLED / given.name
    save_folder(folder, write)
    weights = (folder / WEIGHTS).read_bytes()
    total = sum(path.stat().st_size for path in folder.iterdir())
    print(said)
    print(f"{total / 1e6:.1f} MB in all; sha256 of {WEIGHTS}: {hashlib.sha256(weights).hexdigest()}")
    if total > MOST_BYTES:
        raise SystemExit(f"more than {MOST_BYTES / 1e6:.0f} MB")


def _half(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.half() if tensor.is_floating_point() else tensor


def held_out_loss(run: RunDirectory, tensors: dict[str, torch.Tensor]) -> float:
    """Return what the network of a run with other weights loses on the held-out text."""
    recipe = load_pretraining(run.recipe)
    subject = Pretraining(recipe, run, open_accelerator("cpu"), None, Silent())
    model: Any = subject.model
    _, unexpected = model.load_state_dict(
        {name: each.float() for name, each in tensors.items()}, strict=False
    )
    assert not unexpected
    model.tie_weights()
    return subject.evaluate(HELD_OUT, model).loss


if __name__ == "__main__":
    main()
