"""Which of a home's ports someone else uses."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

from openmwaa.kit.errors import OperatorError
from openmwaa.settings import Settings
from openmwaa.settings.layout import FIRST_ORDINAL, LAST_ORDINAL


class PortInUseError(OperatorError):
    """A port that the service needs belongs to another process."""


@dataclass(frozen=True)
class Listener:
    """A port that one process of the home listens on."""

    process: str
    address: str
    port: int


def listeners(settings: Settings) -> list[Listener]:
    """Return what the embedded services listen on; of the environments' addresses the first and last."""
    ports = settings.ports
    found = []
    if settings.postgres_url is None:
        found.append(Listener("postgres", "127.0.0.1", ports.postgres))
    if settings.s3_endpoint_url is None:
        numbers = [ports.s3, *(ports.seaweedfs(offset) for offset in range(9))]
        found += [Listener("seaweedfs", "127.0.0.1", number) for number in numbers]
        found.append(Listener("node", "127.0.0.1", ports.feed))
    addresses = ["127.0.0.1", str(ports.address(FIRST_ORDINAL)), str(ports.address(LAST_ORDINAL))]
    found += [Listener("caddy", address, ports.https) for address in addresses]
    return found


def why_unusable(listener: Listener) -> str | None:
    """Return why a port cannot be listened on now; None if it can."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((listener.address, listener.port))
        except OSError as error:
            place = f"{listener.address}:{listener.port}"
            if error.errno == errno.EADDRINUSE:
                return f"{place} is used by another program; choose another --port-base"
            return f"{place} cannot be used: {error.strerror}"
    return None


def require_free(settings: Settings, process: str) -> None:
    """Check the ports of one service before it is started.

    Raises:
        PortInUseError: Names the address and port.
    """
    for listener in listeners(settings):
        if listener.process == process and (reason := why_unusable(listener)):
            raise PortInUseError(f"{process} cannot start: {reason}")
