"""From one Airflow version to another: which changes there are, and their one-shot commands. Pure.

Source: mwaa.md 2.6 (version changes), airflow.md 7 (what downgrades need).
"""

from __future__ import annotations

from datetime import date
from typing import Final

from openmwaa.airflow.versions import VERSIONS, AirflowVersion, airflow_version, providers_of

_BRIDGE: Final = (2, 11)
"""The only minor version of Airflow 2 from and to which Airflow 3 can be reached."""

_FAB: Final = "apache-airflow-providers-fab"


def allowed_change(from_version: str, to_version: str, *, today: date | None = None) -> str | None:
    """Return why an environment may not move to a version, in AWS's words and with what to do; None: it may.

    Args:
        from_version: What it runs now; may be one that is no longer supported.

        to_version: What is wanted.

        today: Versions whose support ended before this day are refused; None: none are.
    """
    if from_version == to_version:
        return None
    hint = _hint(from_version, to_version, today)
    if hint is None:
        return None
    return f"Airflow version {from_version} does not support updates to version {to_version}. {hint}"


def _hint(from_version: str, to_version: str, today: date | None) -> str | None:
    if to_version not in VERSIONS:
        return f"Supported versions: {', '.join(VERSIONS)}."
    target, start, bridge = airflow_version(to_version), _numbers(from_version), _bridge()
    if today is not None and target.end_of_support is not None and target.end_of_support < today:
        return f"Support of version {to_version} ended on {target.end_of_support}."
    if start[0] < 2:
        return "Create a new environment instead."
    upwards_from_elsewhere = target.generation > start[0] and start != bridge.numbers
    downwards_to_elsewhere = target.generation < start[0] and target.numbers[:2] != _BRIDGE
    if upwards_from_elsewhere or downwards_to_elsewhere:
        return f"Update to version {bridge.version} first."
    return None


def is_downgrade(from_version: str, to_version: str) -> bool:
    """Return whether the database must first be taken back with the version being left."""
    return _numbers(to_version) < _numbers(from_version)


def downgrade_commands(from_version: str, to_version: str) -> list[tuple[str, ...]]:
    """Return the one-shot commands that take the metadata database back, in order.

    They run with the runtime of `from_version`, in an environment variable set of that
    version; afterwards `migrate_commands(to_version)` run with that of `to_version`. Empty if
    `to_version` is not lower. Not safe to repeat: after an interruption the copy of the
    database that was made before is restored first.
    """
    if not is_downgrade(from_version, to_version):
        return []
    fab = providers_of(airflow_version(to_version).lock.read_text())[_FAB]
    words = ("python", "-P", "-m", "openmwaa_airflow.downgrade")
    return [(*words, "--to-version", to_version, "--fab-version", fab)]


def _bridge() -> AirflowVersion:
    return max((row for row in VERSIONS.values() if row.numbers[:2] == _BRIDGE), key=lambda row: row.numbers)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
