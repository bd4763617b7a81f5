"""The proof of a run: the saved model, loaded by a fresh process, must decide as the trained one did.

The child is ``python -P -m graftlm.proof MODEL_FOLDER OUTPUT BATCH_SIZE DEVICE PRECISION`` with the rows as JSON on its
standard input, so that no text is written to disk; -P, lest a file in the user's folder is taken for a library.
Batches and precision are those of the recorded evaluation.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graftlm.data.dataset import Split
from graftlm.data.features import Outputs
from graftlm.errors import ProofFailed
from graftlm.predictor import Predictor

# What launchers of several processes set: a child that inherited it would wait for the others for ever.
_LAUNCHER = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_",
    "GROUP_",
    "ROLE_",
    "MASTER_",
    "TORCHELASTIC_",
    "ACCELERATE_",
    "FSDP_",
)

Output = NDArray[np.float32]

# Outputs that agree to this decide alike, but for ties.
MARGIN = 1e-5
# Relative to the largest output of its kind: far above rounding, far below what changes a probability
# that anybody reads.
TOLERANCE = 1e-3


def predict_afresh(
    model_folder: Path,
    split: Split,
    batch_tokens: int,
    device: str,
    precision: str,
) -> Outputs:
    """Reload the model in a fresh process, predict ``split`` again and return the outputs, for `compare`.

    Raises:
        ProofFailed: when the process fails.
    """
    with tempfile.TemporaryDirectory(prefix="graftlm-proof-") as scratch:
        output = Path(scratch) / "outputs.npz"
        command = [sys.executable, "-P", "-m", "graftlm.proof", str(model_folder), str(output)]
        child = subprocess.run(
            [*command, str(batch_tokens), device, precision],
            input=json.dumps({"columns": split.columns, "row_ids": split.row_ids}),
            capture_output=True,
            encoding="utf-8",
            env=environment(),
            check=False,
        )
        if child.returncode != 0 or not output.exists():
            said = [line for line in child.stderr.splitlines() if line.strip() and "What to do:" not in line]
            reason = said[-1] if said else f"exit code {child.returncode}"
            raise ProofFailed(
                f"the saved model cannot be loaded in a fresh process: {reason[:200]}",
                where=str(model_folder),
            )
        with np.load(output, allow_pickle=False) as arrays:
            again = [arrays[f"arr_{example}"] for example in range(len(arrays.files))]
    return again


def environment() -> dict[str, str]:
    """Return the environment for a process of its own: without what a launcher of several processes set."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_LAUNCHER)}


class Agreement(NamedTuple):
    """How well a reloaded model agrees with the trained one.

    Args:
        difference: the largest of an output.
        ties: rows that it decides otherwise because two answers were equal to rounding.
    """

    difference: float
    ties: int


def compare(
    before: Outputs,
    after: Outputs,
    decide: Callable[[Outputs], Sequence[Any]],
    row_ids: Sequence[str],
    written: bool = False,
) -> Agreement:
    """Return how well outputs agree; raise `ProofFailed` where more than rounding changed.

    Args:
        before: outputs of the trained model.
        after: outputs of the saved one.
        decide: outputs -> the decision about each row.
        row_ids: place of each row.
        written: whether the outputs are of a model that writes, one for each row. A text may then go on otherwise from
            a token that was a tie; up to it, and on the reference, the outputs must agree.
    """
    fix = "do not use this model; please report it with the run's recipe.yaml and run.json"
    if not all(np.isfinite(output).all() for output in after):
        raise ProofFailed("the reloaded model gives outputs that are not finite", fix=fix)
    pairs = [_up_to_a_tie(*pair) if written else (*pair, False) for pair in zip(before, after, strict=False)]
    same_shapes = all(one.shape == other.shape for one, other, _ in pairs)
    if len(before) != len(after) or not same_shapes:
        raise ProofFailed("the reloaded model gives outputs of other shapes", fix=fix)
    differences = _largest([one - other for one, other, _ in pairs])
    difference = float(differences.max(initial=0.0))
    turned = [other for _, _, other in pairs] if written else [False] * len(row_ids)
    decisions = zip(decide(before), decide(after), turned, row_ids, strict=True)
    changed = [row for one, two, other, row in decisions if other or one != two]
    # Between outputs that agree to this, a decision that changed was a tie.
    if changed and difference > MARGIN:
        raise ProofFailed(
            f"the reloaded model decides {len(changed)} of {len(row_ids)} rows differently (largest difference of "
            f"an output {difference:.2g}); first rows: {', '.join(changed[:5])}",
            fix=fix,
        )
    allowed = TOLERANCE * np.maximum(1.0, _largest(before))
    if (differences > allowed).any():
        worst = int((differences / allowed).argmax())
        raise ProofFailed(
            f"the reloaded model's outputs differ by up to {differences[worst]:.2g}, more than by rounding "
            f"({allowed[worst]:.1g})",
            fix=fix,
        )
    return Agreement(difference, len(changed))


def _up_to_a_tie(before: Output, after: Output) -> tuple[Output, Output, bool]:
    """Return what can be compared of two texts, and whether they differ: all of it where they do not.

    Else up to the first token that differs, as though it were the same, and the references: if it was a tie, both
    models found theirs equally probable. What follows it was written from other beginnings.
    """
    texts, references = ([each[each[:, 2] == kind] for each in (before, after)] for kind in (0, 1))
    shared = min(map(len, texts))
    others = np.flatnonzero(texts[0][:shared, 0] != texts[1][:shared, 0])
    if not len(others):
        return before, after, False
    first = int(others[0])
    heads = [text[: first + 1].copy() for text in texts]
    heads[1][first, 0] = heads[0][first, 0]
    one, other = (np.concatenate(parts) for parts in zip(heads, references, strict=True))
    return one, other, True


def _largest(outputs: Outputs) -> NDArray[np.float64]:
    """Return the largest size of an output: of each column where examples have rows, whose columns mean other things.

    Beside the number of a token, any difference of its probability would look like rounding.
    """
    columns = [
        np.abs(each).max(0, initial=0.0) if each.ndim == 2 else np.abs(each).max(initial=0.0)
        for each in outputs
    ]
    return np.atleast_1d(np.max(columns, axis=0) if columns else 0.0).astype(np.float64)


def main(arguments: list[str]) -> None:
    """Predict the rows on standard input with a saved model and write the outputs."""
    folder, output, batch_tokens, device, precision = arguments
    rows = json.loads(sys.stdin.buffer.read())
    split = Split("proof", rows["columns"], rows["row_ids"])
    predictor = Predictor.open(folder, device, precision)
    np.savez(output, *predictor.outputs(split, predictor.encode(split), int(batch_tokens)))


if __name__ == "__main__":
    main(sys.argv[1:])
