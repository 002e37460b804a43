"""`kill -9` of the node agent: what runs goes on, is adopted, and never runs twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from openmwaa.environments.manifest import Manifest
from openmwaa.kit.errors import Retry
from openmwaa.supervise.identity import identity_of, marked, running
from tests.support.node import NodeHost, a_node_host, changed, eventually, pids_by_name, scaled

_DIES = """
import os, signal, sys
import openmwaa.supervise.process as process
from openmwaa.supervise import ProcessTable

where, victim = sys.argv[1:3]
del sys.argv[1:3]
write, begin = ProcessTable.write, process._begin

def dying_write(self, record):
    ours = record.name.endswith(victim)
    if ours and where == "before-identity" and record.identity:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, record)
    if ours and where == "after-record" and not record.identity:
        os.kill(os.getpid(), signal.SIGKILL)

def dying_begin(spec, marker):
    begun = begin(spec, marker)
    if where == "after-spawn" and spec.name.endswith(victim):
        os.kill(os.getpid(), signal.SIGKILL)
    return begun

ProcessTable.write, process._begin = dying_write, dying_begin
from openmwaa.cli.main import main
main()
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def host() -> AsyncIterator[NodeHost]:
    async with a_node_host(21060) as host:
        yield host


@pytest.fixture
async def environment(host: NodeHost) -> AsyncIterator[Manifest]:
    """An environment that runs as wanted, and an agent that answers at the end."""
    manifest = scaled(host.manifest(), 2)
    await host.running(manifest)
    yield manifest
    assert host.agent is not None
    if host.agent.poll() is not None:
        await host.start()
    await host.backend.destroy(manifest.environment_id)
    assert not host.pids(manifest.environment_id)


def everything(host: NodeHost, manifest: Manifest) -> dict[str, list[int]]:
    """Return the main processes by name, the broker's too, found without the agent."""
    prefix = f"{host.table}{manifest.environment_id}/"
    found: dict[str, list[int]] = {}
    for one in running():
        pid = one.identity.pid
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            task_of_worker = "sleep(3600)" in Path(f"/proc/{pid}/cmdline").read_text()
            if one.marker.startswith(prefix) and os.getsid(pid) == pid and not task_of_worker:
                found.setdefault(one.marker.removeprefix(prefix).partition(":")[0], []).append(pid)
    return found


async def test_what_runs_goes_on_and_is_adopted(host: NodeHost, environment: Manifest) -> None:
    before = everything(host, environment)
    assert {name: len(pids) for name, pids in before.items()} == {
        "scheduler-0": 1,
        "webserver-0": 1,
        "worker-0": 1,
        "worker-1": 1,
        "broker": 1,
    }
    for _ in range(3):
        host.kill()
        assert everything(host, environment) == before
        with pytest.raises(Retry):
            await host.backend.observe(environment.environment_id)
        await host.start()
        seen = await host.converged(environment)
        assert everything(host, environment) == before
        assert all(one.restarts == 0 for one in seen.replicas)


async def test_what_it_adopted_it_keeps(host: NodeHost, environment: Manifest) -> None:
    host.kill()
    await host.start()
    for name, pid in pids_by_name(await host.converged(environment)).items():
        os.kill(pid, signal.SIGKILL)

        async def replaced(name: str = name, pid: int = pid) -> bool:
            seen = pids_by_name(await host.backend.observe(environment.environment_id))
            return seen.get(name, pid) != pid

        await eventually(replaced, within_s=15, what=f"{name} started again")
    seen = await host.converged(environment)
    assert {one.last_exit for one in seen.replicas} == {"ended"}  # only a parent learns the code


async def test_what_ended_meanwhile_is_started_again(host: NodeHost, environment: Manifest) -> None:
    before = everything(host, environment)
    host.kill()
    for name in ("worker-1", "broker"):
        os.kill(before[name][0], signal.SIGKILL)
    await host.start()
    seen = await host.converged(environment)
    after = everything(host, environment)
    assert all(len(pids) == 1 for pids in after.values())
    assert {name for name in after if after[name] != before[name]} == {"worker-1", "broker"}
    assert [one.restarts for one in seen.replicas] == [0, 0, 0, 1]


@pytest.mark.parametrize("where", ["after-record", "after-spawn", "before-identity"])
@pytest.mark.parametrize("victim", ["/broker", "/scheduler-0", "/worker-0"])
async def test_killed_between_start_and_record(host: NodeHost, where: str, victim: str) -> None:
    """Also while the agent itself is killed again and again at the same line."""
    manifest = scaled(host.manifest(), 2)
    host.kill()
    await host.start(("-c", _DIES, where, victim))
    agent = host.agent
    assert agent is not None
    try:
        await host.backend.prepare(manifest)
        await host.backend.ensure(manifest)
    except Retry:
        pass  # it died while it was asked
    await eventually(lambda: agent.poll() is not None, within_s=20, what="the agent died")
    assert agent.returncode == -signal.SIGKILL
    spawned = list(marked(f"{host.table}{manifest.environment_id}{victim}:"))
    await host.start()
    await host.running(manifest)
    after = everything(host, manifest)
    assert all(len(pids) == 1 for pids in after.values()), after
    assert len(after) == 5
    if where != "after-record":
        assert after[victim.removeprefix("/")][0] in spawned  # found again by its marker, not started anew
    await host.backend.destroy(manifest.environment_id)
    assert not host.pids(manifest.environment_id)


async def test_killed_while_it_replaces(host: NodeHost, environment: Manifest) -> None:
    before = everything(host, environment)
    following = changed(environment, PLAIN="other", WEB_READY_AFTER_S="2")
    await host.backend.ensure(following)
    await eventually(
        lambda: (
            everything(host, environment).get("scheduler-0", before["scheduler-0"]) != before["scheduler-0"]
        ),
        within_s=10,
        what="the first one replaced",
    )
    host.kill()
    await host.start()
    seen = await host.converged(following)
    after = everything(host, environment)
    assert all(len(pids) == 1 for pids in after.values())
    assert {name for name in after if after[name] == before[name]} == {"broker"}
    assert len(seen.replicas) == 4


async def test_killed_while_a_worker_drains(host: NodeHost, environment: Manifest) -> None:
    """The next agent finds it although nobody wants it, and gives it the time that it was promised."""
    slow = changed(environment, DRAIN_S="12")
    await host.backend.ensure(slow)
    await host.converged(slow, within_s=60)
    diary = len(host.diary(environment.environment_id))
    await host.backend.ensure(scaled(slow, 1))
    await asyncio.sleep(1)
    host.kill()
    await host.start()
    await host.converged(scaled(slow, 1))
    assert "worker-1 drained" in host.diary(environment.environment_id)[diary:]
    assert "worker-1" not in everything(host, environment)


async def test_a_command_of_a_dead_agent_is_ended_by_the_next(host: NodeHost, environment: Manifest) -> None:
    code = "import time; time.sleep(600)"
    command = asyncio.create_task(host.backend.run(environment, ("python", "-c", code), timeout_s=600))
    prefix = f"{host.table}{environment.environment_id}/run-"
    await eventually(lambda: any(marked(prefix)), within_s=10, what="the command runs")
    pids = list(marked(prefix))
    host.kill()
    with pytest.raises(Retry):
        await command
    await host.start()
    assert not [pid for pid in pids if identity_of(pid)]
    await host.converged(environment)


async def test_killed_while_it_destroys_it_starts_nothing_again(host: NodeHost) -> None:
    manifest = host.manifest(variables={"DRAIN_S": "30"})
    await host.running(manifest)
    ending = asyncio.create_task(host.backend.destroy(manifest.environment_id))
    await eventually(
        lambda: "scheduler-0" not in everything(host, manifest), within_s=10, what="it has begun"
    )
    host.kill()
    with pytest.raises(Retry):
        await ending
    await host.start()
    seen = await host.backend.observe(manifest.environment_id)
    assert seen.exists
    assert not seen.converged
    await host.backend.destroy(manifest.environment_id)
    assert not (await host.backend.observe(manifest.environment_id)).exists
    assert not host.pids(manifest.environment_id)


async def test_of_two_agents_one_leaves(host: NodeHost, environment: Manifest) -> None:
    before = everything(host, environment)
    first = host.agent
    assert first is not None
    host.launch()
    second = host.agent
    assert second is not None
    host.agent = first
    await asyncio.to_thread(second.wait, 60)
    assert second.returncode == 1
    assert "another process supervises" in host.log_tail()
    await host.converged(environment)
    assert everything(host, environment) == before
