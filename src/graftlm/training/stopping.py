"""Which evaluation was best, and when to stop waiting for a better one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class BestSoFar:
    """The best evaluation up to now. Of equal ones the later counts: its weights were trained longer.

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
        """Take one evaluation in; return whether its weights are to be kept. An equal one improves nothing."""
        gain = 0.0 if self.value is None else (value - self.value) * (1 if self.greater_is_better else -1)
        improved = self.value is None or gain > 0
        self.without_improvement = 0 if improved else self.without_improvement + 1
        if improved or gain == 0:
            self.step, self.value = step, value
        return improved or gain == 0

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return self.patience_evaluations is not None and self.without_improvement >= self.patience_evaluations

    def dump(self) -> dict[str, Any]:
        """Return plain values for a checkpoint; ``BestSoFar(**values)`` restores them."""
        return asdict(self)
