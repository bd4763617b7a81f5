"""The kernel of GPUs in Triton's interpreter, which needs no GPU, in a process of its own: it is chosen at import."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

_PROGRAM = """
import sys
import torch
from graftlm.kernels import dropout, dropout_triton
from graftlm.kernels.masks import kept_factor, kept_features

torch.manual_seed(int(sys.argv[1]))
for dtype in (torch.float32, torch.bfloat16, torch.float16):
    for rows, features, probability in ((5, 33, 0.1), (1, 1, 0.9), (3, 1500, 0.5), (2, 64, 0.0001)):
        x = torch.randn(rows, features).to(dtype)
        x[0, 0] = torch.nan
        bases = torch.randint(-(2**31), 2**31, (rows,)).to(torch.int32)
        found = dropout_triton.drop(x, bases, probability)
        kept = kept_features(bases, features, probability)
        expected = (x * kept).mul_(kept_factor(probability))
        rounding = 1e-6 if dtype == torch.float32 else 0.01
        torch.testing.assert_close(found, expected, rtol=rounding, atol=0, equal_nan=True)
        assert torch.equal(found == 0, expected == 0), (dtype, rows, features)
    assert dropout_triton.proved(torch.device("cpu"), dtype)
right = dropout_triton.drop
dropout_triton.drop = lambda x, bases, probability: right(x, bases + 1, probability)
dropout_triton.proved.cache_clear()
assert not dropout_triton.proved(torch.device("cpu"), torch.float32)
print("the same bits")
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed here")
def test_the_kernel_of_gpus_drops_the_same(seed: int) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(seed)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "the same bits"
