"""What an Airflow finds in its database, as JSON. Runs inside a runtime: `python facts.py`.

Everything is read by that Airflow's own models: what they cannot read counts as lost.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any

from airflow import settings
from airflow.models import Connection, DagRun, TaskInstance, Trigger, Variable
from airflow.providers.fab.auth_manager.models import Role, User
from sqlalchemy import select

try:
    from airflow.models.xcom import XComModel
except ImportError:
    from airflow.models.xcom import XCom as XComModel

    xcom_value = XComModel.deserialize_value
else:
    try:
        from airflow.sdk.serde import deserialize
    except ImportError:
        from airflow.serialization.serde import deserialize

    def xcom_value(row: Any) -> Any:
        """Return what a task would pull."""
        return deserialize(row.value)


def plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=datetime.isoformat)


def main() -> None:
    session = settings.Session()
    facts = {
        "runs": {
            f"{run.dag_id} {run.run_id}": [str(run.state), run.conf]
            for run in session.scalars(select(DagRun))
        },
        "tasks": {
            f"{task.dag_id} {task.run_id} {task.task_id}": [str(task.state), task.try_number]
            for task in session.scalars(select(TaskInstance)).unique()
        },
        "xcoms": {
            f"{row.dag_id} {row.run_id} {row.task_id} {row.key}": plain(xcom_value(row))
            # Columns, not objects: 2.x decodes those for display only.
            for row in session.execute(
                select(XComModel.dag_id, XComModel.run_id, XComModel.task_id, XComModel.key, XComModel.value)
            )
        },
        "connections": {
            one.conn_id: [one.conn_type, one.host, one.login, one.get_password(), one.get_extra()]
            for one in session.scalars(select(Connection))
        },
        "variables": {one.key: one.get_val() for one in session.scalars(select(Variable))},
        "users": {
            one.username: [one.email, one.active, sorted(role.name for role in one.roles)]
            for one in session.scalars(select(User)).unique()
        },
        "custom roles": {
            role.name: sorted(f"{pair.action.name} {pair.resource.name}" for pair in role.permissions)
            for role in session.scalars(select(Role)).unique()
            if role.name == "TeamA"
        },
        "triggers": sorted(
            [one.classpath, plain(one.kwargs)] for one in session.scalars(select(Trigger)).unique()
        ),
    }
    # Airflow prints to stdout as well.
    with open(sys.argv[1], "w") as file:
        json.dump(facts, file, default=str)


if __name__ == "__main__":
    main()
