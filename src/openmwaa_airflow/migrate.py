"""Bring the metadata database up to date: `python -m openmwaa_airflow.migrate`.

Three of Airflow's commands in one process, because starting Python takes longer than any
of them: the core tables, Flask-AppBuilder's tables (3.x has them apart), and the built-in
roles with their rights, which otherwise appear only once a web server has started, and two
web servers starting at once would race to make them. Safe to repeat. The last step of every
change of version, upwards and downwards (`openmwaa_airflow.downgrade`).
"""

from __future__ import annotations

from airflow import __version__ as airflow_version
from airflow import settings
from airflow.cli import cli_parser

from openmwaa_airflow import other_rows

COMMANDS_OF_2 = (("db", "migrate"), ("sync-perm",))
COMMANDS_OF_3 = (("db", "migrate"), ("fab-db", "migrate"), ("sync-perm",))


def main() -> None:
    """Run the commands; the first that fails ends the process with its error."""
    parser = cli_parser.get_parser()
    is_2 = airflow_version.startswith("2.")
    with settings.engine.begin() as connection:
        before = other_rows.revisions(connection)
        if not is_2:
            other_rows.make_confs_plain(connection)
    for command in COMMANDS_OF_2 if is_2 else COMMANDS_OF_3:
        arguments = parser.parse_args(command)
        arguments.func(arguments)
    with settings.engine.begin() as connection:
        if is_2:
            other_rows.make_missing_tables(connection)
        if other_rows.revisions(connection) != before:
            other_rows.forget_sessions(connection)
            if not is_2:
                other_rows.give_every_run_a_conf(connection)


if __name__ == "__main__":
    main()
