"""A change of version is sabotaged at every step: it ends on the new version or on the old one.

Never between: the status is AVAILABLE or UPDATE_FAILED, the rows are all there, nothing is left
of the attempt, and the environment works.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from openmwaa.reconcile.plan import Step
from openmwaa.supervise import ProcessTable
from openmwaa.supervise.identity import running
from tests.faults.test_kill_each import kill, service_pid
from tests.support.eventually import eventually
from tests.support.moves import MOVES, MOVES_BACK, USERS_ROWS, Statuses, Steps, Traveller, settled
from tests.support.service import Service, a_home, a_service

pytestmark = pytest.mark.timeout(1200)

OLD, NEW = "2.11.2", "3.3.1"
RUNS = 20
STEPS = (
    Step.INSTALL_RUNTIME,
    Step.PREPARE,
    Step.LOOK_AT_DAGS,
    Step.STOP_COMPONENTS,
    Step.COPY_DATABASE,
    Step.MIGRATE_DATABASE,
    Step.CHECK_DAGS,
    Step.START,
    Step.VERIFY,
    Step.DRAIN,
    Step.DROP_COPIES,
)
"""Every step of a change of version of an environment without requirements and start-up script."""

_BLOCK_BYTES = 4096
_SMALL_DISK_PORT_BASE = 28790
UNDER_WAY = {"UPDATING", "CREATING_SNAPSHOT"}
_OLD_DAG = """
from datetime import datetime
from airflow.models.dag import DAG

with DAG("only_two", schedule_interval=None, start_date=datetime(2026, 1, 1)):
    pass
"""


@pytest.fixture(scope="module")
def traveller(service: Service) -> Iterator[Traveller]:
    """An environment with a history; each test leaves it on one of the two versions."""
    made = Traveller.start(service, "sabotaged", OLD)
    made.populate(RUNS)
    yield made
    settled(service, made.name)
    service.delete(made.name)


@contextmanager
def moving(traveller: Traveller, version: str, **members: Any) -> Iterator[Steps]:
    """Ask for a version, let the block sabotage it, and assert that it failed as a whole."""
    service, old = traveller.service, traveller.version
    before = traveller.counts()
    steps = Steps(service, traveller.name)
    with Statuses(service, traveller.name) as statuses:
        service.client("mwaa").update_environment(Name=traveller.name, AirflowVersion=version, **members)
        yield steps
        seen = settled(service, traveller.name)
    ended_as_one(traveller, seen, statuses, old=old, new=version, before=before)


def ended_as_one(
    traveller: Traveller,
    seen: dict[str, Any],
    statuses: Statuses,
    *,
    old: str,
    new: str,
    before: dict[str, int],
) -> None:
    """Assert that an environment is wholly on one of two versions, and works."""
    assert (seen["Status"], seen["AirflowVersion"]) in {("AVAILABLE", new), ("UPDATE_FAILED", old)}, seen
    if seen["Status"] == "AVAILABLE":
        statuses.were_only(*MOVES)
        assert traveller.counts(USERS_ROWS) == {table: before[table] for table in USERS_ROWS}
    else:
        statuses.were_only(*MOVES_BACK)
        assert seen["LastUpdate"]["Status"] == "FAILED"
        assert traveller.counts() == before
    traveller.works()
    traveller.is_tidy()


def failed(traveller: Traveller) -> str:
    """Return the message of an update that must have failed."""
    seen = traveller.service.environment(traveller.name)
    assert seen["Status"] == "UPDATE_FAILED"
    error = seen["LastUpdate"]["Error"]
    assert error["ErrorCode"] == "INCORRECT_CONFIGURATION"
    return str(error["ErrorMessage"])


def other_version(traveller: Traveller) -> str:
    """Return the version that it is not on."""
    return OLD if traveller.version == NEW else NEW


def migration_at_work(traveller: Traveller) -> int:
    """Return the pid of the command that migrates, once it has changed something."""
    prefix = ProcessTable(traveller.service.settings.layout.node_processes).marker_prefix(
        f"{traveller.id}/run-"
    )
    busy = traveller.sql(
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND query ~* '^\\s*(ALTER|CREATE|UPDATE|INSERT|DROP)'"
    )
    if not busy:
        return 0
    for one in running():
        if one.marker.startswith(prefix) and "openmwaa_airflow." in _command(one.identity.pid):
            return one.identity.pid
    return 0


def _command(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


@pytest.mark.thorough
def test_a_killed_migration_is_undone(traveller: Traveller) -> None:
    """The migrating process is killed while it changes tables: the old version runs on the old rows."""
    with moving(traveller, other_version(traveller)) as steps:
        steps.when(Step.MIGRATE_DATABASE, lambda: None)
        pid = eventually(lambda: migration_at_work(traveller), within_s=60, every_s=0.01, what="migrating")
        kill(pid)
    assert "openmwaa_airflow" in failed(traveller)


@pytest.mark.thorough
def test_a_version_that_is_not_healthy_is_undone(traveller: Traveller) -> None:
    """A setting with which the new version's worker cannot start: its database was migrated, and is put back."""
    before = traveller.service.environment(traveller.name).get("AirflowConfigurationOptions", {})
    options = {"celery.worker_autoscale": "abc"}
    with moving(traveller, other_version(traveller), AirflowConfigurationOptions=options) as steps:
        pass
    assert Step.RESTORE_DATABASE in steps.begun()
    assert "worker-0" in failed(traveller)
    assert traveller.service.environment(traveller.name).get("AirflowConfigurationOptions", {}) == before


@pytest.mark.thorough
def test_a_dag_that_the_new_version_cannot_import_is_named(traveller: Traveller) -> None:
    """The update is refused after the migration, rolled back, and says which file and why."""
    traveller.at(OLD)
    s3 = traveller.service.client("s3")
    s3.put_object(Bucket=traveller.bucket, Key="dags/only_two.py", Body=_OLD_DAG.encode())
    try:
        eventually(
            lambda: traveller.sql("SELECT 1 FROM dag WHERE dag_id = 'only_two' AND is_active"),
            within_s=60,
            what="the DAG is parsed",
        )
        with moving(traveller, NEW):
            pass
        message = failed(traveller)
        assert "only_two.py" in message
        assert "schedule_interval" in message
    finally:
        s3.delete_object(Bucket=traveller.bucket, Key="dags/only_two.py")


@pytest.mark.thorough
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("victim", ["control", "node", "postgres"])
def test_a_kill_at_any_step_leaves_one_version(traveller: Traveller, victim: str, step: Step) -> None:
    """`kill -9` of a process of the service as the step begins, on the way up or down."""
    pid = service_pid(traveller.service, victim)
    with moving(traveller, other_version(traveller)) as steps:
        steps.when(step, lambda: kill(pid))


@pytest.mark.thorough
@pytest.mark.parametrize("victim", ["control", "node", "postgres"])
def test_a_kill_while_it_is_undone_leaves_the_old_version(traveller: Traveller, victim: str) -> None:
    """The migration is killed, and then, as its database is put back, a process of the service."""
    pid = service_pid(traveller.service, victim)
    with moving(traveller, other_version(traveller)) as steps:
        steps.when(Step.MIGRATE_DATABASE, lambda: None)
        kill(eventually(lambda: migration_at_work(traveller), within_s=60, every_s=0.01, what="migrating"))
        steps.when(Step.RESTORE_DATABASE, lambda: kill(pid))
    failed(traveller)


@pytest.mark.thorough
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
@pytest.mark.parametrize("step", [Step.COPY_DATABASE, Step.MIGRATE_DATABASE])
def test_a_full_disk_ends_on_one_version(step: Step) -> None:
    """The disk of the home is filled up as a step begins, and freed half a minute later."""
    with a_home() as home, a_small_disk(home), a_service(home, _SMALL_DISK_PORT_BASE) as service:
        traveller = Traveller.start(service, "small-disk", OLD)
        traveller.populate(RUNS)
        ballast = home / "ballast"
        with moving(traveller, NEW) as steps:
            steps.when(step, lambda: fill(ballast))
            # It may also wait for space, and go on when there is some.
            with suppress(AssertionError):
                eventually(
                    lambda: service.environment(traveller.name)["Status"] not in UNDER_WAY,
                    within_s=20,
                    errors=(ClientError, BotoCoreError),
                )
            ballast.unlink()
        service.delete(traveller.name)


@contextmanager
def a_small_disk(folder: Path) -> Iterator[None]:
    """Mount a file system of its own at a folder."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500m,mode=755", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(ballast: Path) -> None:
    """Leave nothing of a file system free, whatever others write meanwhile."""
    with ballast.open("wb") as file:
        size, end = shutil.disk_usage(ballast.parent).free, 0
        while size >= _BLOCK_BYTES:
            try:
                os.posix_fallocate(file.fileno(), end, size)
                end += size
            except OSError:  # the file system's own notes take some, too
                size //= 2
