"""Processes forked from a preloaded Airflow, compared with those that were started.

Real runtimes in the sandboxes of a real home; no database is needed for what is looked at.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from openmwaa.airflow.components import Surroundings, build_manifest
from openmwaa.airflow.preload import PRELOADED
from openmwaa.airflow.secrets import new_secrets
from openmwaa.airflow.versions import VERSIONS
from openmwaa.artifacts.layers import LayerInputs, LayerStore
from openmwaa.artifacts.runtimes import Runtime, RuntimeStore
from openmwaa.backends.base import CommandResult
from openmwaa.backends.local.backend import LocalBackend
from openmwaa.backends.local.commands import run_command
from openmwaa.backends.local.environment import LocalEnvironment
from openmwaa.backends.local.host import Host
from openmwaa.backends.local.isolation import Isolation
from openmwaa.backends.local.probes import Prober
from openmwaa.backends.local.zygotes import GROUP, ZygoteForker, Zygotes, key_of
from openmwaa.environments.manifest import Manifest
from openmwaa.kit.keyring import LocalKeyring
from openmwaa.kit.secret import Secret
from openmwaa.services.users import prepare_home, service_user
from openmwaa.settings import Settings
from openmwaa.supervise import ProcessTable, Supervisor
from openmwaa.supervise.identity import marked
from openmwaa.supervise.process import kill_marked
from openmwaa_airflow.zygote.modules import versions
from tests.support.eventually import eventually
from tests.support.packages import plugins_zip, wheel
from tests.support.service import a_home
from tests.support.specs import a_spec

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="a home of its own needs root"),
]

PORT_BASE = 31770
REPORT = ("python", "-P", "-m", "openmwaa_airflow.zygote.report", "preloaded.invalid")
RANDOM = {
    ("api", "secret_key"),
    ("api_auth", "jwt_secret"),
    ("core", "internal_api_secret_key"),
    ("webserver", "secret_key"),
}
"""Options whose default each process makes for itself."""

KEPT = ("airflow.sdk.definitions.asset.SQL_ALCHEMY_CONN",)
"""Copies that stay: `openmwaa_airflow.zygote.traps` says which part of each is used."""

LOCAL = "--no-index\n--find-links /usr/local/airflow/plugins\n"
SLOW = pytest.mark.thorough
NEWEST = "3.3.1"


@dataclass
class Home:
    """A home with what runs commands in it, and no agent."""

    settings: Settings

    def __post_init__(self) -> None:
        self.table = ProcessTable(self.settings.layout.node_processes)
        self.supervisor = Supervisor(self.table)
        isolation = Isolation(self.settings)
        self.zygotes = Zygotes(self.settings, self.supervisor, isolation)
        self.keyring = LocalKeyring(self.settings.layout.master_key)
        self.host = Host(self.settings, self.keyring, self.supervisor, isolation, Prober(), self.zygotes, {})

    def manifest(self, runtime: Runtime, *, layer: str | None = None, **options: str) -> Manifest:
        name = f"e{len(options)}{runtime.version.replace('.', '')}"
        place = LocalBackend(self.settings).place(name, 1, runtime.id, layer)
        secrets = {
            **new_secrets(),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": Secret("postgresql+psycopg2://a:b@127.0.0.1:9/c"),
            "AIRFLOW__CELERY__RESULT_BACKEND": Secret("db+postgresql+psycopg2://a:b@127.0.0.1:9/c"),
        }
        return build_manifest(
            a_spec(
                airflow_version=runtime.version,
                airflow_configuration_options={key.replace("__", "."): one for key, one in options.items()},
            ),
            environment_id=name,
            ordinal=1,
            runtime=runtime.id,
            layer=layer,
            placement=place,
            secrets={
                key: self.keyring.seal(one, context=f"environment/{name}/{key}")
                for key, one in secrets.items()
            },
            surroundings=Surroundings(
                web_url="https://127.0.0.1:8750",
                gateway_public_key="key",
                s3_endpoint_url="http://127.0.0.1:9",
                region="us-east-1",
                account_id="000000000000",
            ),
        )

    async def run(
        self,
        manifest: Manifest,
        *argv: str,
        fork: bool,
        for_worker: bool = False,
        stdin: bytes = b"",
        timeout_s: float = 120,
    ) -> CommandResult:
        environment = await self.environment(manifest)
        forker = await self.forker(manifest, for_worker=for_worker) if fork else None
        return await run_command(
            environment, self.table, manifest, argv, timeout_s=timeout_s, stdin=stdin, forker=forker
        )

    async def forker(self, manifest: Manifest, *, for_worker: bool = False) -> ZygoteForker:
        """Wait until it can fork; Airflow is loaded slowly while other tests run."""
        await self.environment(manifest)
        async with asyncio.timeout(240):
            while (forker := await self.zygotes.prepare(manifest, for_worker=for_worker)) is None:
                assert not self.zygotes.why_not(manifest)
                await asyncio.sleep(0.2)
        return forker

    async def environment(self, manifest: Manifest) -> LocalEnvironment:
        made = LocalEnvironment(self.host, manifest.environment_id)
        await made.prepare(manifest)
        return made

    async def report(self, manifest: Manifest, *, fork: bool, for_worker: bool = False) -> dict[str, Any]:
        result = await self.run(manifest, *REPORT, fork=fork, for_worker=for_worker)
        assert result.exit_code == 0, result.stderr.decode()[-3000:]
        report: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])  # Airflow logs there too
        return report

    def zygote(self, manifest: Manifest) -> int:
        """Return the pid of the preloaded process of an environment."""
        record = self.table.read(f"{GROUP}/{key_of(manifest)}")
        assert record
        assert record.identity
        return record.identity.pid

    def zygote_of_workers(self, manifest: Manifest) -> int:
        """Return the pid of the one that was forked from it for workers."""
        [forked] = psutil.Process(self.zygote(manifest)).children()
        return int(forked.pid)


@pytest.fixture(scope="module")
async def home() -> AsyncIterator[Home]:
    with a_home() as path, pytest.MonkeyPatch.context() as patch:
        patch.delenv("OPENMWAA_ZYGOTE", raising=False)
        # Their own broker would be one process more in every test.
        settings = Settings(home=path, port_base=PORT_BASE, redis_url="redis://127.0.0.1:9/0")
        prepare_home(settings)
        made = Home(settings)
        try:
            yield made
        finally:
            for record in made.table.list():
                await made.supervisor.remove(record.name)
            await made.supervisor.close()
            await kill_marked(made.table.marker_prefix())
            await made.host.prober.close()


async def installed(home: Home, version: str) -> Runtime:
    return await RuntimeStore(home.settings, {version: VERSIONS[version].lock}).ensure(version)


@pytest.fixture(scope="module")
async def runtime(home: Home) -> Runtime:
    return await installed(home, NEWEST)


def said(result: CommandResult) -> list[str]:
    """Return what a command printed, without Airflow's own log, which has times."""
    return [line for line in result.stdout.decode().splitlines() if not line.startswith("20")]


def comparable(options: Mapping[str, Mapping[str, str]]) -> dict[tuple[str, str], str]:
    return {
        (section, key): value
        for section, entries in options.items()
        for key, value in entries.items()
        if (section, key) not in RANDOM
    }


def test_every_version_that_is_preloaded_has_a_list() -> None:
    assert set(versions()) == PRELOADED


@pytest.mark.parametrize(
    "version", [one if one == NEWEST else pytest.param(one, marks=SLOW) for one in VERSIONS]
)
async def test_a_forked_process_is_like_a_started_one(home: Home, version: str) -> None:
    """Options of every section, settings, commands, providers, paths, user: all but what was loaded already."""
    if version not in PRELOADED:
        pytest.skip("is not preloaded")
    manifest = home.manifest(await installed(home, version))
    for for_worker in (False, True):
        cold = await home.report(manifest, fork=False)
        forked = await home.report(manifest, fork=True, for_worker=for_worker)
        assert_alike(forked, cold)


def assert_alike(forked: dict[str, Any], cold: dict[str, Any]) -> None:
    for report in (cold, forked):
        del report["variables"]["OPENMWAA_PROCESS"]
    assert set(cold.pop("modules")) - set(forked.pop("modules")) == set()
    for name in ("options", "options_of_tasks"):
        before, after = comparable(cold.pop(name)), comparable(forked.pop(name))
        assert {key: value for key, value in after.items() if before.get(key) != value} == {}
        assert before.keys() == after.keys()
    stale = [one for one in forked.pop("stale") if not one.startswith(KEPT)]
    assert stale == []
    assert cold.pop("stale") == []
    assert forked == cold


@pytest.mark.parametrize(
    ("option", "value", "forks"),
    [("core__default_task_retries", "3", True), ("core__xcom_backend", "acme.Backend", False)],
)
async def test_an_option_that_is_kept_from_imports(
    home: Home, runtime: Runtime, option: str, value: str, forks: bool
) -> None:
    """A harmless one has a preloaded process with it; one that may name code makes a program."""
    manifest = home.manifest(runtime, **{option: value})
    section, key = option.split("__")
    forked, cold = [await home.report(manifest, fork=fork) for fork in (True, False)]
    assert forked["options"][section][key] == cold["options"][section][key] == value
    assert (set(forked["modules"]) > set(cold["modules"])) == forks
    assert (key_of(manifest) != key_of(home.manifest(runtime))) == forks


async def test_commands_behave_as_programs_do(home: Home, runtime: Runtime) -> None:
    """Output, exit code, standard input, time limit; and nothing of one is left."""
    manifest = home.manifest(runtime)
    for argv in (
        ("airflow", "version"),
        ("airflow", "config", "get-value", "core", "executor"),
        ("airflow", "config", "get-value", "core", "nothing"),
        ("airflow", "nonsense"),
        ("python", "-c", "import sys; print(sys.stdin.read(), sys.prefix); sys.exit(3)"),
        ("python", "-P", "-m", "openmwaa_airflow.startup", "nonsense"),
    ):
        forked = await home.run(manifest, *argv, fork=True, stdin=b"from outside")
        cold = await home.run(manifest, *argv, fork=False, stdin=b"from outside")
        assert (forked.exit_code, said(forked)) == (cold.exit_code, said(cold)), argv
    endless = ("python", "-c", "import subprocess; subprocess.run(['/bin/sleep', '600'])")
    stopped = await home.run(manifest, *endless, fork=True, timeout_s=1)
    assert stopped.exit_code == 124
    assert list(marked(home.table.marker_prefix(f"{manifest.environment_id}/run-"))) == []


@pytest.mark.timeout(5400)
@pytest.mark.parametrize("for_worker", [False, True])
@pytest.mark.parametrize("count", [40, pytest.param(10_000, marks=SLOW)])
async def test_commands_leave_nothing_in_the_preloaded_process(
    home: Home, runtime: Runtime, count: int, for_worker: bool
) -> None:
    """Neither descriptors nor threads, children or memory; 10,000 is more than a day of a busy host."""
    manifest = home.manifest(runtime)
    check = ("python", "-P", "-m", "openmwaa_airflow.startup", "check", "worker")
    at_once = asyncio.Semaphore(4)

    async def once() -> None:
        async with at_once:
            result = await home.run(manifest, *check, fork=True, for_worker=for_worker)
            assert result.exit_code == 0, result.stderr

    def zygote() -> int:
        return home.zygote_of_workers(manifest) if for_worker else home.zygote(manifest)

    def held() -> tuple[int, int, int, int]:
        process = psutil.Process(zygote())
        memory = process.memory_info().rss
        return process.num_fds(), process.num_threads(), len(process.children()), memory

    always = 0 if for_worker else 1
    for _ in range(20):  # what the first ones make for all: caches, heaps
        await once()
    await asyncio.to_thread(eventually, lambda: held()[2] == always, within_s=5)
    pid, (descriptors, threads, _, memory) = zygote(), held()
    for _ in range(0, count, 20):
        await asyncio.gather(*(once() for _ in range(20)))
    await asyncio.to_thread(eventually, lambda: held()[2] == always, within_s=5)
    assert zygote() == pid
    assert held()[:2] == (descriptors, threads) == (descriptors, 1)
    assert held()[3] - memory < 1024 * 1024


@pytest.mark.parametrize(
    "version", [one if one == NEWEST else pytest.param(one, marks=SLOW) for one in VERSIONS]
)
async def test_a_layer_that_adds_is_seen_and_one_that_changes_is_not_forked(
    home: Home, version: str, tmp_path: Path
) -> None:
    runtime = await installed(home, version)
    user = service_user(home.settings)
    store = LayerStore(home.settings, first_uid=user.uid if user.switch else None, limit_s=120)
    provider = {
        "airflow/__init__.py": "WRONG = 1\n",
        "airflow/providers/acme/__init__.py": "def get_provider_info():\n    return "
        "{'package-name': 'airflow-provider-acme', 'name': 'Acme', 'description': 'none', 'versions': ['3.0']}\n",
    }
    entry = "[apache_airflow_provider]\nprovider_info = airflow.providers.acme:get_provider_info\n"
    plugins = plugins_zip(
        tmp_path / "plugins.zip",
        wheel("acme_tools", "1.2"),
        wheel("airflow_provider_acme", "3.0", provider, entry_points=entry),
        wheel("tabulate", "99.0"),
    )
    adding = await store.ensure(
        LayerInputs(runtime, f"{LOCAL}acme_tools\nairflow-provider-acme\n".encode(), plugins)
    )
    manifest = home.manifest(runtime, layer=adding.id)
    cold = await home.report(manifest, fork=False)
    forked = await home.report(manifest, fork=True)
    assert set(cold["modules"]) < set(forked["modules"])
    assert "airflow-provider-acme" in cold["providers"]
    assert forked["providers"] == cold["providers"]
    assert forked["interpreter"] == cold["interpreter"]
    code = "import acme_tools, subprocess, sys; print(acme_tools.VERSION, sys.prefix)"
    assert (await home.run(manifest, "python", "-c", code, fork=True)).stdout.startswith(b"1.2 ")

    changing = await store.ensure(
        LayerInputs(runtime, f"{LOCAL}# -c none\ntabulate==99.0\n".encode(), plugins)
    )
    manifest = home.manifest(runtime, layer=changing.id)
    assert "tabulate" in home.zygotes.why_not(manifest)
    assert await home.zygotes.prepare(manifest) is None


@pytest.mark.parametrize("of_workers", [False, True])
async def test_both_are_replaced_when_one_dies(home: Home, runtime: Runtime, of_workers: bool) -> None:
    manifest = home.manifest(runtime)
    await home.forker(manifest)
    pid, for_workers = home.zygote(manifest), home.zygote_of_workers(manifest)
    os.kill(for_workers if of_workers else pid, signal.SIGKILL)
    for one in (pid, for_workers):
        await asyncio.to_thread(eventually, lambda one=one: not Path(f"/proc/{one}").exists(), within_s=5)
    # At once, what runs may be started as a program; it must run all the same.
    assert (await home.run(manifest, "airflow", "version", fork=True)).exit_code == 0
    async with asyncio.timeout(60):
        while not (another := home.table.read(f"{GROUP}/{key_of(manifest)}")) or (
            another.identity is None or another.identity.pid == pid
        ):
            await asyncio.sleep(0.1)
    assert (await home.run(manifest, "airflow", "version", fork=True)).exit_code == 0


async def test_one_of_an_earlier_release_forks_workers_too(home: Home, runtime: Runtime) -> None:
    manifest = home.manifest(runtime)
    await home.forker(manifest)
    own = home.settings.layout.run / "zygotes" / f"{key_of(manifest)}.work"
    aside = own.rename(own.with_suffix(".aside"))
    try:
        environment = await home.environment(manifest)
        forker = await home.forker(manifest, for_worker=True)
        result = await run_command(
            environment, home.table, manifest, ("airflow", "version"), timeout_s=60, forker=forker
        )
        assert (result.exit_code, said(result)[-1]) == (0, NEWEST)
    finally:
        aside.rename(own)


async def test_what_cannot_be_preloaded_is_given_up(home: Home, runtime: Runtime) -> None:
    manifest = home.manifest(runtime)
    preload = manifest.preload
    assert preload
    broken = dataclasses.replace(
        manifest, preload=dataclasses.replace(preload, argv=("python", "-c", "raise SystemExit(1)"))
    )
    async with asyncio.timeout(120):
        while "preloading failed" not in home.zygotes.why_not(broken):
            assert await home.zygotes.prepare(broken) is None
            await asyncio.sleep(0.2)


def test_it_can_be_switched_off(home: Home, runtime: Runtime) -> None:
    off = Home(home.settings.model_copy(update={"zygote": "off"}))
    assert "switched off" in off.zygotes.why_not(off.manifest(runtime))
