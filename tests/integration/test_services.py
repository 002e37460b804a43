"""The embedded services as they really run: ready, closed to others, and back after a kill with their data."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import psutil
import psycopg
import pytest
import pytest_asyncio

from openmwaa.kit.unix_server import serve_unix
from openmwaa.processes.stop import home_processes
from openmwaa.services.binaries import find_binaries
from openmwaa.services.endpoints import ServiceEndpoints, load_endpoints, operator_key
from openmwaa.services.secrets import ServiceSecrets
from openmwaa.services.service import EmbeddedService, base_variables, run_tool
from openmwaa.services.users import ServiceUser, service_user
from openmwaa.settings import Settings
from openmwaa.supervise import Supervisor
from tests.support.embedded import ready, running_services
from tests.support.service import a_home

PORT_BASE = 22200
AS_ROOT = os.geteuid() == 0


@dataclass
class Running:
    settings: Settings
    services: dict[str, EmbeddedService]
    supervisor: Supervisor

    def pid(self, name: str) -> int:
        pid = self.supervisor.observe()[name].pid
        assert pid
        return pid

    @property
    def endpoints(self) -> ServiceEndpoints:
        return load_endpoints(self.settings)

    @property
    def ca(self) -> str:
        return str(self.settings.layout.ca_bundle)

    def s3(self, key: tuple[str, str] | None = None) -> Any:
        ends = self.endpoints
        key_id, secret = key or (ends.s3_access_key_id, ends.s3_secret_access_key.reveal())
        return boto3.Session(key_id, secret, region_name="us-east-1").client("s3", endpoint_url=ends.s3_url)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running() -> AsyncIterator[Running]:
    with a_home() as home:
        async with running_services(home, PORT_BASE) as (settings, services, supervisor):
            yield Running(settings, services, supervisor)


def query(url: str, statement: str) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else None


async def test_every_listener_is_on_loopback(running: Running) -> None:
    for name in running.services:
        tree = [psutil.Process(running.pid(name))]
        tree += tree[0].children(recursive=True)
        listening = [
            connection.laddr
            for process in tree
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert listening, name
        assert {address.ip.partition(".")[0] for address in listening} == {"127"}, name
        base = running.settings.port_base
        assert all(base <= address.port < base + 20 for address in listening), name


async def test_no_server_runs_as_root(running: Running) -> None:
    user = service_user(running.settings)
    for name in running.services:
        uids = psutil.Process(running.pid(name)).uids()
        assert set(uids) == {user.uid}
    assert not AS_ROOT or user.uid != 0


async def test_no_secret_is_in_a_command_line_a_log_or_a_readable_file(running: Running) -> None:
    secrets = [
        secret.reveal()
        for name in (
            "postgres/superuser",
            "s3/admin-secret",
            "operator/secret",
            "seaweedfs/volume-key",
            "seaweedfs/filer-key",
            "seaweedfs/filer-read-key",
            "seaweedfs/sts-key",
            "seaweedfs/feed-token",
        )
        if (secret := ServiceSecrets(running.settings).get(name))
    ]
    assert len(secrets) == 8
    lines = b"\n".join(_read(path) for path in Path("/proc").glob("[0-9]*/cmdline"))
    logs = b"\n".join(_read(path) for path in running.settings.layout.logs.iterdir())
    assert len(logs) > 1000
    for secret in secrets:
        assert secret.encode() not in lines
        assert secret.encode() not in logs
    for path in running.settings.home.rglob("*"):
        if path.is_file() and any(secret.encode() in _read(path) for secret in secrets):
            assert path.stat().st_mode & 0o077 == 0, path
            assert path.name in {"security.toml", "notification.toml", "s3.json", "iam.json"}, path


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


async def test_the_object_store_is_closed_to_who_has_no_key(running: Running) -> None:
    s3 = running.s3()
    bucket = f"airflow-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="secret.txt", Body=b"x" * 100_000)
    ports = running.settings.ports
    filer = f"http://127.0.0.1:{ports.seaweedfs(4)}"
    for method, path in (
        ("GET", f"/buckets/{bucket}/secret.txt"),
        ("GET", f"/buckets/{bucket}/"),
        ("GET", "/"),
        ("DELETE", f"/buckets/{bucket}/secret.txt"),
        ("PUT", f"/buckets/{bucket}/more.txt"),
    ):
        assert _status(method, filer + path) == 401, (method, path)
    assert _status("GET", f"{running.endpoints.s3_url}/{bucket}/secret.txt") == 403
    for grpc in (1, 3, 5, 6, 8):
        assert not _grpc_answers(ports.seaweedfs(grpc)), f"gRPC without a certificate at offset {grpc}"
    assert s3.get_object(Bucket=bucket, Key="secret.txt")["Body"].read() == b"x" * 100_000


def _status(method: str, url: str) -> int:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, method=method, data=None), timeout=5
        ) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def _grpc_answers(port: int) -> bool:
    """Return whether a server lets a client without a certificate speak HTTP/2."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=3) as plain,
            context.wrap_socket(plain) as tls,
        ):
            tls.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
            while data := tls.recv(4096):  # TLS 1.3 refuses the missing certificate after the handshake
                if b"\x00\x00\x00\x04\x01" in data:  # our settings were acknowledged
                    return True
    except OSError:
        pass
    return False


@pytest.mark.skipif(not AS_ROOT, reason="another user is needed")
async def test_another_user_can_read_nothing_but_the_public_bundle(running: Running) -> None:
    script = "for f in $(find $0 -type f 2>/dev/null); do test -r $f && echo $f; done; true"
    answer = subprocess.run(
        ["sh", "-c", script, str(running.settings.home)],
        user=54321,
        group=54321,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.split() == []  # the home cannot even be listed
    known = [path for path in running.settings.home.rglob("*") if path.is_file()]
    answer = subprocess.run(
        ["sh", "-c", 'for f; do test -r "$f" && echo "$f"; done; true', "sh", *map(str, known)],
        user=54321,
        group=54321,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.split() == [running.ca]


async def test_the_operator_s_key_works_at_s3(running: Running) -> None:
    key_id, secret = operator_key(running.settings)
    assert "openmwaa-probe" in [
        one["Name"] for one in running.s3((key_id, secret.reveal())).list_buckets()["Buckets"]
    ]


async def test_environments_roles_reach_no_database_but_their_own(running: Running) -> None:
    url = running.endpoints.postgres_url.reveal()
    query(url, "CREATE ROLE env_a LOGIN PASSWORD 'pw'")
    query(url, "CREATE DATABASE env_a OWNER env_a")
    base = f"127.0.0.1:{running.settings.ports.postgres}"
    assert query(f"postgresql://env_a:pw@{base}/env_a", "SELECT 1") == [(1,)]
    for database in ("openmwaa", "postgres", "template1"):
        with pytest.raises(psycopg.OperationalError, match="CONNECT privilege"):
            query(f"postgresql://env_a:pw@{base}/{database}", "SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        query(f"postgresql://postgres:wrong@{base}/openmwaa", "SELECT 1")
    with pytest.raises(psycopg.Error):
        query(url, "CREATE ROLE env_a LOGIN PASSWORD 'do-not-log-me'")
    assert "do-not-log-me" not in (running.settings.layout.logs / "postgres.log").read_text()


@pytest.mark.parametrize("name", ["postgres", "seaweedfs", "caddy"])
async def test_a_killed_service_is_back_with_its_data(running: Running, name: str) -> None:
    url, s3 = running.endpoints.postgres_url.reveal(), running.s3()
    bucket = f"airflow-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="kept", Body=b"kept")
    query(url, f"CREATE TABLE kept_{name} AS SELECT 42 AS n")
    root = Path(running.ca).read_text()

    before = running.pid(name)
    os.kill(before, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while running.supervisor.observe()[name].pid in {None, before}:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    await ready(running.services[name], within_s=30)

    assert s3.get_object(Bucket=bucket, Key="kept")["Body"].read() == b"kept"
    assert query(url, f"SELECT n FROM kept_{name}") == [(42,)]
    await running.services["caddy"].settle()
    assert Path(running.ca).read_text() == root  # clients keep trusting it


@pytest.mark.parametrize("host", ["127.0.0.1", "127.86.184.1", "127.86.184.250"])
async def test_clients_verify_a_certificate_that_carries_the_address(running: Running, host: str) -> None:
    place = f"{host}:{running.settings.ports.https}"
    shown = subprocess.run(
        [
            *("openssl", "s_client", "-connect", place, "-CAfile", running.ca),
            *("-verify_return_error", "-verify_ip", host),
        ],
        input=b"",
        capture_output=True,
        check=False,
        timeout=20,
    )
    assert b"Verify return code: 0 (ok)" in shown.stdout
    context = ssl.create_default_context(cafile=running.ca)
    with (
        socket.create_connection((host, running.settings.ports.https), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
    ):
        certificate = tls.getpeercert()
    assert certificate
    assert certificate["subjectAltName"] == (("IP Address", host),)


async def test_curl_and_httpx_reach_the_proxy_with_the_bundle(running: Running) -> None:
    url = f"https://127.0.0.1:{running.settings.ports.https}/_openmwaa/proxy-ready"
    curl = ["curl", "-sS", "--cacert", running.ca, url]
    assert subprocess.run(curl, capture_output=True, text=True, check=True).stdout == "ready\n"
    with httpx.Client(verify=ssl.create_default_context(cafile=running.ca)) as client:
        assert client.get(url, timeout=20).text == "ready\n"


async def test_other_addresses_and_names_get_no_certificate(running: Running) -> None:
    port = running.settings.ports.https
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.86.184.251", port), timeout=3)
    context = ssl.create_default_context(cafile=running.ca)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=3) as plain,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(plain, server_hostname="bank.example.com")


async def test_a_server_that_lies_in_wait_in_tmp_does_not_stop_the_object_store(running: Running) -> None:
    if not AS_ROOT:
        pytest.skip("another user is needed")
    path = Path(f"/tmp/seaweedfs-master-grpc-{running.settings.ports.seaweedfs(1)}.sock")
    service = running.services["seaweedfs"]
    await running.supervisor.remove("seaweedfs")
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(str(path))
        os.chown(path, 54321, 54321)
    await service.prepare()
    await running.supervisor.ensure(service.spec())
    await ready(service)


async def send_json(
    send: Any, status: int, value: Any, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    head = [(b"content-type", b"application/json"), *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": json.dumps(value).encode()})


async def test_the_proxy_takes_the_identity_from_the_gateway_alone(running: Running) -> None:
    """A gateway and an upstream of our own on real sockets record what the proxy sends them."""
    questions: list[dict[str, str]] = []

    def headers_of(scope: Any) -> list[tuple[str, str]]:
        return [(name.decode(), value.decode()) for name, value in scope["headers"]]

    async def body_of(receive: Any) -> bytes:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        return body

    async def upstream(scope: Any, receive: Any, send: Any) -> None:
        body = (await body_of(receive)).decode()
        raw = scope["raw_path"].decode()
        answer = {"path": raw, "method": scope["method"], "headers": headers_of(scope), "body": body}
        await send_json(send, 200, answer)

    async def gateway(scope: Any, receive: Any, send: Any) -> None:
        body = await body_of(receive)
        if scope["path"] != "/route":
            await send_json(send, 200, {"direct": scope["path"], "body": body.decode()})
            return
        asked = dict(headers_of(scope))
        questions.append({**asked, "method": scope["method"], "length": str(len(body))})
        uri = asked["x-forwarded-uri"]
        if uri == "/refused":
            await send_json(send, 403, {"refused": True})
        elif uri == "/sign-in":
            await send_json(send, 302, {}, [(b"location", b"/aws_mwaa/login"), (b"set-cookie", b"a=1")])
        else:
            answer = [(b"x-openmwaa-upstream", f"unix/{upstream_socket}".encode())]
            if "identity" in uri:
                answer += [
                    (b"authorization", b"Bearer minted"),
                    (b"cookie", b"kept=1"),
                    (b"x-openmwaa-identity", b"minted"),
                ]
            await send_json(send, 200, {}, answer)

    layout, stop = running.settings.layout, asyncio.Event()
    upstream_socket = layout.run / "test-upstream.sock"
    control_calls: list[Any] = []

    async def control(scope: Any, receive: Any, send: Any) -> None:
        control_calls.append(headers_of(scope))
        await send_json(send, 200, {"control": scope["path"], "body": (await body_of(receive)).decode()})

    group = service_user(running.settings).gid
    apps: dict[Path, Any] = {
        layout.gateway_socket: gateway,
        layout.control_socket: control,
        upstream_socket: upstream,
    }
    serving = asyncio.create_task(serve_unix(apps, stop, mode=0o660, group=group))
    host = f"127.86.184.7:{running.settings.ports.https}"
    claims = {
        "X-Openmwaa-Identity": "forged",
        "X_Openmwaa_Identity": "forged",
        "X-Openmwaa-Upstream": "127.0.0.1:1",
        "Remote-User": "forged",
        "X-Forwarded-Prefix": "/forged",
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Uri": "/forged",
        "Authorization": "Bearer mine",
        "Cookie": "mine=1",
    }
    context = ssl.create_default_context(cafile=running.ca)
    try:
        async with httpx.AsyncClient(verify=context, base_url=f"https://{host}", timeout=20) as client:
            answer = (await client.post("/a%2Fb//c?identity=1", headers=claims, content=b"hello")).json()
            seen = dict(answer["headers"])
            assert (answer["method"], answer["path"], answer["body"]) == ("POST", "/a%2Fb//c", "hello")
            assert seen["host"] == host
            assert seen["x-forwarded-proto"] == "https"
            assert seen["x-forwarded-for"] == "127.0.0.1"
            assert (seen["authorization"], seen["cookie"]) == ("Bearer minted", "kept=1")
            assert seen["x-openmwaa-identity"] == "minted"
            assert "forged" not in json.dumps(answer)
            assert "x-openmwaa-upstream" not in seen
            question = questions[-1]
            assert (question["method"], question["length"]) == ("GET", "0")
            assert question["x-forwarded-method"] == "POST"
            assert question["x-forwarded-uri"] == "/a%2Fb//c?identity=1"
            assert question["x-forwarded-host"] == host
            assert question["x-openmwaa-local-address"] == "127.86.184.7"
            assert question["cookie"] == "mine=1"

            answer = (await client.get("/anonymous", headers=claims)).json()
            seen = dict(answer["headers"])
            assert not {"authorization", "cookie", "x-openmwaa-identity"} & set(seen)

            refused = await client.get("/refused")
            assert (refused.status_code, refused.json()) == (403, {"refused": True})
            redirect = await client.get("/sign-in")
            assert (redirect.status_code, redirect.headers["location"]) == (302, "/aws_mwaa/login")
            assert redirect.headers["set-cookie"] == "a=1"
            for path in ("/aws_mwaa/cli", "/pluginsv2/aws_mwaa/x", "/_openmwaa/x"):
                direct = await client.post(path, content=b"b")
                assert direct.json() == {"direct": path, "body": "b"}
            websocket = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "x"}
            await client.get("/ws", headers=websocket)
            assert not {"upgrade", "sec-websocket-key"} & set(questions[-1])

            api = f"https://127.0.0.1:{running.settings.ports.https}"
            assert (await client.post(f"{api}/environments", headers=claims, content=b"{}")).json() == {
                "control": "/environments",
                "body": "{}",
            }
            assert "forged" not in json.dumps(control_calls[-1])

            # Control restarts: who asks meanwhile waits instead of failing.
            stop.set()
            await serving
            late = asyncio.create_task(client.get(f"{api}/late"))
            await asyncio.sleep(0.5)
            stop.clear()
            serving = asyncio.create_task(serve_unix(apps, stop, mode=0o660, group=group))
            assert (await late).json()["control"] == "/late"
    finally:
        stop.set()
        await serving


async def test_everything_of_the_home_is_found_also_what_hides_its_marker(running: Running) -> None:
    found = home_processes(running.settings)
    postgres = psutil.Process(running.pid("postgres"))
    for process in (postgres, *postgres.children(), psutil.Process(running.pid("seaweedfs"))):
        assert process.pid in found
    assert os.getpid() not in found


@pytest.mark.skipif(not AS_ROOT, reason="only root gives the services a user of their own")
async def test_a_home_can_move_to_another_port_base() -> None:
    """The services' user number depends on the port base: their data changes hands."""
    with a_home() as home:
        async with running_services(home, PORT_BASE + 20) as (settings, _, _):
            query(load_endpoints(settings).postgres_url.reveal(), "CREATE TABLE kept AS SELECT 42 AS n")
        async with running_services(home, PORT_BASE + 40) as (settings, _, _):
            assert query(load_endpoints(settings).postgres_url.reveal(), "SELECT n FROM kept") == [(42,)]


@pytest.mark.skipif(not AS_ROOT, reason="only root gives the services a user of their own")
async def test_programs_that_the_services_user_cannot_reach_are_copied_once(running: Running) -> None:
    @dataclass(frozen=True)
    class Walled(ServiceUser):
        """A user for whom the virtual environment is below a closed folder, as below /root."""

        def can_enter(self, path: Path) -> bool:
            return running.settings.home in path.parents

    user = service_user(running.settings)
    walled = Walled(user.uid, user.gid, user.switch)
    found = find_binaries(running.settings, walled)
    assert running.settings.home in found.postgres.parents
    for argv in (
        [found.postgres / "postgres", "--version"],
        [found.postgres / "psql", "--version"],
        [found.caddy, "version"],
    ):
        code, output = await run_tool(argv, user=user, cwd=Path("/"), variables=base_variables(Path("/tmp")))
        assert code == 0, output
    before = found.weed.stat()
    assert find_binaries(running.settings, walled).weed.stat().st_ino == before.st_ino
