"""What is made of a web server's answer: a real one answers on a loopback port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from openmwaa.airflow.health import check_health

WELL = {
    "metadatabase": {"status": "healthy"},
    "scheduler": {"status": "healthy", "latest_scheduler_heartbeat": "2026-11-23T03:32:34+00:00"},
    "triggerer": {"status": "healthy", "latest_triggerer_heartbeat": "2026-11-23T03:32:34+00:00"},
    "dag_processor": {"status": "healthy", "latest_dag_processor_heartbeat": "2026-11-23T03:32:34+00:00"},
}


@asynccontextmanager
async def answering(body: bytes, status: str = "200 OK") -> AsyncIterator[tuple[str, list[str]]]:
    """Serve one answer to every request; gives the base URL and the paths that were asked."""
    paths: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        paths.append(head.decode().split()[1])
        writer.write(
            f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", paths


@pytest.mark.parametrize(("version", "path"), [("2.11.2", "/health"), ("3.3.1", "/api/v2/monitor/health")])
async def test_all_is_well(version: str, path: str) -> None:
    async with answering(json.dumps(WELL).encode()) as (url, paths):
        report = await check_health(version, url)
    assert report.healthy
    assert report.evidence == ""
    assert paths == [path]


async def test_a_part_that_is_ill_or_unseen_is_named_with_evidence() -> None:
    said: dict[str, Any] = WELL | {
        "scheduler": {"status": "unhealthy", "latest_scheduler_heartbeat": "2026-11-23T03:00:00+00:00"},
        "triggerer": {"status": None, "latest_triggerer_heartbeat": None},
    }
    async with answering(json.dumps(said).encode()) as (url, _):
        report = await check_health("3.3.1", url)
        without = await check_health("3.3.1", url, triggerer=False)
    assert not report.healthy
    assert report.evidence == (
        "scheduler: unhealthy, last heartbeat 2026-11-23T03:00:00+00:00; triggerer: not seen yet"
    )
    assert "triggerer" not in without.parts


@pytest.mark.parametrize(
    ("body", "status", "evidence"),
    [
        (b"{}", "503 Service Unavailable", "webserver: answered 503"),
        (b"<html>", "200 OK", "webserver: answered no JSON object"),
        (b"[]", "200 OK", "webserver: answered no JSON object"),
    ],
)
async def test_strange_answers_are_ill_health(body: bytes, status: str, evidence: str) -> None:
    async with answering(body, status) as (url, _):
        assert (await check_health("3.3.1", url)).evidence == evidence


async def test_no_answer_is_ill_health() -> None:
    async with answering(b"") as (url, _):
        pass
    assert (await check_health("3.3.1", url)).evidence == "webserver: no answer (ConnectError)"
