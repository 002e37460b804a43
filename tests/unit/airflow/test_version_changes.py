"""Which versions an environment may move to, and the commands for it (mwaa.md 2.6)."""

from __future__ import annotations

import dataclasses
from datetime import date
from types import MappingProxyType

import pytest

from openmwaa.airflow import version_changes, versions
from openmwaa.airflow.version_changes import allowed_change, downgrade_commands, is_downgrade
from openmwaa.airflow.versions import VERSIONS

ALLOWED = {
    ("2.10.3", "2.11.2"),
    ("2.11.2", "2.10.3"),
    ("2.11.2", "3.0.6"),
    ("2.11.2", "3.2.1"),
    ("2.11.2", "3.3.1"),
    ("3.0.6", "2.11.2"),
    ("3.0.6", "3.2.1"),
    ("3.0.6", "3.3.1"),
    ("3.2.1", "2.11.2"),
    ("3.2.1", "3.0.6"),
    ("3.2.1", "3.3.1"),
    ("3.3.1", "2.11.2"),
    ("3.3.1", "3.0.6"),
    ("3.3.1", "3.2.1"),
}


@pytest.mark.parametrize("start", VERSIONS)
@pytest.mark.parametrize("target", VERSIONS)
def test_each_pair_of_versions(start: str, target: str) -> None:
    reason = allowed_change(start, target)
    if start == target or (start, target) in ALLOWED:
        assert reason is None
    else:
        assert reason == (
            f"Airflow version {start} does not support updates to version {target}. "
            "Update to version 2.11.2 first."
        )


@pytest.mark.parametrize(
    ("start", "target", "hint"),
    [
        ("2.11.2", "2.2.2", "Supported versions: 2.10.3, 2.11.2, 3.0.6, 3.2.1, 3.3.1."),
        ("2.11.0", "3.3.1", "Update to version 2.11.2 first."),
        ("2.9.2", "3.0.6", "Update to version 2.11.2 first."),
        ("1.10.12", "2.11.2", "Update to version 2.11.2 first."),
    ],
)
def test_versions_that_we_do_not_have(start: str, target: str, hint: str) -> None:
    if start == "1.10.12":
        hint = "Create a new environment instead."
    assert allowed_change(start, target) == (
        f"Airflow version {start} does not support updates to version {target}. {hint}"
    )


def test_an_unsupported_version_may_be_left() -> None:
    assert allowed_change("2.9.2", "2.11.2") is None
    assert allowed_change("3.1.0", "3.3.1") is None


def test_support_that_has_ended_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Staying is allowed, moving there is not."""
    ended = dataclasses.replace(VERSIONS["2.10.3"], end_of_support=date(2027, 1, 31))
    table = MappingProxyType({**VERSIONS, "2.10.3": ended})
    monkeypatch.setattr(versions, "VERSIONS", table)
    monkeypatch.setattr(version_changes, "VERSIONS", table)
    assert allowed_change("2.11.2", "2.10.3", today=date(2027, 1, 31)) is None
    assert allowed_change("2.10.3", "2.10.3", today=date(2027, 2, 1)) is None
    assert allowed_change("2.11.2", "2.10.3", today=date(2027, 2, 1)) == (
        "Airflow version 2.11.2 does not support updates to version 2.10.3. "
        "Support of version 2.10.3 ended on 2027-01-31."
    )


def test_commands_of_a_downgrade_name_the_older_flask_appbuilder() -> None:
    """Upwards there are none: `migrate_commands` is all."""
    assert downgrade_commands("2.11.2", "3.3.1") == downgrade_commands("3.3.1", "3.3.1") == []
    assert is_downgrade("2.11.2", "2.10.3")
    assert downgrade_commands("3.3.1", "3.0.6") == [
        (
            *("python", "-P", "-m", "openmwaa_airflow.downgrade"),
            *("--to-version", "3.0.6", "--fab-version", "2.4.1"),
        )
    ]
