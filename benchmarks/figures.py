"""One measured thing: its values, its ratio, its row in the table."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any, Literal

Better = Literal["less", "more", "share"]
"""How both sides are compared: `less` says how many times as long by hand takes, `more` how many times as
much ours does, `share` how much ours needs of what by hand does."""


@dataclass
class Figure:
    """One measured thing. Values are added while it is measured, so what fails later loses none of them.

    Attributes:
        key: Names it to thresholds and in JSON: the group, what, and the version if there are several.

        name: For the table.

        unit: `s`, `MB` or `/s`.

        ours: One value per repetition or event.

        theirs: The same by hand; empty where there is nothing to compare with.

        mwaa: What AWS's documentation says of Amazon MWAA, where it says something.
    """

    key: str
    name: str
    unit: str
    better: Better = "less"
    mwaa: str = ""
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    @property
    def median(self) -> float | None:
        """The median of ours."""
        return statistics.median(self.ours) if self.ours else None

    @property
    def ratio(self) -> float | None:
        """The ratio of the medians, as `better` says; None without two sides."""
        if not self.ours or not self.theirs:
            return None
        ours, theirs = statistics.median(self.ours), statistics.median(self.theirs)
        above, below = (theirs, ours) if self.better == "less" else (ours, theirs)
        return above / below if below else None

    def row(self) -> str:
        """Return the Markdown row."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}{' of it' if self.better == 'share' else 'x'}"
        ours, theirs = spread(self.ours, self.unit), spread(self.theirs, self.unit)
        return f"| {self.name} | {ours} | {theirs} | {ratio} | {self.mwaa} |"

    def to_json(self) -> dict[str, Any]:
        """Return everything, and what follows from it."""
        theirs = statistics.median(self.theirs) if self.theirs else None
        return {**self.__dict__, "median": self.median, "theirs_median": theirs, "ratio": self.ratio}


def spread(values: list[float], unit: str) -> str:
    """Return the median, least and most, as text; empty without values."""
    if not values:
        return ""
    median = f"{_number(statistics.median(values), unit)} {unit}"
    if len(values) == 1:
        return median
    return f"{median} ({_number(min(values), unit)} to {_number(max(values), unit)})"


def percentile(values: list[float], percent: int) -> float:
    """Return the value that `percent` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def _number(value: float, unit: str) -> str:
    if unit == "MB":
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
