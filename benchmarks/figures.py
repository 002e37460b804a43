"""One measured thing, and how it is printed."""

from __future__ import annotations

import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured thing.

    Attributes:
        name: What was measured.

        unit: `s` or `MB`.

        ours: One value per repetition.

        theirs: The same by hand; empty where there is nothing to compare with.

        mwaa: What AWS's documentation says of Amazon MWAA, where it says something.
    """

    name: str
    unit: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...] = ()
    mwaa: str = ""

    @property
    def ratio(self) -> float | None:
        return statistics.median(self.theirs) / statistics.median(self.ours) if self.theirs else None

    def row(self) -> str:
        """Return the Markdown row."""
        ratio = f"{self.ratio:.2f}x" if self.ratio else ""
        ours, theirs = _spread(self.ours, self.unit), _spread(self.theirs, self.unit)
        return f"| {self.name} | {ours} | {theirs} | {ratio} | {self.mwaa} |"


def _spread(values: tuple[float, ...], unit: str) -> str:
    if not values:
        return ""
    digits = 1 if unit == "s" else 0
    median = f"{statistics.median(values):.{digits}f} {unit}"
    return median if len(values) == 1 else f"{median} ({min(values):.{digits}f} to {max(values):.{digits}f})"
