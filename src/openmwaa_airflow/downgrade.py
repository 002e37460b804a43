"""Take the metadata database back: `python -m openmwaa_airflow.downgrade --to-version V --fab-version F`.

Runs with the *newer* Airflow, because only that one knows how to undo its migrations; the
older one's `openmwaa_airflow.migrate` comes afterwards. Flask-AppBuilder's tables go first:
the older Airflow does not know their newer revision, and its core migrations look at them
(airflow.md 7). What Airflow's own downgrade would lose or leave unreadable is rewritten
before it, by `openmwaa_airflow.other_rows`.

Not a rollback: who wants the old state exactly restores the copy made before. Nothing here
need survive a `kill -9`: the caller restores that copy and starts again.
"""

from __future__ import annotations

import argparse

from airflow import __version__ as airflow_version
from airflow import settings
from airflow.cli import cli_parser
from sqlalchemy import text

from openmwaa_airflow import other_rows

FIRST_FAB_REVISION = ("1.4.0", "6709f7a774b9")
"""The oldest state of Flask-AppBuilder's tables that has a name: that of every Airflow 2."""

_FAB_REVISION = text("SELECT version_num FROM alembic_version_fab")


def main() -> None:
    """Downgrade; the first step that fails ends the process with its error."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--to-version", required=True)
    parser.add_argument("--fab-version", required=True)
    arguments = parser.parse_args()
    target = numbers_of(arguments.to_version)
    with settings.engine.begin() as connection:
        other_rows.prepare(connection, target)
    if not airflow_version.startswith("2."):
        _downgrade_fab(numbers_of(arguments.fab_version))
    _airflow("db", "downgrade", "--to-version", arguments.to_version, "--yes")
    with settings.engine.begin() as connection:
        other_rows.finish(connection, target)


def numbers_of(version: str) -> tuple[int, ...]:
    """Return `(3, 0, 6)` for `3.0.6`."""
    return tuple(int(part) for part in version.split("."))


def _downgrade_fab(target: tuple[int, ...]) -> None:
    from airflow.providers.fab.auth_manager.models.db import _REVISION_HEADS_MAP  # noqa: PLC0415 - not on 2.x

    heads = dict([FIRST_FAB_REVISION]) | _REVISION_HEADS_MAP
    reachable = {numbers_of(version): head for version, head in heads.items()}
    wanted = reachable[max((one for one in reachable if one <= target), default=min(reachable))]
    with settings.engine.connect() as connection:
        current = connection.execute(_FAB_REVISION).scalar()
    if current != wanted:
        _airflow("fab-db", "downgrade", "--to-revision", wanted, "--yes")


def _airflow(*words: str) -> None:
    arguments = cli_parser.get_parser().parse_args(words)
    arguments.func(arguments)


if __name__ == "__main__":
    main()
