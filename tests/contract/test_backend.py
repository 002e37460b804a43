"""What every backend promises (`backends/base.py`), checked with real processes that are not Airflow."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from openmwaa.backends.base import Observed
from openmwaa.backends.local.stop import stop_all_environments
from openmwaa.environments.manifest import Kind, Manifest
from openmwaa.kit.errors import GiveUp, Retry
from openmwaa.supervise.identity import identity_of, marked, user_of
from tests.support.node import SECRET_TEXT, NodeHost, changed, eventually, pids_by_name, scaled


@pytest.fixture
async def environment(host: NodeHost) -> AsyncIterator[Manifest]:
    """A prepared environment: commands run, components do not."""
    manifest = host.manifest()
    await host.backend.prepare(manifest)
    yield manifest
    await host.backend.destroy(manifest.environment_id)


async def run(
    host: NodeHost, manifest: Manifest, code: str, *, timeout_s: float = 30, stdin: bytes = b""
) -> str:
    """Run Python in the environment and return what it prints."""
    result = await host.backend.run(manifest, ("python", "-c", code), timeout_s=timeout_s, stdin=stdin)
    assert result.exit_code == 0, result
    return result.stdout.decode().strip()


async def test_nothing_is_seen_of_an_unknown_environment(host: NodeHost) -> None:
    assert not (await host.backend.observe("unknown")).exists


async def test_place_is_pure(host: NodeHost) -> None:
    first, second = (host.backend.place("abc", 7, "r") for _ in range(2))
    assert first == second
    assert first != host.backend.place("abd", 8, "r")


class TestCommands:
    async def test_they_get_the_environments_variables_and_secrets_and_no_others(
        self, host: NodeHost, environment: Manifest
    ) -> None:
        printed = await run(host, environment, "import json, os; print(json.dumps(dict(os.environ)))")
        variables = json.loads(printed)
        assert variables["PLAIN"] == "plain text"
        assert variables["SEALED"] == SECRET_TEXT
        allowed = {*environment.variables, *environment.secrets, "TZ", "OPENMWAA_PROCESS", "SPT_NOENV"}
        assert set(variables) <= allowed | {"LC_CTYPE", "PWD"}

    async def test_stdin_exit_code_and_both_outputs(self, host: NodeHost, environment: Manifest) -> None:
        code = "import sys; print(sys.stdin.read()[::-1]); print('bad', file=sys.stderr); sys.exit(3)"
        result = await host.backend.run(environment, ("python", "-c", code), timeout_s=30, stdin=b"abc")
        assert (result.exit_code, result.stdout, result.stderr) == (3, b"cba\n", b"bad\n")

    async def test_arguments_reach_no_shell(self, host: NodeHost, environment: Manifest) -> None:
        argv = ("python", "-c", "import sys; print(sys.argv[1:])", "$HOME; `id`", "a b", "{index}")
        result = await host.backend.run(environment, argv, timeout_s=30)
        assert result.stdout.decode().strip() == "['$HOME; `id`', 'a b', '{index}']"

    async def test_at_the_time_limit_all_of_it_is_killed(self, host: NodeHost, environment: Manifest) -> None:
        code = """
import subprocess, sys, time
for options in ({}, {"start_new_session": True}, {"env": {}}):
    subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"], **options)
print("before", flush=True); time.sleep(600)
"""
        before = host.pids(environment.environment_id)
        result = await host.backend.run(environment, ("python", "-c", code), timeout_s=2)
        assert (result.exit_code, result.stdout) == (124, b"before\n")
        assert host.pids(environment.environment_id) == before

    async def test_a_child_that_keeps_the_output_open_does_not_hold_it_up(
        self, host: NodeHost, environment: Manifest
    ) -> None:
        """As `airflow … --daemon` does."""
        code = """
import subprocess, sys
subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"], start_new_session=True)
print("done")
"""
        began = time.monotonic()
        assert await run(host, environment, code, timeout_s=60) == "done"
        assert time.monotonic() - began < 20

    async def test_output_is_cut_off_not_lost(self, host: NodeHost, environment: Manifest) -> None:
        code = "import sys; sys.stdout.write('x' * 8_000_000); print('end', file=sys.stderr)"
        result = await host.backend.run(environment, ("python", "-c", code), timeout_s=30)
        assert result.exit_code == 0
        assert len(result.stdout) == 6 * 1024 * 1024
        assert result.stderr == b"end\n"

    async def test_they_find_the_dags_and_the_plug_in(self, host: NodeHost, environment: Manifest) -> None:
        code = "import openmwaa_airflow.hostname as m, os; print(os.listdir('dags'), os.path.exists(m.__cached__))"
        assert await run(host, environment, code) == "['first.py'] True"

    async def test_the_broker_answers_them(self, host: NodeHost, environment: Manifest) -> None:
        place = host.backend.place(environment.environment_id, environment.ordinal, environment.runtime)
        path = place.broker_url.removeprefix("redis+socket://").partition("?")[0]
        code = (
            f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({path!r})\n"
            "s.send(b'PING\\r\\n'); print(s.recv(9))"
        )
        assert await run(host, environment, code) == "b'+PONG\\r\\n'"

    async def test_a_program_that_does_not_exist_fails_in_words(
        self, host: NodeHost, environment: Manifest
    ) -> None:
        if host.settings.isolation == "off":
            with pytest.raises(GiveUp, match="no-such-program"):
                await host.backend.run(environment, ("no-such-program",), timeout_s=30)
            return
        result = await host.backend.run(environment, ("no-such-program",), timeout_s=30)
        assert result.exit_code != 0
        assert b"No such file" in result.stderr


class TestConvergence:
    async def test_every_replica_runs_and_is_ready(self, host: NodeHost, environment: Manifest) -> None:
        began = time.monotonic()
        seen = await host.running(scaled(environment, 2))
        took = time.monotonic() - began
        assert [(one.kind, one.index) for one in seen.replicas] == [
            (Kind.SCHEDULER, 0),
            (Kind.WEBSERVER, 0),
            (Kind.WORKER, 0),
            (Kind.WORKER, 1),
        ]
        by_kind = {one.kind: environment.component_hash(one) for one in environment.components}
        assert all(one.ready and one.running and one.restarts == 0 for one in seen.replicas)
        assert all(one.hash == by_kind[one.kind] for one in seen.replicas)
        assert seen.dags is not None
        assert (seen.dags.files, seen.dags.error) == (1, None)
        assert took < 15

    async def test_the_memory_of_every_replica_is_measured(
        self, host: NodeHost, environment: Manifest
    ) -> None:
        await host.running(environment)

        async def measured() -> bool:
            seen = await host.backend.observe(environment.environment_id)
            return bool(seen.replicas) and all(one.rss_bytes > 1_000_000 for one in seen.replicas)

        await eventually(measured, within_s=60, what="measured")

    async def test_the_web_server_is_reached_at_its_place(
        self, host: NodeHost, environment: Manifest
    ) -> None:
        seen = await host.running(environment)
        place = host.backend.place(environment.environment_id, environment.ordinal, environment.runtime)
        port = next(one.port for one in seen.replicas if one.kind is Kind.WEBSERVER)
        assert httpx.get(f"http://{place.address}:{port}/health", trust_env=False).status_code == 200

    async def test_wanting_the_same_again_replaces_nothing(
        self, host: NodeHost, environment: Manifest
    ) -> None:
        before = pids_by_name(await host.running(environment))
        for _ in range(3):
            await host.backend.ensure(environment)
        await asyncio.sleep(1.5)  # more than a round
        assert pids_by_name(await host.converged(environment)) == before

    async def test_scaling_touches_no_other_replica(self, host: NodeHost, environment: Manifest) -> None:
        before = pids_by_name(await host.running(environment))
        await host.backend.ensure(scaled(environment, 3))
        more = pids_by_name(await host.converged(scaled(environment, 3)))
        assert {"worker-1", "worker-2"} == set(more) - set(before)
        assert {name: more[name] for name in before} == before
        await host.backend.ensure(environment)
        assert pids_by_name(await host.converged(environment)) == before
        assert {line for line in host.diary(environment.environment_id) if "drained" in line} == {
            "worker-1 drained",
            "worker-2 drained",
        }

    async def test_a_worker_that_takes_its_time_to_leave_holds_nobody_up(
        self, host: NodeHost, environment: Manifest
    ) -> None:
        slow = scaled(changed(environment, DRAIN_S="8"), 2)
        await host.running(slow)
        await host.backend.ensure(scaled(slow, 1))
        await asyncio.sleep(1.5)
        victim = pids_by_name(await host.backend.observe(environment.environment_id))["scheduler-0"]
        os.kill(victim, signal.SIGKILL)
        await eventually(
            lambda: _has_new_pid(host, environment, "scheduler-0", victim), within_s=5, what="restarted"
        )
        assert "worker-1 drained" not in host.diary(environment.environment_id)
        await host.converged(scaled(slow, 1))
        assert "worker-1 drained" in host.diary(environment.environment_id)

    async def test_a_change_replaces_workers_last_and_one_after_the_other(
        self, host: NodeHost, environment: Manifest
    ) -> None:
        two = scaled(environment, 2)
        before = pids_by_name(await host.running(two))
        following = changed(two, PLAIN="other", WEB_READY_AFTER_S="1")
        started = len(host.diary(environment.environment_id))
        await host.backend.ensure(following)
        after = pids_by_name(await host.converged(following))
        assert set(after) == set(before)
        assert not set(after.values()) & set(before.values())
        diary = [line.split() for line in host.diary(environment.environment_id)[started:]]
        kinds = [kind for verb, kind, *_ in diary if verb == "start"]
        assert sorted(kinds[:2]) == ["idle", "web"]
        assert kinds[2:] == ["worker", "worker"]

    async def test_while_a_replaced_one_is_not_ready_the_rest_goes_on_as_it_was(
        self, host: NodeHost, environment: Manifest
    ) -> None:
        before = pids_by_name(await host.running(environment))
        broken = changed(environment, BREAK="web")
        await host.backend.ensure(broken)

        async def web_fails() -> bool:
            seen = await host.backend.observe(environment.environment_id)
            web = next(one for one in seen.replicas if one.kind is Kind.WEBSERVER)
            return web.restarts >= 2 and not web.ready and "web is broken" in web.log_tail

        await eventually(web_fails, within_s=20, what="the web server fails")
        seen = await host.backend.observe(environment.environment_id)
        assert not seen.converged
        assert pids_by_name(seen)["worker-0"] == before["worker-0"]
        assert next(one for one in seen.replicas if one.kind is Kind.WORKER).ready  # it still works
        assert next(one.last_exit for one in seen.replicas if one.kind is Kind.WEBSERVER) == "exit code 7"
        # Back again: what was never replaced stays.
        await host.backend.ensure(environment)
        assert pids_by_name(await host.converged(environment))["worker-0"] == before["worker-0"]

    async def test_a_failed_replacement_holds_the_rest_back_also_after_its_time(
        self, host: NodeHost, environment: Manifest
    ) -> None:
        impatient = dataclasses.replace(
            environment,
            components=tuple(dataclasses.replace(one, start_timeout_s=1) for one in environment.components),
        )
        before = pids_by_name(await host.running(impatient))
        await host.backend.ensure(changed(impatient, BREAK="web"))
        await asyncio.sleep(6)  # several times its time
        seen = await host.backend.observe(environment.environment_id)
        assert pids_by_name(seen)["worker-0"] == before["worker-0"]

    async def test_what_ends_is_started_again(self, host: NodeHost, environment: Manifest) -> None:
        before = pids_by_name(await host.running(environment))
        for name, pid in before.items():
            os.kill(pid, signal.SIGKILL)
            await eventually(
                lambda name=name, pid=pid: _has_new_pid(host, environment, name, pid),
                within_s=15,
                what=f"{name} started again",
            )
        seen = await host.converged(environment)
        assert [(one.restarts, one.last_exit) for one in seen.replicas] == [(1, "signal 9")] * 3
        # Nothing of the former instances is left: one main process and one child of the worker, and the broker.
        pids = host.pids(environment.environment_id)
        assert len(pids) == 5, [Path(f"/proc/{pid}/cmdline").read_text() for pid in pids]

    async def test_a_killed_broker_is_started_again_with_its_queue(
        self, host: NodeHost, environment: Manifest
    ) -> None:
        before = pids_by_name(await host.running(environment))
        await run(host, environment, _REDIS.format("RPUSH queue one two"))
        broker = next(marked(f"{host.table}{environment.environment_id}/broker:"))
        os.kill(broker, signal.SIGKILL)
        await eventually(
            lambda: set(marked(f"{host.table}{environment.environment_id}/broker:")) - {broker},
            within_s=10,
            what="broker started again",
        )

        async def kept() -> bool:
            result = await host.backend.run(
                environment, ("python", "-c", _REDIS.format("LLEN queue")), timeout_s=30
            )
            return b":2" in result.stdout

        await eventually(kept, within_s=10, what="the queue is there")
        assert pids_by_name(await host.converged(environment)) == before

    async def test_a_component_whose_program_is_missing_is_reported(
        self, host: NodeHost, environment: Manifest
    ) -> None:
        scheduler, *others = environment.components
        wrong = dataclasses.replace(
            environment, components=(dataclasses.replace(scheduler, argv=("no-such-program",)), *others)
        )
        await host.backend.ensure(wrong)

        async def reported() -> bool:
            seen = await host.backend.observe(environment.environment_id)
            by_kind = {one.kind: one for one in seen.replicas}
            broken = by_kind.get(Kind.SCHEDULER)
            said = f"{broken.last_exit} {broken.log_tail}" if broken else ""
            others_ready = all(
                by_kind[kind].ready for kind in (Kind.WEBSERVER, Kind.WORKER) if kind in by_kind
            )
            return len(by_kind) == 3 and others_ready and "No such file" in said

        await eventually(reported, within_s=20, what="the missing program is reported")

    async def test_dags_follow_the_bucket(self, host: NodeHost, environment: Manifest) -> None:
        seen = await host.running(environment)
        host.put_dag(environment, "second.py", "# second\n")

        async def followed() -> bool:
            now = await host.backend.observe(environment.environment_id)
            return now.dags is not None and now.dags.files == 2

        await eventually(followed, within_s=10, what="the new file")
        assert await run(host, environment, "print(open('dags/second.py').read())") == "# second"
        assert seen.dags is not None
        assert pids_by_name(await host.converged(environment)) == pids_by_name(seen)


class TestEnd:
    async def test_destroy_leaves_nothing(self, host: NodeHost) -> None:
        manifest = scaled(host.manifest(variables={"DRAIN_S": "60"}), 2)
        await host.running(manifest)
        orphan = """
import os, subprocess, sys
sleep = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]
print(subprocess.Popen(sleep, env={"OPENMWAA_PROCESS": "x"}, start_new_session=True,
                       stdout=2, stdin=subprocess.DEVNULL).pid)
"""
        isolated = (await host.backend.observe(manifest.environment_id)).isolation == "user+mounts"
        hidden = int(await run(host, manifest, orphan)) if isolated else None
        before = host.pids(manifest.environment_id)
        began = time.monotonic()
        await host.backend.destroy(manifest.environment_id)
        assert time.monotonic() - began < 15
        assert not (await host.backend.observe(manifest.environment_id)).exists
        assert not [pid for pid in before if identity_of(pid)]
        assert hidden is None or identity_of(hidden) is None
        assert not host.folder(manifest.environment_id).exists()
        assert not list(host.settings.layout.node_processes.glob(f"{manifest.environment_id}*"))
        await host.backend.destroy(manifest.environment_id)

    async def test_destroy_while_it_drains_and_rolls(self, host: NodeHost) -> None:
        manifest = scaled(host.manifest(variables={"DRAIN_S": "60"}), 2)
        await host.running(manifest)
        await host.backend.ensure(changed(scaled(manifest, 1), PLAIN="other"))
        await asyncio.sleep(1)
        began = time.monotonic()
        await host.backend.destroy(manifest.environment_id)
        assert time.monotonic() - began < 15
        assert not host.pids(manifest.environment_id)

    async def test_what_was_never_made_can_be_destroyed(self, host: NodeHost) -> None:
        await host.backend.destroy("nobody")

    @pytest.mark.parametrize("bad", ["..", ".", "a.b", "A"])
    async def test_an_id_that_is_none_is_refused(self, host: NodeHost, bad: str) -> None:
        manifest = dataclasses.replace(host.manifest(), environment_id=bad)
        with pytest.raises((GiveUp, Retry)):  # the client itself takes dots out of the path
            await host.backend.ensure(manifest)

    async def test_stopped_with_the_agent_it_is_started_by_the_next(self, host: NodeHost) -> None:
        manifest = host.manifest(variables={"DRAIN_S": "0.5"})
        before = pids_by_name(await host.running(manifest))
        host.terminate()
        assert all(identity_of(pid) for pid in before.values())
        with pytest.raises(Retry):
            await host.backend.observe(manifest.environment_id)
        await stop_all_environments(host.settings)
        assert not host.pids(manifest.environment_id)
        assert "worker-0 drained" in host.diary(manifest.environment_id)
        await host.start()
        after = await host.converged(manifest)
        assert [one.restarts for one in after.replicas] == [0, 0, 0]
        await host.backend.destroy(manifest.environment_id)


class TestIsolation:
    async def test_an_environment_cannot_look_outside(self, host: NodeHost, environment: Manifest) -> None:
        seen = await host.running(environment)
        if seen.isolation != "user+mounts":
            assert "own user" in seen.missing_isolation[0]
            return
        neighbour = host.manifest(Kind.SCHEDULER)
        other = await host.running(neighbour)
        try:
            users = await users_of(seen)
            others = await users_of(other)
            assert len(users) == len(others) == 1
            assert users != others
            layout = host.settings.layout
            code = """
import os, pwd, sys
def tried(what):
    try:
        return what() or "yes"
    except OSError as error:
        return error.strerror
print(os.getcwd(), pwd.getpwuid(os.getuid()).pw_name, os.path.expanduser("~"))
print(tried(os.listdir("/tmp").__len__) )
for path in sys.argv[1:]:
    print(tried(lambda: open(path).close() if not os.path.isdir(path) else os.listdir(path) and None))
print(tried(lambda: os.kill(int(os.environ["OTHER_PID"]), 9)))
print(tried(lambda: os.setuid(0)))
"""
            paths = [
                layout.master_key,
                layout.run / "node.sock",
                host.folder(environment.environment_id) / "manifest.json",
                host.folder(neighbour.environment_id) / "airflow",
                host.folder(neighbour.environment_id),
                f"/proc/{other.replicas[0].pid}/environ",
                f"/proc/{os.getpid()}/environ",
            ]
            manifest = changed(environment, OTHER_PID=str(other.replicas[0].pid))
            argv = ("python", "-c", code, *(str(path) for path in paths))
            result = await host.backend.run(manifest, argv, timeout_s=30)
            lines = result.stdout.decode().splitlines()
            assert lines[0] == "/usr/local/airflow airflow /usr/local/airflow", result
            refused = {"Permission denied", "Operation not permitted", "No such file or directory"}
            assert set(lines[2:]) <= refused, result
            assert len(lines) == 2 + len(paths) + 2
        finally:
            await host.backend.destroy(neighbour.environment_id)

    async def test_nothing_is_made_on_the_host(self, host: NodeHost, environment: Manifest) -> None:
        await host.running(environment)
        assert not os.path.exists("/usr/local/airflow")
        assert not os.path.exists("/usr/local/airflow-source")
        assert str(host.settings.home) not in Path("/proc/self/mounts").read_text()

    async def test_the_wanted_manifest_on_disk_is_ours_and_holds_no_secret(
        self, host: NodeHost, environment: Manifest
    ) -> None:
        await host.running(environment)
        path = host.folder(environment.environment_id) / "manifest.json"
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.stat().st_uid == os.geteuid()
        assert SECRET_TEXT not in path.read_text()


_REDIS = """
import os, socket
s = socket.socket(socket.AF_UNIX)
s.connect(os.path.join(os.environ["AIRFLOW_HOME"], "run", "broker.sock"))
s.send(b"{}\\r\\n")
print(s.recv(100))
"""


async def users_of(seen: Observed) -> set[int | None]:
    """Return the users of the replicas, once each is past the launcher, which begins as root."""
    pids = [one.pid for one in seen.replicas if one.pid]
    await eventually(lambda: 0 not in map(user_of, pids), within_s=10, what="no replica runs as root")
    return {user_of(pid) for pid in pids}


async def _has_new_pid(host: NodeHost, manifest: Manifest, name: str, pid: int) -> bool:
    seen = pids_by_name(await host.backend.observe(manifest.environment_id))
    return seen.get(name, pid) != pid
