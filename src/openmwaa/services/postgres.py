"""The embedded PostgreSQL 18: one server for the store and for every environment's metadata.

Reached over TCP on 127.0.0.1 with SCRAM passwords only; it opens no unix socket. A data
folder appears complete or not at all: `initdb` works in a draft that is renamed.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
from pathlib import Path
from typing import Final

import structlog

from openmwaa.services.binaries import Binaries
from openmwaa.services.endpoints import POSTGRES_DATABASE, POSTGRES_PASSWORD, POSTGRES_USER, make_credentials
from openmwaa.services.secrets import ServiceSecrets
from openmwaa.services.service import ServiceBrokenError, base_variables, run_tool
from openmwaa.services.users import ServiceUser
from openmwaa.settings import Settings
from openmwaa.supervise import ProcessSpec, Sandbox
from openmwaa.supervise.identity import MARKER_VARIABLE
from openmwaa.supervise.process import kill_marked

_log = structlog.get_logger()

_TOOLS: Final = "postgres-tools"
_MAJOR: Final = "18"
_STOP_GRACE_S: Final = 30.0
_INITDB_TIMEOUT_S: Final = 120.0
_PROBE_TIMEOUT_S: Final = 5.0

_OPTIONS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "48MB",
    "max_connections": "300",
    "io_method": "sync",
    "max_logical_replication_workers": "0",
    "jit": "off",
    "huge_pages": "off",
    "max_wal_size": "512MB",
    # A failing `CREATE ROLE … PASSWORD '…'` must not write its own text into the log.
    "log_min_error_statement": "panic",
    "log_timezone": "UTC",
}

_BOOTSTRAP: Final = (
    f"CREATE DATABASE {POSTGRES_DATABASE}",
    # Environments' roles may connect to their own database only.
    f"REVOKE ALL ON DATABASE {POSTGRES_DATABASE} FROM PUBLIC",
    "REVOKE ALL ON DATABASE postgres FROM PUBLIC",
    "REVOKE ALL ON DATABASE template1 FROM PUBLIC",
)


class Postgres:
    """How to prepare, start and probe the embedded PostgreSQL."""

    name = "postgres"

    def __init__(self, settings: Settings, user: ServiceUser, binaries: Binaries) -> None:
        self._settings = settings
        self._user = user
        self._bin = binaries.postgres
        self._secrets = ServiceSecrets(settings)
        self._folder = settings.layout.services / "postgres"
        self._data = self._folder / "data"

    async def prepare(self) -> None:
        """Make the data folder on the first start: `initdb`, password, the store's empty database."""
        self._user.make_folder(self._folder)
        make_credentials(self._settings)
        password = self._secrets.get_or_create(POSTGRES_PASSWORD).reveal()
        if not self._data.exists():
            await self._initialise(password)
        version = (self._data / "PG_VERSION").read_text().strip()
        if version != _MAJOR:
            raise ServiceBrokenError(f"{self._data} is of PostgreSQL {version}; this release has {_MAJOR}")
        self._remove_stale_pid_file()

    def spec(self) -> ProcessSpec:
        options = _OPTIONS | {"port": str(self._settings.ports.postgres)}
        arguments = [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        return ProcessSpec(
            name=self.name,
            argv=(str(self._bin / "postgres"), "-D", str(self._data), *arguments),
            env=base_variables(self._folder),
            cwd=self._data,
            log_path=self._settings.layout.logs / "postgres.log",
            stop_signal=signal.SIGINT,  # "fast": ends sessions, then a clean checkpoint
            stop_grace_s=_STOP_GRACE_S,
            sandbox=Sandbox(uid=self._user.uid, gid=self._user.gid) if self._user.switch else None,
        )

    async def is_ready(self) -> bool:
        """Ask for `SELECT 1` in the store's database, as the administrator."""
        password = self._secrets.get(POSTGRES_PASSWORD)
        if password is None:
            return False
        variables = base_variables(self._folder) | {
            "PGPASSWORD": password.reveal(),
            "PGCONNECT_TIMEOUT": "3",
            "PGPASSFILE": "/dev/null",
        }
        argv = (
            *(self._bin / "psql", "--no-psqlrc", "--no-password", "-h", "127.0.0.1"),
            *("-p", str(self._settings.ports.postgres), "-U", POSTGRES_USER),
            *("-d", POSTGRES_DATABASE, "-Atc", "SELECT 1"),
        )
        try:
            code, output = await run_tool(
                argv, user=self._user, cwd=self._folder, variables=variables, timeout_s=_PROBE_TIMEOUT_S
            )
        except TimeoutError:
            return False
        return code == 0 and output.strip() == "1"

    async def settle(self) -> None:
        """Nothing: all was done before the first start."""

    async def _initialise(self, password: str) -> None:
        # `initdb` needs a user with a name; the server does not. So: `nobody` first, then ours.
        maker = self._user
        if self._user.switch:
            nobody = pwd.getpwnam("nobody")
            maker = ServiceUser(nobody.pw_uid, nobody.pw_gid, switch=True)
        elif not _has_name(maker.uid):
            raise ServiceBrokenError(
                f"user number {maker.uid} has no name in /etc/passwd, which PostgreSQL needs to make a database"
            )
        # The tools of a killed starter may still be at work: they are ended, and never share a folder with ours.
        marker = f"{self._settings.layout.up_processes}:{_TOOLS}:"
        await kill_marked(marker)
        for left in self._settings.layout.services.glob(".postgres-*.draft"):
            shutil.rmtree(left, ignore_errors=True)
        nonce = secrets.token_hex(4)
        draft = maker.make_folder(self._settings.layout.services / f".postgres-{nonce}.draft")
        data, password_file = draft / "data", draft / "password"
        maker.write(password_file, password)
        variables = base_variables(draft) | {MARKER_VARIABLE: marker + nonce}
        await self._must_run(
            (
                *(self._bin / "initdb", "-D", data, "-U", POSTGRES_USER, "-A", "scram-sha-256"),
                *(f"--pwfile={password_file}", "-E", "UTF8", "--locale-provider=builtin"),
                *("--builtin-locale=C.UTF-8", "--locale=C"),
            ),
            maker,
            draft,
            variables,
        )
        statements = "".join(f"{statement};\n\n" for statement in _BOOTSTRAP)
        await self._must_run(
            (self._bin / "postgres", "--single", "-j", "-D", data, "-c", "io_method=sync", "postgres"),
            maker,
            draft,
            variables,
            statements.encode(),
        )
        self._user.take(data)
        data.rename(self._data)
        shutil.rmtree(draft)
        _log.info("postgres-initialised")

    async def _must_run(
        self,
        argv: tuple[str | Path, ...],
        user: ServiceUser,
        cwd: Path,
        variables: dict[str, str],
        stdin: bytes = b"",
    ) -> None:
        code, output = await run_tool(
            argv, user=user, cwd=cwd, variables=variables, stdin=stdin, timeout_s=_INITDB_TIMEOUT_S
        )
        # The single-user server ends with 0 even if a statement failed.
        if code != 0 or "ERROR:" in output or "FATAL:" in output:
            tail = " | ".join(output.strip().splitlines()[-3:])
            raise ServiceBrokenError(f"{Path(argv[0]).name} failed: {tail}")

    def _remove_stale_pid_file(self) -> None:
        """Remove a pid file whose number another process has by now.

        After a reboot or in a restarted container the number may be in use by one of our own
        other servers, and PostgreSQL, which cannot tell, would refuse to start for ever.
        """
        pid_file = self._data / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().splitlines()[0])
            if Path(os.readlink(f"/proc/{pid}/cwd")) != self._data:
                pid_file.unlink()
        except FileNotFoundError:
            return  # no such file, or no such process: PostgreSQL replaces the file itself
        except (ValueError, IndexError):
            pid_file.unlink(missing_ok=True)  # torn by a power loss


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
