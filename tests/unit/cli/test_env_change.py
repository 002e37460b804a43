"""From options of `env update` to members of UpdateEnvironment, and a plan in words."""

from __future__ import annotations

import click
import pytest

from openmwaa.cli.change_options import update_members
from openmwaa.cli.options import KEY_VALUE, RANGE
from openmwaa.cli.plan_text import plan_lines
from tests.support.specs import a_spec

SPEC = a_spec(airflow_configuration_options={"core.parallelism": "8", "a.b": "c"}).to_json()


def test_only_what_was_chosen_is_sent() -> None:
    """An absent member keeps its value in the service."""
    assert update_members(SPEC) == {}
    assert update_members(SPEC, workers=(2, 5), window="MON:01:30") == {
        "MinWorkers": 2,
        "MaxWorkers": 5,
        "WeeklyMaintenanceWindowStart": "MON:01:30",
    }


def test_options_are_merged_with_those_that_are_set() -> None:
    """UpdateEnvironment replaces the whole map; a person thinks of one option."""
    members = update_members(SPEC, options=(("core.parallelism", "16"), ("x.y", "z=1")), unset=("a.b",))
    assert members == {"AirflowConfigurationOptions": {"core.parallelism": "16", "x.y": "z=1"}}


def test_switching_a_log_off_keeps_its_level() -> None:
    """The level is still there when it is switched on again."""
    members = update_members(SPEC, logs=(("task", "OFF"), ("scheduler", "DEBUG")))
    assert members["LoggingConfiguration"] == {
        "TaskLogs": {"Enabled": False, "LogLevel": "INFO"},
        "SchedulerLogs": {"Enabled": True, "LogLevel": "DEBUG"},
    }


def test_a_plan_in_words() -> None:
    """Which fields, which components, which tasks."""
    effect = {"kind": "worker", "action": "replace", "before": 1, "after": 2, "stop_grace_s": 90.0}
    lines = plan_lines(
        {
            "fields": [
                {
                    "field": "airflow_configuration_options",
                    "before": {"a.b": "1"},
                    "after": {},
                    "components": [effect],
                },
                {"field": "max_workers", "before": 1, "after": 2, "components": []},
            ],
            "components": [effect],
            "stops_workers": True,
        }
    )
    assert lines == [
        "airflow_configuration_options.a.b: 1 -> not set",
        "    worker is replaced (1 -> 2)",
        "max_workers: 1 -> 2",
        "    no component is touched",
        "",
        "Worker is replaced (1 -> 2).",
        "Running tasks: a worker that is stopped takes no new task and has 90 s to finish those it runs.",
    ]


def test_ranges_and_pairs_are_read() -> None:
    """One number stands for both ends; a value may hold equals signs."""
    assert RANGE.convert("2:5", None, None) == (2, 5)
    assert RANGE.convert("3", None, None) == (3, 3)
    assert KEY_VALUE.convert("a=b=c", None, None) == ("a", "b=c")
    for kind, text in ((RANGE, "1:x"), (RANGE, ""), (KEY_VALUE, "a"), (KEY_VALUE, "=b")):
        with pytest.raises(click.BadParameter):
            kind.convert(text, None, None)


def test_packages_dags_and_seconds_in_words() -> None:
    """What only a look ahead can tell."""
    lines = plan_lines(
        {
            "fields": [
                {
                    "field": "requirements",
                    "before": None,
                    "after": {"path": "requirements.txt", "version": "v2", "digest": "d", "size": 3},
                    "components": [],
                }
            ],
            "components": [],
            "stops_workers": False,
            "running_tasks": 3,
            "packages": {"added": [["a", "1"]], "removed": [["b", "2"]], "changed": [["c", "1", "2"]]},
            "dags": {
                "imported": 4,
                "new_errors": {"x.py": "ModuleNotFoundError: No module named 'b'"},
                "fixed": ["y.py"],
                "still_broken": ["z.py"],
            },
            "seconds": {"total": 12.4, "measured": True},
        }
    )
    assert lines == [
        "requirements: not set -> requirements.txt, version v2",
        "    no component is touched",
        "",
        "No component is replaced.",
        "Running tasks (3 run now): not touched.",
        "",
        "Packages: 3 change.",
        "    + a 1",
        "    - b 2",
        "    ~ c 1 -> 2",
        "",
        "DAGs: 4 are imported with the change.",
        "    breaks: x.py: ModuleNotFoundError: No module named 'b'",
        "    works again: y.py",
        "    1 files cannot be imported before and after",
        "    The update would be undone for that; `--allow-import-errors` lets it pass.",
        "",
        "Time: about 12 s (measured on this host before).",
    ]
