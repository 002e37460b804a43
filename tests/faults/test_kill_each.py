"""`kill -9` of every process, one after the other, while a 60-second task runs."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import psutil
import pytest

from tests.support.environment import VERSIONS, Environment
from tests.support.eventually import eventually
from tests.support.runs import state_of, task_instances, trigger, wait_for_dag, wait_for_run
from tests.support.service import Service

pytestmark = pytest.mark.timeout(900)

NEWEST = VERSIONS[-1]


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(version, marks=() if version == NEWEST else pytest.mark.thorough) for version in VERSIONS
    ],
)
def environment(
    request: pytest.FixtureRequest,
    environments: dict[str, Environment],
) -> Environment:
    """The newest version; each in turn in the thorough run."""
    return environments[request.param]


def kill(pid: int) -> None:
    """Kill -9 one process that the service itself reported."""
    os.kill(pid, signal.SIGKILL)


def test_killing_the_services_own_processes_leaves_the_task_alone(
    service: Service,
    environment: Environment,
) -> None:
    """Control, node, PostgreSQL, SeaweedFS and Caddy are killed in turn; the task succeeds at its first try."""
    wait_for_dag(service, environment.name, "slow")
    run_id = trigger(service, environment.name, "slow")
    eventually(lambda: state_of(service, environment.name, "slow", run_id) == "running", within_s=30)
    before = replicas(service, environment)
    for name in ("control", "node", "postgres", "seaweedfs", "caddy"):
        pid = service_pid(service, name)
        kill(pid)
        eventually(
            lambda name=name, pid=pid: service_pid(service, name) not in {0, pid},
            within_s=30,
            what=f"{name} started again",
        )
    assert wait_for_run(service, environment.name, "slow", run_id, within_s=150) == "success"
    tries = [one["try_number"] for one in task_instances(service, environment.name, "slow", run_id)]
    assert tries == [1]
    assert service.environment(environment.name)["Status"] == "AVAILABLE"
    workers = {key: pid for key, pid in replicas(service, environment).items() if key[0] == "worker"}
    assert workers == {key: pid for key, pid in before.items() if key[0] == "worker"}


def test_killing_each_component_does_not_fail_the_run(
    service: Service,
    environment: Environment,
) -> None:
    """Every Airflow component is killed in turn, the worker last; the run succeeds with at most one retry."""
    wait_for_dag(service, environment.name, "slow")
    run_id = trigger(service, environment.name, "slow")
    eventually(lambda: state_of(service, environment.name, "slow", run_id) == "running", within_s=30)
    order = ("scheduler", "dag-processor", "triggerer", "webserver", "worker")
    for kind in order:
        pid = replicas(service, environment)[kind, 0]
        kill(pid)
        eventually(
            lambda kind=kind, pid=pid: replicas(service, environment).get((kind, 0), pid) != pid,
            within_s=40,
            what=f"{kind} started again",
        )
    killed_at = time.monotonic()
    assert wait_for_run(service, environment.name, "slow", run_id, within_s=240) == "success"
    tries = [one["try_number"] for one in task_instances(service, environment.name, "slow", run_id)]
    assert tries in ([1], [2])
    assert time.monotonic() - killed_at < 60 + 60 + 40  # noticed within 60 s, then 60 s of work
    eventually(lambda: all_ready(service, environment), within_s=60, what="every component ready")
    assert service.environment(environment.name)["Status"] == "AVAILABLE"


def replicas(service: Service, environment: Environment) -> dict[tuple[str, int], int]:
    """Return the pid of each replica."""
    shown: dict[str, Any] = service.json("env", "show", environment.name)
    return {(one["kind"], one["index"]): one["pid"] for one in shown["replicas"] if one["running"]}


def all_ready(service: Service, environment: Environment) -> bool:
    """Return whether each replica is ready."""
    shown: dict[str, Any] = service.json("env", "show", environment.name)
    return bool(shown["replicas"]) and all(one["ready"] for one in shown["replicas"])


def service_pid(service: Service, name: str) -> int:
    """Return the pid of one of the service's own processes; 0 while it is down."""
    for one in service.json("status")["processes"]:
        if one["name"] == name and one["pid"] and psutil.pid_exists(one["pid"]):
            return int(one["pid"])
    return 0
