"""Which evaluation was best, and when to stop waiting for a better one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class BestSoFar:
    """The best evaluation up to now. Ties keep the earlier one.

    Args:
        greater_is_better: direction of the metric.
        patience_evaluations: stop after this many without improvement; None never stops.
        step: of the best evaluation; 0 before the first.
        value: its metric.
        without_improvement: evaluations since.
    """

    greater_is_better: bool
    patience_evaluations: int | None
    step: int = 0
    value: float | None = None
    without_improvement: int = 0

    def update(self, step: int, value: float) -> bool:
        """Take one evaluation in; return whether it is the new best."""
        better = self.value is None or (value > self.value if self.greater_is_better else value < self.value)
        if better:
            self.step, self.value, self.without_improvement = step, value, 0
        else:
            self.without_improvement += 1
        return better

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return self.patience_evaluations is not None and self.without_improvement >= self.patience_evaluations

    def dump(self) -> dict[str, Any]:
        """Return plain values for a checkpoint; ``BestSoFar(**values)`` restores them."""
        return asdict(self)
