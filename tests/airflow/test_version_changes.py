"""A populated environment goes through versions and back, and keeps what users have in it.

At each stop: what that Airflow's own models read equals what was there before; a task that
was deferred under another version resumes; a new run of a DAG that is valid in both succeeds.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from openmwaa.airflow.secrets import METADATA_URL
from openmwaa.artifacts.runtimes import RuntimeStore
from openmwaa.kit.secret import Secret
from tests.airflow import bare
from tests.airflow.test_components_alone import state_at_end, task, trigger
from tests.support.dags import HELLO
from tests.support.eventually import eventually
from tests.support.specs import a_spec

pytestmark = [pytest.mark.timeout(1800), pytest.mark.thorough]

RUNS = 200
_FACTS = Path(__file__).with_name("facts.py")
ROUTES = [
    ("2.11.2", "3.0.6", "3.3.1", "2.11.2"),
    ("3.3.1", "2.11.2", "3.3.1"),
    ("2.10.3", "2.11.2", "2.10.3"),
    ("3.2.1", "3.3.1", "3.2.1"),
    ("3.0.6", "3.3.1", "3.0.6"),
]

_PICKLE = pickle.dumps({"kept": True})
_TRIGGER = """
import asyncio
from pathlib import Path
from airflow.triggers.base import BaseTrigger, TriggerEvent

class FileIsThere(BaseTrigger):
    def __init__(self, path, since):
        super().__init__()
        self.path, self.since = path, since

    def serialize(self):
        return ("waiting_trigger.FileIsThere", {"path": self.path, "since": self.since})

    async def run(self):
        while not Path(self.path).exists():
            await asyncio.sleep(0.5)
        yield TriggerEvent(self.since.isoformat())
"""
_WAITING = """
from datetime import datetime, timedelta, timezone
from airflow.models import BaseOperator
try:
    from airflow.sdk import dag
except ImportError:
    from airflow.decorators import dag
from waiting_trigger import FileIsThere

SINCE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)

class Wait(BaseOperator):
    template_fields = ("path",)

    def __init__(self, path, **kwargs):
        super().__init__(**kwargs)
        self.path = path

    def execute(self, context):
        kwargs = {"since": SINCE, "parts": {"a": [1, 2.5, None]}}
        self.defer(trigger=FileIsThere(self.path, SINCE), method_name="resume", kwargs=kwargs)

    def resume(self, context, since, parts, event=None):
        assert since == SINCE, repr(since)
        assert parts == {"a": [1, 2.5, None]}, repr(parts)
        assert event == SINCE.isoformat(), repr(event)
        return {"since": since}

@dag(dag_id="waiting", schedule=None, catchup=False, is_paused_upon_creation=False)
def waiting():
    Wait(task_id="wait", path="RUN/{{ run_id }}.there")

waiting()
"""


@pytest.mark.parametrize("route", ROUTES, ids="-".join)
def test_everything_is_kept_from_version_to_version(
    route: tuple[str, ...], runtimes: RuntimeStore, database: Secret
) -> None:
    first, *others = route
    installed = {version: asyncio.run(runtimes.ensure(version)) for version in route}
    with bare.environment(
        first,
        installed[first],
        database,
        spec=a_spec(airflow_version=first),
        address="127.90.62.1",
        dags={"hello.py": HELLO},
    ) as environment:
        waiting = _WAITING.replace("RUN", str(environment.home / "run"))
        (environment.home / "plugins" / "waiting_trigger.py").write_text(_TRIGGER)
        (environment.placement.dags_folder / "waiting.py").write_text(waiting)
        environment.migrate()
        environment.start_all()
        _populate(environment)
        deferred = _defer(environment)
        _multiply(environment)
        for version in others:
            came_from = environment.version
            before = _read(environment)
            assert len(before["runs"]) > RUNS
            assert before["triggers"]
            _hide_a_pickle(environment)
            _use_words_of_33(environment, before)
            environment.move_to(version, installed[version])
            _find_the_pickle(environment, hidden=first.startswith("2."))
            _compare(before, _read(environment))
            environment.start_all()
            _works(environment, came_from, deferred)
            deferred = _defer(environment)
            sys.stdout.write(f"\n{came_from} -> {version}: {environment.seconds}\n")
            environment.seconds.clear()


def _populate(environment: bare.Environment) -> None:
    """Real runs, XComs, encrypted values, users and a role with rights on one DAG."""
    for dag_id in ("hello", "waiting"):
        _until_known(environment, dag_id)
    body: dict[str, Any] = {"conf": {"from": ["a", 1, None], "text": "ä"}}
    if not environment.version.startswith("2."):
        body["logical_date"] = None
    answer = environment.call("POST", "/dags/hello/dagRuns", json=body)
    assert answer.status_code == 200, answer.text
    assert state_at_end(environment, "hello", answer.json()["dag_run_id"], within_s=120) == "success"
    for number in range(3):
        variable = {"key": f"v{number}", "value": f"välue {number}"}
        assert environment.call("POST", "/variables", json=variable).is_success
        connection = {
            "connection_id": f"c{number}",
            "conn_type": "postgres",
            "host": "db.example",
            "login": "me",
            "password": f"pässword {number}",
            "extra": json.dumps({"token": f"t{number}"}),
        }
        answer = environment.call("POST", "/connections", json=connection)
        assert answer.is_success, answer.text
    for role in ("Admin", "Op", "Viewer", "Public"):
        environment.call("GET", "/dags", token=environment.identity(f"assumed-role/{role}", role))
    for command in (
        ("sync-perm", "--include-dags"),  # 3.x makes a DAG's rights only when somebody asks for them
        ("roles", "create", "TeamA"),
        ("roles", "add-perms", "TeamA", "-r", "DAG:hello", "-a", "can_read", "can_edit"),
    ):
        result = environment.run("airflow", *command)
        assert result.returncode == 0, result.stderr[-3000:]
    with _connect(environment) as connection:
        connection.execute(
            "INSERT INTO ab_user_role (id, user_id, role_id)"
            " SELECT nextval('ab_user_role_id_seq'), u.id, r.id FROM ab_user u, ab_role r"
            " WHERE u.username = 'assumed-role/Public' AND r.name = 'TeamA'"
        )


def _multiply(environment: bare.Environment) -> None:
    """Copy the run with its tasks and XComs, whatever columns this version has."""
    with _connect(environment) as connection:
        source = connection.execute(
            "SELECT id, run_id FROM dag_run WHERE dag_id = 'hello' LIMIT 1"
        ).fetchone()
        assert source is not None
        columns = {
            "dag_run": "'id', nextval('dag_run_id_seq'), 'run_id', 'copy-' || n,"
            " 'execution_date', now() - n * interval '1 hour', 'logical_date', CASE WHEN n % 2 = 0"
            " THEN now() - n * interval '1 hour' END, 'run_after', now() - (n % 7) * interval '1 hour'",
            "task_instance": "'id', gen_random_uuid(), 'run_id', 'copy-' || n",
            "xcom": "'run_id', 'copy-' || n, 'dag_run_id', (SELECT id FROM dag_run WHERE run_id = 'copy-' || n)",
        }
        for table, changes in columns.items():
            connection.execute(
                f"INSERT INTO {table} SELECT (jsonb_populate_record(r, jsonb_build_object({changes}))).*"
                f" FROM {table} r, generate_series(1, {RUNS}) n WHERE r.run_id = '{source[1]}'".encode()
            )
        if environment.version.startswith("2."):
            conf = pickle.dumps({"when": datetime(2026, 1, 2, tzinfo=UTC)})  # only pickle can have it
            connection.execute("UPDATE dag_run SET conf = %s WHERE run_id = 'copy-4'", (conf,))


def _hide_a_pickle(environment: bare.Environment) -> None:
    """Airflow 2 may have pickled XComs; Airflow 3 archives them and reads them no more."""
    if environment.version.startswith("2."):
        with _connect(environment) as connection:
            connection.execute(
                "INSERT INTO xcom (dag_run_id, task_id, map_index, key, dag_id, run_id, value, timestamp)"
                " SELECT dag_run_id, task_id, map_index, 'pickled', dag_id, run_id, %s, timestamp"
                " FROM xcom WHERE run_id = 'copy-3' AND task_id = 'make' AND key = 'return_value'",
                (_PICKLE,),
            )


def _find_the_pickle(environment: bare.Environment, *, hidden: bool) -> None:
    """Back on 2 it is where it was; taken away, because this Airflow is not set to read it."""
    if environment.version.startswith("2."):
        with _connect(environment) as connection:
            found = connection.execute("DELETE FROM xcom WHERE key = 'pickled' RETURNING value").fetchall()
        assert [bytes(value) for (value,) in found] == ([_PICKLE] if hidden else [])


def _use_words_of_33(environment: bare.Environment, before: dict[str, Any]) -> None:
    """A state and a kind of run that only 3.3 knows; `before` gets what an older one shall see."""
    if environment.version == "3.3.1":
        with _connect(environment) as connection:
            connection.execute("UPDATE dag_run SET run_type = 'operator_triggered' WHERE run_id = 'copy-5'")
            connection.execute(
                "UPDATE task_instance SET state = 'awaiting_input' WHERE run_id = 'copy-5' AND task_id = 'double'"
            )
        before["tasks"]["hello copy-5 double"][0] = "None"


def _defer(environment: bare.Environment) -> str:
    """Leave a deferred task behind: its trigger waits for a file."""
    _until_known(environment, "waiting")
    run_id = trigger(environment, "waiting")
    eventually(
        lambda: task(environment, "waiting", run_id, "wait")["state"] == "deferred",
        within_s=90,
        what="deferred",
    )
    environment.stop()
    return run_id


def _works(environment: bare.Environment, came_from: str, deferred: str) -> None:
    """New runs succeed, old ones are listed and their logs readable, the deferred task resumes."""
    for dag_id in ("hello", "waiting"):
        _until_known(environment, dag_id)
    listed = environment.call("GET", "/dags/hello/dagRuns", params={"limit": 100})
    assert listed.status_code == 200, listed.text
    assert listed.json()["total_entries"] > RUNS
    for path in ("/connections/c1", "/variables/v1", "/dags/hello/dagRuns/copy-7/taskInstances/make"):
        answer = environment.call("GET", path)
        assert answer.status_code == 200, f"{path}: {answer.text} {environment.tail('webserver-0')}"
    team = environment.identity("assumed-role/Public", "Public")
    assert environment.call("GET", "/dags/hello", token=team).status_code == 200
    assert environment.call("GET", "/dags/waiting", token=team).status_code == 403
    newcomer = environment.identity(f"user/after-{came_from}-{time.time()}", "Op")
    assert environment.call("GET", "/dags", token=newcomer).status_code == 200
    run_id = trigger(environment, "hello")
    assert state_at_end(environment, "hello", run_id, within_s=120) == "success"
    (environment.home / "run" / f"{deferred}.there").touch()
    assert state_at_end(environment, "waiting", deferred, within_s=120) == "success"


def _until_known(environment: bare.Environment, dag_id: str) -> None:
    """Wait until the DAG was parsed by this version: its details come from the serialized form."""
    eventually(
        lambda: environment.call("GET", f"/dags/{dag_id}/details").status_code == 200,
        within_s=60,
        what=f"{dag_id} known",
    )


def _read(environment: bare.Environment) -> dict[str, Any]:
    target = environment.home / "facts.json"
    target.unlink(missing_ok=True)
    result = environment.run("python", "-P", str(_FACTS), str(target))
    assert result.returncode == 0, result.stderr[-4000:]
    found: dict[str, Any] = json.loads(target.read_text())
    return found


def _compare(before: dict[str, Any], after: dict[str, Any]) -> None:
    for roles in (before["custom roles"], after["custom roles"]):
        # Airflow's `sync-perm` gives it to every custom role (`add_homepage_access_to_custom_roles`).
        roles["TeamA"] = [right for right in roles["TeamA"] if right != "can_read Website"]
    for kind, rows in before.items():
        assert after[kind] == rows, kind


def _connect(environment: bare.Environment) -> psycopg.Connection[Any]:
    return psycopg.connect(environment.secrets[METADATA_URL].reveal().replace("+psycopg2", ""))
