"""The variables of a TensorFlow checkpoint as safetensors, run as ``python -m`` by `read_apart`.

TensorFlow reads its own format, checksums included, and is loaded in no process of ours but this.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from graftlm.models.separate_process import close_doors

OPTIMISER = re.compile(r"global_step|beta[12]_power|.*/(adam_[mv]|Adam(_1)?)")
"""What the optimiser of BERT, and that of TensorFlow, keep beside the weights."""


def main(arguments: list[str]) -> None:
    """Read the checkpoint with the first prefix, write its weights to the second file."""
    prefix, output = arguments
    tensorflow: Any = importlib.import_module("tensorflow")  # an extra: mostly it is not there
    parts = Path(prefix).parent.glob(f"{Path(prefix).name}.data-*")
    close_doors(sum(part.stat().st_size for part in parts))
    reader = tensorflow.train.load_checkpoint(prefix)
    variables: dict[str, NDArray[np.float32]] = {}
    for name, kind in sorted(reader.get_variable_to_dtype_map().items()):
        if kind.is_floating and not OPTIMISER.fullmatch(name):
            variables[name] = np.ascontiguousarray(reader.get_tensor(name), dtype=np.float32)
    save_file(variables, output)


if __name__ == "__main__":
    main(sys.argv[1:])
