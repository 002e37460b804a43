"""Times and texts of log lines as Airflow 2 and 3 write them."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from openmwaa.cli.log_lines import LogFile, parse_since, read_line

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
AT = datetime(2026, 11, 23, 3, 10, 0, 123000, tzinfo=UTC)


@pytest.mark.parametrize(
    "line",
    [
        "[2026-11-23T03:10:00.123+0000] {scheduler_job_runner.py:950} INFO - Starting",
        "2026-11-23T03:10:00.123000Z [info     ] Starting",
        "[2026-11-23 03:10:00,123: INFO/MainProcess] celery ready",
        "[2026-11-23T04:10:00.123+0100] one hour east",
        "2026-11-23 03:10:00.123 UTC [17] LOG:  started",
    ],
)
def test_every_form_of_time_is_read(line: str) -> None:
    """Without a zone it is UTC: components run with it."""
    assert read_line(line)[0] == AT


def test_a_line_of_json_is_shown_as_text() -> None:
    """Airflow 3 writes task logs so."""
    at, text = read_line(
        '{"timestamp":"2026-11-23T03:10:00.123Z","level":"info","event":"42 rows","logger":"task"}'
    )
    assert (at, text) == (AT, "2026-11-23T03:10:00.123Z INFO 42 rows")


def test_lines_that_only_look_like_something_stay_as_they_are() -> None:
    """No time, broken JSON, impossible dates."""
    for line in ("plain", '{"event": broken', "2026-99-99T03:10:00Z x", ""):
        assert read_line(line) == (None, line)


def test_control_characters_do_not_reach_the_terminal() -> None:
    """A task's output cannot move the cursor or change the title."""
    assert read_line("a\x1b]0;title\x07b\tc")[1] == "a]0;titleb\tc"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("10m", NOW - timedelta(minutes=10)),
        ("1d", NOW - timedelta(days=1)),
        ("2026-11-23T03:10:00.123", AT),
        ("2026-11-23T04:10:00.123+01:00", AT),
    ],
)
def test_since(text: str, moment: datetime) -> None:
    """Durations and ISO times."""
    assert parse_since(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "soon", "10", "m", "-5m"])
def test_since_refuses_the_rest(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError):  # noqa: PT011 - any
        parse_since(text, NOW)


def test_a_growing_file_is_read_in_whole_lines(tmp_path: Path) -> None:
    """A line without a time has that of the line before; a half line waits."""
    path = tmp_path / "scheduler-0.log"
    path.write_text("[2026-11-23T03:10:00.123+0000] one\nTraceback\n[2026-11-23T03:10:01.000+0000] ha")
    file = LogFile("scheduler-0", str(path))
    first = file.read()
    assert [(line.at, line.text.split()[-1]) for line in first] == [(AT, "one"), (AT, "Traceback")]
    with path.open("a") as more:
        more.write("lf\n")
    assert [line.text for line in file.read()] == ["[2026-11-23T03:10:01.000+0000] half"]
    assert file.read() == []
    assert file.finish() == []
    path.write_text("anew\n")
    assert [line.text for line in file.read()] == ["anew"]
    path.unlink()
    assert file.read() == []


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_only_regular_files_are_read(tmp_path: Path, kind: str) -> None:
    """The folder of task logs belongs to the environment's user; the command may run as root."""
    (tmp_path / "secret").write_text("secret\n")
    path = tmp_path / "attempt=1.log"
    {
        "link": lambda: path.symlink_to(tmp_path / "secret"),
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
    }[kind]()
    assert LogFile("t", str(path)).read() == []
