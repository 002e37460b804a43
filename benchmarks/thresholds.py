"""What the figures should be: the acceptance thresholds, all of them, as data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from benchmarks.figures import Figure


@dataclass(frozen=True)
class Threshold:
    """One limit for the figures of some key.

    Attributes:
        key: A figure's key, or what it begins with up to the version.

        of: The median of ours, or the ratio of the medians.

        limit: In the figure's unit; a ratio has none.
    """

    key: str
    of: Literal["median", "ratio"]
    at: Literal["<=", ">="]
    limit: float


THRESHOLDS: Final = (
    Threshold("create", "median", "<=", 4.0),
    Threshold("create", "ratio", ">=", 4.0),
    Threshold("worker", "median", "<=", 2.0),
    Threshold("memory MemAvailable", "ratio", "<=", 0.65),
    Threshold("memory PSS", "ratio", "<=", 0.65),
    Threshold("upload new", "median", "<=", 3.0),
    Threshold("upload changed", "median", "<=", 3.0),
    Threshold("upload new, 1000 files", "median", "<=", 6.0),
    Threshold("upload changed, 1000 files", "median", "<=", 6.0),
    Threshold("throughput both", "ratio", ">=", 1.3),
    Threshold("throughput wide", "ratio", ">=", 1.0),
    Threshold("throughput chains", "ratio", ">=", 1.0),
)


def verdicts(figures: Iterable[Figure]) -> Iterator[str]:
    """Yield one line per figure and threshold that applies to it.

    For example `create 3.3.1: median 4.2 s, wanted <= 4 s: missed`.
    """
    for figure in figures:
        for threshold in THRESHOLDS:
            if threshold.key not in (figure.key, _without_version(figure.key)):
                continue
            value = figure.median if threshold.of == "median" else figure.ratio
            if value is None:
                yield f"{figure.key}: {threshold.of} not measured"
                continue
            met = value <= threshold.limit if threshold.at == "<=" else value >= threshold.limit
            unit = f" {figure.unit}" if threshold.of == "median" else ""
            yield (
                f"{figure.key}: {threshold.of} {value:.3g}{unit}, wanted {threshold.at} {threshold.limit:g}{unit}:"
                f" {'met' if met else 'missed'}"
            )


def _without_version(key: str) -> str:
    """Return a key without the Airflow version it may end with."""
    front, _, last = key.rpartition(" ")
    return front if last[:1].isdigit() and last.count(".") == 2 else key
