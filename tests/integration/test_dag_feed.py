"""The embedded object store, the node agent and its mirrors: from an upload to the snapshot."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest_asyncio

from openmwaa.backends.local.dag_syncs import POLL_S, POLL_WITH_FEED_S
from openmwaa.environments.manifest import Kind, Manifest
from openmwaa.services.feed import FEED_PATH, feed_token, feed_url
from tests.support.node import NodeHost, a_node_host, eventually

PORT_BASE = 34810


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def host() -> AsyncIterator[NodeHost]:
    async with a_node_host(PORT_BASE) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def manifest(host: NodeHost) -> AsyncIterator[Manifest]:
    wanted = host.manifest(Kind.SCHEDULER)
    await host.running(wanted)
    yield wanted
    await host.backend.destroy(wanted.environment_id)


def dags(host: NodeHost, manifest: Manifest) -> Path:
    return host.folder(manifest.environment_id) / "mirror" / "dags"


async def seconds_until_there(host: NodeHost, manifest: Manifest, name: str) -> float:
    await asyncio.to_thread(host.put_dag, manifest, name, f"# {name}\n")
    began = time.monotonic()
    await eventually((dags(host, manifest) / name).exists, within_s=30, what=name)
    return time.monotonic() - began


async def test_an_upload_is_there_long_before_the_next_poll(host: NodeHost, manifest: Manifest) -> None:
    await seconds_until_there(host, manifest, "first_of_all.py")
    await asyncio.sleep(POLL_S)
    took = []
    for number in range(5):
        took.append(await seconds_until_there(host, manifest, f"a{number}.py"))
        await asyncio.sleep(0.5)
    assert statistics.median(took) < POLL_S / 2, took


async def test_a_removal_is_followed_as_well(host: NodeHost, manifest: Manifest) -> None:
    await seconds_until_there(host, manifest, "short.py")
    key = f"{manifest.dags.prefix}short.py"
    await asyncio.to_thread(host.s3.delete_object, Bucket=host.bucket, Key=key)
    await eventually(
        lambda: not (dags(host, manifest) / "short.py").exists(), within_s=POLL_WITH_FEED_S / 2, what="gone"
    )


async def test_a_change_whose_message_is_lost_is_found_all_the_same(
    host: NodeHost, manifest: Manifest
) -> None:
    """The agent is killed while something is uploaded: nobody will ever announce that again."""
    await seconds_until_there(host, manifest, "before.py")
    host.kill()
    host.put_dag(manifest, "meanwhile.py", "# 1\n")
    await asyncio.sleep(7)  # all tries to deliver it are over
    await host.start()
    await eventually((dags(host, manifest) / "meanwhile.py").exists, within_s=20, what="found")
    await seconds_until_there(host, manifest, "after.py")


async def test_only_the_object_store_is_listened_to(host: NodeHost) -> None:
    url, token = feed_url(host.settings), feed_token(host.settings).reveal()
    message = b'{"key": "/buckets/x/y"}'
    right = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(trust_env=False) as http:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {token}"}):
            assert (await http.post(url, content=message, headers=headers)).status_code == 401
        for headers in ({"Authorization": "Bearer \xfc".encode("latin-1")},):
            assert (await http.post(url, content=message, headers=headers)).status_code == 401
        assert (await http.post(url, content=message, headers=right)).status_code == 204
        assert (await http.post(url, content=b"{", headers=right)).status_code == 400
        assert (await http.post(url, content=b"\xff\xfe", headers=right)).status_code == 400
        assert (await http.post(url, content=b"[" * 100_000, headers=right)).status_code == 400
        assert (await http.post(url, content=b" " * 2_000_000, headers=right)).status_code == 413
        assert (await http.get(url, headers=right)).status_code == 405
        other = url.removesuffix(FEED_PATH) + "/environments/x"
        assert (await http.get(other, headers=right)).status_code == 404


async def test_idle_connections_are_few_and_folders_are_polled_meanwhile(
    host: NodeHost, manifest: Manifest
) -> None:
    address = ("127.0.0.1", host.settings.ports.feed)
    held = [await asyncio.open_connection(*address) for _ in range(60)]
    try:
        await asyncio.sleep(0.2)
        assert sum(reader.at_eof() or reader.exception() is not None for reader, _ in held) >= 60 - 32
        assert await seconds_until_there(host, manifest, "unannounced.py") < POLL_WITH_FEED_S + 5
    finally:
        for _, writer in held:
            writer.close()


async def test_the_token_is_in_no_log_and_no_file_that_others_can_read(host: NodeHost) -> None:
    token = feed_token(host.settings).reveal().encode()
    files = [path for path in host.settings.home.rglob("*") if path.is_file() and not path.is_symlink()]
    holders = [path for path in files if token in path.read_bytes()]
    assert [path.name for path in holders] == ["notification.toml"]
    assert holders[0].stat().st_mode & 0o077 == 0
