"""PostgreSQL, Redis and S3 of the user's own in the place of the embedded ones."""

from __future__ import annotations

import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from openmwaa.backends.local.broker import valkey_binary
from openmwaa.services.endpoints import load_endpoints
from tests.support.dags import HELLO
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.runs import trigger, wait_for_dag, wait_for_run
from tests.support.service import Service, a_home, a_service

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(900)]

THEIRS, OURS = 26500, 26550


@contextmanager
def a_redis(folder: Path, password: str) -> Iterator[str]:
    """Run a server with a password on a TCP port; gives its URL."""
    port = free_port()
    argv = [str(valkey_binary()), "--port", str(port), "--bind", "127.0.0.1", "--requirepass", password]
    server = subprocess.Popen([*argv, "--dir", str(folder), "--save", ""], stdout=subprocess.DEVNULL)

    def answers() -> bool:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True

    try:
        eventually(answers, within_s=10, errors=(OSError,), what="the broker answers")
        yield f"redis://:{password}@127.0.0.1:{port}/0"
    finally:
        server.kill()
        server.wait()


def test_an_environment_runs_on_services_of_the_users_own(tmp_path: Path) -> None:
    """Another home's servers stand for them; nothing of the service itself is embedded then."""
    password = secrets.token_urlsafe(12)
    with (
        a_home() as elsewhere,
        a_service(elsewhere, THEIRS) as servers,
        a_redis(tmp_path, password) as redis_url,
        a_home() as home,
    ):
        ends = load_endpoints(servers.settings)
        with psycopg.connect(ends.postgres_url.reveal(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE own")
        own_url = ends.postgres_url.reveal().rpartition("/")[0] + "/own"
        settings = (
            f'postgres_url = "{own_url}"\nredis_url = "{redis_url}"\ns3_endpoint_url = "{ends.s3_url}"\n'
            f's3_access_key_id = "{ends.s3_access_key_id}"\n'
            f's3_secret_access_key = "{ends.s3_secret_access_key.reveal()}"\n'
        )
        bucket = servers.bucket({"hello.py": HELLO})
        with a_service(home, OURS, settings=settings) as service:
            running = {one["name"] for one in service.json("status")["processes"] if one["pid"]}
            assert not running & {"postgres", "seaweedfs"}
            service.create("own", bucket, AirflowVersion="3.3.1", EnvironmentClass="mw1.micro")
            service.available("own", within_s=600)
            wait_for_dag(service, "own", "hello")
            run = trigger(service, "own", "hello")
            assert wait_for_run(service, "own", "hello", run) == "success"
            assert not list(_files_with(service, password))
            service.delete("own")


def _files_with(service: Service, text: str) -> Iterator[Path]:
    """Yield the files of a home that hold a text, the settings themselves left out."""
    for path in service.home.rglob("*"):
        if (
            path.is_file()
            and path != service.settings.layout.settings_file
            and text.encode() in path.read_bytes()
        ):
            yield path
