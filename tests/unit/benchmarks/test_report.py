"""What the benchmark makes of its values: ratios, verdicts, rows, and that a failure loses nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from benchmarks.bench import Bench
from benchmarks.figures import Better, Figure, percentile
from benchmarks.metadata import TaskRun
from benchmarks.report import table
from benchmarks.thresholds import verdicts
from benchmarks.throughput import gaps

BEGAN = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("better", "ours", "theirs", "ratio"),
    [
        ("less", [4.0, 5.0, 60.0], [20.0], 4.0),
        ("more", [3.0], [2.0], 1.5),
        ("share", [650.0], [1000.0], 0.65),
    ],
)
def test_a_ratio_compares_medians_in_the_direction_of_the_figure(
    better: Better, ours: list[float], theirs: list[float], ratio: float
) -> None:
    assert Figure("key", "name", "s", better, ours=ours, theirs=theirs).ratio == pytest.approx(ratio)


def test_a_verdict_says_what_was_measured_and_what_was_wanted() -> None:
    figure = Figure("create 3.3.1", "", "s", ours=[4.25], theirs=[17.0])

    assert list(verdicts([figure])) == [
        "create 3.3.1: median 4.25 s, wanted <= 4 s: missed",
        "create 3.3.1: ratio 4, wanted >= 4: met",
    ]


def test_a_threshold_is_for_its_own_figure_and_not_for_those_that_begin_alike() -> None:
    others = ("create first 3.3.1", "upload new 3.3", "throughput gap 3.3.1", "throughput gap p95 3.3.1")

    assert not list(verdicts(Figure(key, "", "s", ours=[99.0]) for key in others))


def test_what_was_not_measured_is_not_passed_over() -> None:
    assert list(verdicts([Figure("worker 3.3.1", "", "s")])) == ["worker 3.3.1: median not measured"]


def test_what_was_measured_before_a_failure_is_in_the_table_with_it() -> None:
    bench = Bench(("3.3.1",), 1)

    with bench.attempt("worker 3.3.1"):
        bench.figure("worker 3.3.1", "a worker", "s").ours.append(1.5)
        raise TimeoutError("the second | one\nnever came")

    rows = table(bench).splitlines()
    assert "| a worker | 1.50 s |  |  |  |" in rows
    assert "| worker 3.3.1 | failed: TimeoutError: the second / one | | | |" in rows


def test_gaps_are_between_the_tasks_of_one_run() -> None:
    def task(run: str, number: int, start: float, end: float) -> TaskRun:
        at = [BEGAN + timedelta(seconds=seconds) for seconds in (start, end)]
        return TaskRun(run, f"task_{number:03}", *at)

    tasks = [task("b", 1, 4, 5), task("a", 0, 0, 1), task("b", 0, 1, 2), task("a", 1, 1.5, 3)]

    assert gaps(tasks) == [0.5, 2.0]


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([float(number) for number in range(100)], 95) == 95.0
    assert percentile([1.0], 95) == 1.0
