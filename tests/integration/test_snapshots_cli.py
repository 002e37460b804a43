"""`openmwaa snapshot` through the operator's socket, with the loop at work behind it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import structlog
from click.testing import CliRunner, Result

from openmwaa.airflow.versions import VERSIONS
from openmwaa.api.operator import OperatorContext, create_operator
from openmwaa.artifacts.installer import RuntimeInstaller
from openmwaa.artifacts.runtimes import RuntimeStore
from openmwaa.cli.main import main
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.environments.requests import Limits
from openmwaa.identity.principals import ensure_administrator
from openmwaa.kit.unix_server import serve_unix
from tests.support.api import OneBucket
from tests.support.embedded import running_services
from tests.support.eventually import eventually
from tests.support.service import a_home
from tests.support.snapshots import SCHEMA, Snapshots
from tests.support.specs import a_spec

PORT_BASE = 27780


@dataclass
class World:
    snapshots: Snapshots
    environment: EnvironmentRecord

    async def cli(self, *arguments: str) -> Result:
        """Run `openmwaa --home … snapshot arguments` beside the service."""
        words = ["--home", str(self.snapshots.settings.home), "snapshot", *arguments]
        return await asyncio.to_thread(CliRunner().invoke, main, words, catch_exceptions=False)

    async def json(self, *arguments: str) -> Any:
        result = await self.cli(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.output)


def accepts(path: Path) -> bool:
    """Return whether somebody listens; unlike an HTTP client's, the socket is closed if nobody does."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def unused(*_: Any) -> Any:
    raise AssertionError("not a part of snapshots")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world() -> AsyncIterator[World]:
    # The command under test runs in this process: its standard output must be its own.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with a_home() as home:
        async with running_services(home, PORT_BASE, ["postgres", "seaweedfs"]) as (settings, _, _):
            settings.layout.port_base_file.write_text(str(PORT_BASE))  # for the command line
            snapshots = await Snapshots.open(settings)
            await ensure_administrator(snapshots.store, settings)
            locks = {version: entry.lock for version, entry in VERSIONS.items()}
            context = OperatorContext(
                store=snapshots.store,
                limits=Limits(list(VERSIONS)),
                web_host=unused,
                observe=unused,
                manifest=unused,
                run_airflow=unused,
                runtimes=RuntimeInstaller(RuntimeStore(settings, locks)),
                preflight=OneBucket(),
                snapshots=snapshots.desk,
            )
            stop = asyncio.Event()
            app = create_operator(context)
            serving = asyncio.create_task(serve_unix({settings.layout.operator_socket: app}, stop))
            loop = asyncio.create_task(snapshots.loop("cli").run())
            try:
                await asyncio.to_thread(
                    eventually,
                    lambda: accepts(settings.layout.operator_socket),
                    within_s=30,
                    what="the operator's socket accepts connections",
                )
                environment = await snapshots.environment(a_spec("alpha"))
                snapshots.query(environment, SCHEMA)
                yield World(snapshots, environment)
            finally:
                loop.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await loop
                stop.set()
                await serving
                await snapshots.store.close()
                structlog.reset_defaults()


async def test_create_waits_and_show_verifies(world: World) -> None:
    result = await world.cli("create", "alpha")
    assert result.exit_code == 0, result.output
    assert "is available (" in result.output
    snapshot_id = result.output.split()[-5]
    shown = await world.json("show", snapshot_id, "--verify")
    assert (shown["state"], shown["reason"], shown["environment"]) == ("available", "manual", "alpha")
    assert shown["rows"]["public.dag_run"] == 2000
    text = (await world.cli("show", snapshot_id, "--verify")).output
    assert "every part; 2053 rows in 6 tables" in text
    assert "sha256".upper() in text


async def test_list_is_a_table_or_json(world: World) -> None:
    made = await world.json("create", "alpha", "--pin")
    listed = await world.json("list", "alpha")
    assert listed[-1]["id"] == made["id"]
    assert listed[-1]["pinned"] is True
    header, *lines = (await world.cli("list")).output.splitlines()
    assert header.split() == [
        *("ID", "ENVIRONMENT", "VERSION", "STATE", "REASON", "PINNED", "CREATED", "SIZE")
    ]
    assert lines[-1].split()[:6] == [made["id"], "alpha", "3.3.1", "available", "manual", "yes"]
    assert await world.json("list", "nobody") == []
    assert "no longer pinned" in (await world.cli("pin", made["id"], "--off")).output
    assert (await world.json("show", made["id"]))["pinned"] is False


async def test_delete_asks_or_is_told(world: World) -> None:
    made = await world.json("create", "alpha")
    refused = await world.cli("delete", made["id"])
    assert refused.exit_code == 1
    assert "--yes" in refused.output
    deleted = await world.cli("delete", made["id"], "--yes")
    assert deleted.exit_code == 0, deleted.output
    missing = await world.cli("show", made["id"])
    assert missing.exit_code == 1
    assert "No snapshot found" in missing.output


async def test_a_schedule_is_set_shown_and_ended(world: World) -> None:
    assert (await world.cli("schedule", "alpha")).output == "alpha has no schedule.\n"
    result = await world.cli("schedule", "alpha", "--every", "24h", "--keep", "7", "--max-age", "30d")
    assert "every 1d, the newest 7 are kept, none longer than 30d" in result.output
    shown = await world.json("schedule", "alpha")
    assert (shown["every_s"], shown["keep"], shown["max_age_s"]) == (86_400, 7, 30 * 86_400)
    assert (await world.cli("schedule", "alpha", "--off")).output == "alpha has no schedule.\n"
    for wrong in (("--every", "soon"), ("--keep", "3"), ("--off", "--every", "1h")):
        assert (await world.cli("schedule", "alpha", *wrong)).exit_code == 2
    refused = await world.cli("schedule", "alpha", "--every", "5s")
    assert refused.exit_code == 1
    assert "between 1 minute" in refused.output


async def test_restore_as_a_new_environment_with_its_dags(world: World) -> None:
    made = await world.json("create", "alpha")
    result = await world.cli("restore", made["id"], "--to", "beta", "--dags", "--no-wait")
    assert result.exit_code == 0, result.output
    name, spec, contents = world.snapshots.restorer.accepted[-1]
    assert (name, contents.record.id) == ("beta", made["id"])
    assert spec.source_bucket_arn == "arn:aws:s3:::openmwaa-000000000000-beta"
    keys = world.snapshots.streams.keys("openmwaa-000000000000-beta", "")
    assert keys == ["dags/a.py", "dags/lib/b.py"]
    again = await world.cli("restore", made["id"], "--to", "beta", "--no-wait")
    assert again.exit_code == 1
    assert "already exists" in again.output


async def test_restore_in_place_keeps_the_present_state_first(world: World) -> None:
    made = await world.json("create", "alpha")
    assert (await world.cli("restore", made["id"])).exit_code == 2
    assert (await world.cli("restore", made["id"], "--in-place", "--version", "3.3.1")).exit_code == 2
    assert (await world.cli("restore", made["id"], "--in-place")).exit_code == 1  # nobody to ask
    result = await world.cli("restore", made["id"], "--in-place", "--yes", "--no-wait")
    assert result.exit_code == 0, result.output
    assert (await world.json("list", "alpha"))[-1]["reason"] == "before-restore"
    assert world.snapshots.restorer.accepted[-1][0] == "alpha"
    busy = await world.cli("create", "alpha")
    assert busy.exit_code == 1
    assert "while its status is UPDATING" in busy.output
    await world.snapshots.settle("alpha")


async def test_a_damaged_part_is_named_on_the_command_line(world: World) -> None:
    made = await world.json("create", "alpha")
    row = await world.snapshots.desk.get(made["id"])
    world.snapshots.streams.delete("openmwaa-snapshots-000000000000", f"{row.prefix}dags")
    for command in (("show", made["id"], "--verify"), ("restore", made["id"], "--to", "gamma", "--no-wait")):
        result = await world.cli(*command)
        assert result.exit_code == 1
        assert f"Part dags of snapshot {made['id']} is damaged or was altered" in result.output


@pytest.mark.parametrize("command", [("create", "nobody"), ("schedule", "nobody", "--every", "1h")])
async def test_an_unknown_environment_is_one_line(world: World, command: tuple[str, ...]) -> None:
    result = await world.cli(*command)
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "ResourceNotFoundException: No environment found with the name nobody."
    ]
