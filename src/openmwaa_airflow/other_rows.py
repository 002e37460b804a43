"""Rows that another version of Airflow could not keep or read, rewritten for it.

Airflow's own downgrade migrations change tables. Some of them drop rows that the older
schema has no place for, and none of them rewrites values whose encoding changed. Each
function below names the cause. PostgreSQL only; each says nothing if there is nothing to do.
"""

from __future__ import annotations

import json
import pickle

from sqlalchemy import text
from sqlalchemy.engine import Connection

_KEPT_XCOMS = "_openmwaa_xcom_archive"


def prepare(connection: Connection, target: tuple[int, ...]) -> None:
    """Rewrite what must be rewritten while the tables are still the newer ones'."""
    if target < (3, 2) and _has_column(connection, "dag_version", "id"):
        _encode_deferrals_as_before(connection)
    if target < (3, 3):
        _forget_newer_words(connection, target)
    if target < (3,) and _has_column(connection, "dag_run", "logical_date"):
        _give_every_run_a_date(connection)
        _set_pickled_xcoms_aside(connection)


def finish(connection: Connection, target: tuple[int, ...]) -> None:
    """Rewrite what only fits into the older tables."""
    if target < (3,):
        _put_pickled_xcoms_back(connection)
    forget_sessions(connection)


def revisions(connection: Connection) -> list[str]:
    """Return the revisions of the core tables and of Flask-AppBuilder's; empty before the first migration."""
    tables = [
        table
        for table in ("alembic_version", "alembic_version_fab")
        if _has_column(connection, table, "version_num")
    ]
    return [
        connection.execute(text(f"SELECT version_num FROM {table}")).scalar()  # noqa: S608 - names of ours
        for table in tables
    ]


def forget_sessions(connection: Connection) -> None:
    """Remove the web servers' sessions.

    Versions encode them differently (pickle, msgpack), and a row that cannot be decoded is an
    error page. Nobody is signed on by them here: they hold form tokens and messages only.
    """
    if _has_column(connection, "session", "session_id"):
        connection.execute(text("DELETE FROM session"))


def make_missing_tables(connection: Connection) -> None:
    """Make the tables of Airflow 2 that a database which began on Airflow 3 has never had.

    A new database is made from the models, not by the migrations: one of Airflow 3 has no
    `sla_miss`, no downgrade makes it, and every look at a task instance of it fails on 2.
    """
    from airflow import models  # noqa: PLC0415 - all of them, which takes a while
    from airflow.models.base import Base  # noqa: PLC0415

    models.import_all_models()
    Base.metadata.create_all(connection, checkfirst=True)


def make_confs_plain(connection: Connection) -> None:
    """Write dates and the like in runs' configurations as text, before an upgrade to 3.

    Airflow 2 pickles configurations, 3 has JSON: the upgrade drops what has no JSON form, the
    whole configuration with it, and says so in a log line. (Cause: as below.)
    """
    if not _is_bytes(connection, "dag_run", "conf"):
        return
    found = connection.execute(text("SELECT id, conf FROM dag_run WHERE conf IS NOT NULL ORDER BY id"))
    for row in found.all():
        # Airflow itself unpickles it a moment later; only Airflow writes this column.
        conf = pickle.loads(row.conf)  # noqa: S301
        try:
            json.dumps(conf)
        except TypeError:
            plain = pickle.dumps(json.loads(json.dumps(conf, default=str)))
            connection.execute(
                text("UPDATE dag_run SET conf = :conf WHERE id = :id"), {"id": row.id, "conf": plain}
            )


def give_every_run_a_conf(connection: Connection) -> None:
    """Give runs without a configuration an empty one.

    Every run that Airflow makes has one; the upgrade to 3 leaves out those that are empty, and
    `dag_run.conf["key"]` or `.get` in a task of such a run would meet None. (Cause:
    `0055_3_0_0_remove_pickled_data_from_dagrun_table`.)
    """
    connection.execute(text("UPDATE dag_run SET conf = '{}' WHERE conf IS NULL"))


def _encode_deferrals_as_before(connection: Connection) -> None:
    """Write deferred tasks' arguments in the encoding of Airflow before 3.2.

    3.2 began to encode the arguments of triggers and of the method that a deferred task
    resumes with by `airflow.sdk.serde`; before it was `BaseSerialization`, which cannot read
    the other. Airflow reads both when it upgrades, and has nothing for the way back. (MWAA's
    image re-encodes them too: mwaa.md 2.6. Cause: `models/trigger.py` of 3.2.)
    """
    # They exist from 3.2 on only.
    from airflow.models.crypto import get_fernet  # noqa: PLC0415
    from airflow.models.trigger import Trigger  # noqa: PLC0415
    from airflow.serialization.serialized_objects import BaseSerialization  # noqa: PLC0415

    if not _uses_serde():
        return
    for row in connection.execute(text("SELECT id, kwargs FROM trigger")).all():
        kwargs = Trigger._decrypt_kwargs(row.kwargs)
        encoded = json.dumps(BaseSerialization.serialize(kwargs)).encode()
        connection.execute(
            text("UPDATE trigger SET kwargs = :kwargs WHERE id = :id"),
            {"id": row.id, "kwargs": get_fernet().encrypt(encoded).decode()},
        )
    for table, key in (("task_instance", "id"), ("task_instance_history", "task_instance_id")):
        _encode_resumptions_as_before(connection, table, key)


def _encode_resumptions_as_before(connection: Connection, table: str, key: str) -> None:
    read = text(f"SELECT {key} AS id, next_kwargs::text AS kwargs FROM {table} WHERE next_kwargs IS NOT NULL")  # noqa: S608
    write = text(f"UPDATE {table} SET next_kwargs = :kwargs WHERE {key} = :id")  # noqa: S608 - names of ours
    for row in connection.execute(read).all():
        encoded = _as_base_serialization(json.loads(row.kwargs))
        connection.execute(write, {"id": row.id, "kwargs": json.dumps(encoded)})


def _uses_serde() -> bool:
    try:
        import airflow.sdk.serde  # noqa: F401, PLC0415 - moved there by 3.2
    except ImportError:
        return False
    return True


def _as_base_serialization(stored: object) -> object:
    """Return arguments that `airflow.sdk.serde` wrote, as `BaseSerialization` writes them."""
    from airflow.sdk.serde import deserialize  # noqa: PLC0415 - from 3.2 on
    from airflow.serialization.serialized_objects import BaseSerialization  # noqa: PLC0415

    if isinstance(stored, dict) and "__type" in stored:
        return stored  # from before an upgrade
    return BaseSerialization.serialize(deserialize(stored))


def _forget_newer_words(connection: Connection, target: tuple[int, ...]) -> None:
    """Replace states and kinds of runs that the older Airflow does not know.

    Its REST API and scheduler read them into an enumeration and fail for the whole list.
    (Cause: `utils/state.py` and `utils/types.py` of 3.2 and 3.3.)
    """
    # A task that waits for a human asks again: the older operator has its own way to wait.
    waiting = (
        "UPDATE {} SET state = NULL, next_method = NULL, next_kwargs = NULL WHERE state = 'awaiting_input'"
    )
    connection.execute(text(waiting.format("task_instance")))
    connection.execute(
        text("UPDATE task_instance_history SET state = 'failed' WHERE state = 'awaiting_input'")
    )
    unknown = ["operator_triggered"] + (["asset_materialization"] if target < (3, 2) else [])
    connection.execute(
        text("UPDATE dag_run SET run_type = 'manual' WHERE run_type = ANY(:unknown)"), {"unknown": unknown}
    )


def _give_every_run_a_date(connection: Connection) -> None:
    """Give runs without a logical date the time they were to run at.

    Airflow 2 has no run without one, and the downgrade moves such runs into a table apart;
    their tasks and XComs are gone with them. (Cause: `0032_3_0_0_rename_execution_date…`,
    `_move_offending_dagruns`.) Dates of one DAG must differ: ties move by microseconds.
    """
    connection.execute(
        text(
            """
            WITH wanted AS (
                SELECT id, run_after + interval '1 microsecond' * (
                    row_number() OVER (PARTITION BY dag_id, run_after ORDER BY id) - 1
                ) AS moment, dag_id
                FROM dag_run WHERE logical_date IS NULL
            )
            UPDATE dag_run SET logical_date = CASE
                WHEN EXISTS (
                    SELECT 1 FROM dag_run other
                    WHERE other.dag_id = wanted.dag_id AND other.logical_date = wanted.moment
                )
                -- Far from every date that a schedule makes, and still the same second.
                THEN wanted.moment + interval '1 microsecond' * (100000 + dag_run.id % 800000)
                ELSE wanted.moment
            END
            FROM wanted WHERE wanted.id = dag_run.id
            """
        )
    )
    # 2.x wants an interval with every date.
    connection.execute(
        text(
            "UPDATE dag_run SET data_interval_start = coalesce(data_interval_start, logical_date),"
            " data_interval_end = coalesce(data_interval_end, logical_date)"
        )
    )


def _set_pickled_xcoms_aside(connection: Connection) -> None:
    """Keep what the upgrade from Airflow 2 archived; the downgrade drops that table.

    (Cause: `0049_3_0_0_remove_pickled_data_from_xcom_table`.)
    """
    if _has_column(connection, "_xcom_archive", "value"):
        connection.execute(text(f"DROP TABLE IF EXISTS {_KEPT_XCOMS}"))
        connection.execute(text(f"ALTER TABLE _xcom_archive RENAME TO {_KEPT_XCOMS}"))


def _put_pickled_xcoms_back(connection: Connection) -> None:
    """Return archived XComs of tasks that still exist to where Airflow 2 reads them."""
    if not _has_column(connection, _KEPT_XCOMS, "value"):
        return
    connection.execute(
        text(
            f"""
            INSERT INTO xcom (dag_run_id, task_id, map_index, key, dag_id, run_id, value, timestamp)
            SELECT a.dag_run_id, a.task_id, a.map_index, a.key, a.dag_id, a.run_id, a.value, a.timestamp
            FROM {_KEPT_XCOMS} a
            JOIN task_instance t USING (dag_id, task_id, run_id, map_index)
            ON CONFLICT DO NOTHING
            """  # noqa: S608 - a name of ours
        )
    )
    connection.execute(text(f"DROP TABLE {_KEPT_XCOMS}"))


def _is_bytes(connection: Connection, table: str, column: str) -> bool:
    query = text(
        "SELECT data_type = 'bytea' FROM information_schema.columns"
        " WHERE table_schema = current_schema() AND table_name = :table AND column_name = :column"
    )
    return bool(connection.execute(query, {"table": table, "column": column}).scalar())


def _has_column(connection: Connection, table: str, column: str) -> bool:
    return bool(
        connection.execute(
            text(
                "SELECT 1 FROM information_schema.columns"
                " WHERE table_schema = current_schema() AND table_name = :table AND column_name = :column"
            ),
            {"table": table, "column": column},
        ).scalar()
    )
