"""Adafactor as torch computes it: rates are relative to the size of the weights.

Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", 2018. T5 was pretrained with it.
"""

from __future__ import annotations

from torch.optim import Adafactor

from graftlm.training.never_late import NeverLate


class TorchAdafactor(NeverLate, Adafactor):
    """``w -= min(rate, 1 / sqrt(step)) * max(0.001, rms(w)) * u + rate * decay * w``.

    u is the gradient divided by the root of its mean square, of which those of rows and columns alone are kept, and
    scaled down where its own root mean square is above 1.
    """
