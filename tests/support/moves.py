"""An environment with a history, looked at from outside Airflow while it is changed."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

import psycopg
from botocore.exceptions import BotoCoreError, ClientError

from openmwaa.services.endpoints import load_endpoints
from openmwaa.supervise import ProcessTable
from openmwaa.supervise.identity import running
from tests.support.dags import HELLO, IMPORTS
from tests.support.eventually import eventually
from tests.support.runs import trigger, wait_for_dag, wait_for_run
from tests.support.service import SETTLED, Service

READS = (
    IMPORTS
    + """
@dag(dag_id="reads", schedule=None, catchup=False, is_paused_upon_creation=False)
def reads():
    @task
    def read():
        try:
            from airflow.sdk import Connection, Variable
            one = Connection.get("c1")
        except ImportError:
            from airflow.hooks.base import BaseHook
            from airflow.models import Variable
            one = BaseHook.get_connection("c1")
        return "|".join([one.host, one.login, one.password, one.extra_dejson["token"], Variable.get("v1")])

    read()

reads()
"""
)
"""A DAG of both generations that hands out what is encrypted in the database."""

DAGS = {"hello.py": HELLO, "reads.py": READS}
SECRETS = "db.example|me|pässword 1|t1|välue 1"
ROLE = "TeamA"
COUNTED = ("dag_run", "task_instance", "connection", "variable", "ab_user", "ab_role")
USERS_ROWS = COUNTED[:5]
"""What every move keeps; a version brings built-in roles of its own."""

MOVES = ("AVAILABLE", "UPDATING", "CREATING_SNAPSHOT", "UPDATING", "AVAILABLE")
"""What a change of version shows that succeeds (mwaa.md 2.6)."""

MOVES_BACK = ("AVAILABLE", "UPDATING", "CREATING_SNAPSHOT", "UPDATING", "ROLLING_BACK", "UPDATE_FAILED")
"""What one shows that fails, wherever it does."""


@dataclass
class Traveller:
    """An environment that goes from version to version.

    Attributes:
        id: Names its databases and processes.
    """

    service: Service
    name: str
    bucket: str
    id: str

    @classmethod
    def start(cls, service: Service, name: str, version: str, **members: Any) -> Self:
        """Create one and wait until it is available."""
        bucket = service.bucket(DAGS)
        members = {"EnvironmentClass": "mw1.micro", "AirflowVersion": version, **members}
        service.create(name, bucket, **members)
        service.available(name, within_s=600)
        return cls(service, name, bucket, service.json("env", "show", name)["id"])

    @property
    def version(self) -> str:
        return str(self.service.environment(self.name)["AirflowVersion"])

    def at(self, version: str) -> None:
        """Bring it to a version, unless it is there."""
        if self.version != version:
            self.service.client("mwaa").update_environment(Name=self.name, AirflowVersion=version)
            self.service.available(self.name)

    def sql(self, query: str, parameters: Sequence[Any] | None = None) -> list[Any]:
        """Run a statement in its metadata database; waits for the server."""
        url = load_endpoints(self.service.settings).postgres_url.reveal()
        url = f"{url.rpartition('/')[0]}/env_{self.id}"

        def run() -> tuple[list[Any]]:
            with psycopg.connect(url, autocommit=True) as connection:
                cursor = connection.execute(query.encode(), parameters)
                return (cursor.fetchall() if cursor.description else [],)

        return eventually(run, within_s=30, errors=(psycopg.OperationalError,), what="the database")[0]

    def counts(self, tables: Sequence[str] = COUNTED) -> dict[str, int]:
        """Return the number of rows of each table."""
        columns = ", ".join(f"(SELECT count(*) FROM {table})" for table in tables)
        return dict(zip(tables, self.sql(f"SELECT {columns}")[0], strict=True))

    def databases(self) -> set[str]:
        """Return the names of its database and of every one beside it."""
        rows = self.sql("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (f"env_{self.id}",))
        return {row[0] for row in rows}

    def processes(self) -> dict[str, set[str]]:
        """Return the starts of everything that runs for it, by name: one start each, unless one was left."""
        prefix = ProcessTable(self.service.settings.layout.node_processes).marker_prefix(f"{self.id}/")
        found: dict[str, set[str]] = {}
        for one in running():
            if one.marker.startswith(prefix):
                name, _, start = one.marker.removeprefix(prefix).partition(":")
                found.setdefault(name, set()).add(start)
        return found

    def cli(self, command: str) -> str:
        """Run an Airflow command through CreateCliToken; returns its standard output."""
        token = self.service.client("mwaa").create_cli_token(Name=self.name)
        with self.service.http() as http:
            answer = http.post(
                f"https://{token['WebServerHostname']}/aws_mwaa/cli",
                headers={"Authorization": f"Bearer {token['CliToken']}", "Content-Type": "text/plain"},
                content=command,
            )
        said = {key: base64.b64decode(value).decode() for key, value in answer.json().items()}
        assert answer.status_code == 200, said
        return said["stdout"]

    def populate(self, runs: int) -> None:
        """Give it runs with tasks and XComs, connections, variables, a custom role."""
        for number in range(3):
            variable = {"key": f"v{number}", "value": f"välue {number}"}
            self.service.rest(self.name, "POST", "/variables", body=variable)
            connection = {
                "connection_id": f"c{number}",
                "conn_type": "postgres",
                "host": "db.example",
                "login": "me",
                "password": f"pässword {number}",
                "extra": json.dumps({"token": f"t{number}"}),
            }
            self.service.rest(self.name, "POST", "/connections", body=connection)
        self.cli(f"roles create {ROLE}")
        self.cli(f"roles add-perms {ROLE} -r DAGs -a can_read")
        self.works()
        self._multiply(runs)

    def _multiply(self, runs: int) -> None:
        """Copy one real run with its tasks and XComs, whatever columns this version has."""
        source = self.sql("SELECT run_id FROM dag_run WHERE dag_id = 'hello' LIMIT 1")[0][0]
        changed = {
            "dag_run": "'id', nextval('dag_run_id_seq'), 'run_id', 'copy-' || n,"
            " 'execution_date', now() - n * interval '1 hour',"
            " 'logical_date', now() - n * interval '1 hour', 'run_after', now() - n * interval '1 hour'",
            "task_instance": "'id', gen_random_uuid(), 'run_id', 'copy-' || n",
            "xcom": "'run_id', 'copy-' || n, 'dag_run_id', (SELECT id FROM dag_run WHERE run_id = 'copy-' || n)",
        }
        for table, columns in changed.items():
            self.sql(
                f"INSERT INTO {table} SELECT (jsonb_populate_record(r, jsonb_build_object({columns}))).*"
                f" FROM {table} r, generate_series(1, {runs}) n WHERE r.run_id = %s",
                (source,),
            )

    def works(self) -> None:
        """Assert that a new run succeeds; it may take a retry while components come back."""
        wait_for_dag(self.service, self.name, "hello", within_s=90)
        run_id = eventually(
            lambda: trigger(self.service, self.name, "hello"), within_s=60, every_s=1, errors=(ClientError,)
        )
        assert wait_for_run(self.service, self.name, "hello", run_id, within_s=180) == "success"

    def is_readable(self, runs: int) -> None:
        """Assert that what it was given is there, as callers and tasks see it."""
        listed = self.service.rest(self.name, "GET", "/dags/hello/dagRuns", query={"limit": 1})
        assert listed["total_entries"] > runs
        one = self.service.rest(self.name, "GET", "/dags/hello/dagRuns/copy-1")
        assert one["state"] == "success"
        tasks = self.service.rest(self.name, "GET", "/dags/hello/dagRuns/copy-1/taskInstances")
        assert {task["task_id"]: task["state"] for task in tasks["task_instances"]} == {
            "make": "success",
            "double": "success",
        }
        assert self.service.rest(self.name, "GET", "/connections/c2")["host"] == "db.example"
        assert self.service.rest(self.name, "GET", "/variables/v2")["value"] == "välue 2"
        assert "välue 0" in self.cli("variables get v0")
        assert ROLE in self.cli("roles list")
        wait_for_dag(self.service, self.name, "reads")
        run_id = trigger(self.service, self.name, "reads")
        assert wait_for_run(self.service, self.name, "reads", run_id) == "success"
        path = f"/dags/reads/dagRuns/{run_id}/taskInstances/read/xcomEntries/return_value"
        assert self.service.rest(self.name, "GET", path)["value"].strip('"') == SECRETS

    def is_tidy(self) -> None:
        """Assert that nothing is left of a change: no copies, no second processes, no commands."""
        assert self.databases() == {f"env_{self.id}"}
        shown = self.service.json("env", "show", self.name)
        wanted = {f"{one['kind']}-{one['index']}" for one in shown["replicas"]} | {"broker"}

        def tidy() -> bool:
            found = self.processes()
            return set(found) == wanted and all(len(starts) == 1 for starts in found.values())

        eventually(tidy, within_s=20, what=f"only {sorted(wanted)} run")


@dataclass
class Statuses:
    """Every status that GetEnvironment shows while the block runs, each once in a row."""

    service: Service
    name: str
    seen: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="statuses")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=120)

    def _watch(self) -> None:
        mwaa = self.service.client("mwaa")
        while not self._stop.wait(0.01):
            with suppress(ClientError, BotoCoreError):
                answer = mwaa.get_environment(Name=self.name)
                assert "Environment" in answer, answer  # its headers tell whose answer it is
                status = answer["Environment"]["Status"]
                if self.seen[-1:] != [status]:
                    self.seen.append(status)

    def were_only(self, *sequence: str) -> None:
        """Assert that what was seen is this sequence, or parts of it in this order."""
        left = iter(sequence)
        seen = ["AVAILABLE" if n == 0 and one == "UPDATE_FAILED" else one for n, one in enumerate(self.seen)]
        assert all(one in left for one in seen), self.seen


class Steps:
    """The steps of the reconciler, as its log tells of them from now on."""

    def __init__(self, service: Service, name: str) -> None:
        self._path = service.settings.layout.logs / "control.log"
        self._name = name
        self._read = self._path.stat().st_size

    def begun(self) -> list[str]:
        """Return every step that was begun, in order."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            lines = file.read().splitlines()
        steps = []
        for line in lines:
            with suppress(ValueError):
                entry = json.loads(line)
                if entry.get("event") == "step_started" and entry.get("environment") == self._name:
                    steps.append(str(entry["step"]))
        return steps

    def when(self, step: str, act: Callable[[], object], *, within_s: float = 180) -> None:
        """Do something as soon as a step has begun."""
        eventually(lambda: step in self.begun(), within_s=within_s, every_s=0.01, what=f"{step} begun")
        act()


def settled(service: Service, name: str, *, within_s: float = 600) -> dict[str, Any]:
    """Wait until no operation runs on an environment, also while the service's processes are killed."""

    def probe() -> dict[str, Any] | None:
        environment = service.environment(name)
        return environment if environment["Status"] in SETTLED else None

    errors = (ClientError, BotoCoreError)
    return eventually(probe, within_s=within_s, every_s=0.5, what=f"{name} settled", errors=errors)


def events_since(service: Service, name: str, started: float) -> list[dict[str, Any]]:
    """Return an environment's events since a moment of `time.time()`, oldest first."""
    iso = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(started))
    events: list[dict[str, Any]] = service.json("events", name)
    return [one for one in events if one["at"] >= iso]
