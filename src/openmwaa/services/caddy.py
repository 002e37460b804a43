"""The embedded Caddy: TLS with a local authority in front of control, gateway and environments."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
from typing import Final

import certifi

from openmwaa.kit.files import write_atomically
from openmwaa.services.binaries import Binaries
from openmwaa.services.caddy_config import READY_PATH, build_config, root_certificate, storage_folder
from openmwaa.services.service import base_variables, digest_of
from openmwaa.services.users import ServiceUser
from openmwaa.settings import Settings
from openmwaa.supervise import ProcessSpec, Sandbox

_STOP_GRACE_S: Final = 8.0
_PROBE_TIMEOUT_S: Final = 5.0


class Caddy:
    """How to prepare, start and probe the TLS proxy."""

    name = "caddy"

    def __init__(self, settings: Settings, user: ServiceUser, binaries: Binaries) -> None:
        self._settings = settings
        self._user = user
        self._caddy = binaries.caddy
        self._folder = settings.layout.services / "caddy"
        self._config = self._folder / "caddy.json"

    async def prepare(self) -> None:
        """Write the configuration; nothing changes it afterwards."""
        self._user.make_folder(self._folder)
        self._user.make_folder(storage_folder(self._settings))
        self._user.write(self._config, json.dumps(build_config(self._settings), indent=1))
        # Locks of a killed Caddy would make the next one wait 10 s; this folder has one user only.
        shutil.rmtree(storage_folder(self._settings) / "locks", ignore_errors=True)

    def spec(self) -> ProcessSpec:
        variables = base_variables(self._folder) | {
            "XDG_DATA_HOME": str(self._folder),
            "XDG_CONFIG_HOME": str(self._folder),
            "OPENMWAA_CONFIG_DIGEST": digest_of(self._config),
        }
        return ProcessSpec(
            name=self.name,
            argv=(str(self._caddy), "run", "--config", str(self._config)),
            env=variables,
            cwd=self._folder,
            log_path=self._settings.layout.logs / "caddy.log",
            stop_grace_s=_STOP_GRACE_S,
            sandbox=Sandbox(uid=self._user.uid, gid=self._user.gid) if self._user.switch else None,
        )

    async def is_ready(self) -> bool:
        """Ask for an answer over TLS, with the certificate verified against the local authority."""
        try:
            return await asyncio.to_thread(self._ask)
        except (OSError, ValueError):
            return False

    async def settle(self) -> None:
        """Give clients the bundle of public roots and the local authority."""
        bundle = self._settings.layout.ca_bundle
        ours = await asyncio.to_thread(root_certificate(self._settings).read_text)
        text = f"# The local authority of {self._settings.home}\n{ours.strip()}\n\n{certifi.contents()}"
        if not bundle.exists() or bundle.read_text() != text:
            write_atomically(bundle, text, mode=0o644)

    def _ask(self) -> bool:
        port = self._settings.ports.https
        context = ssl.create_default_context(cafile=root_certificate(self._settings))
        with (
            socket.create_connection(("127.0.0.1", port), timeout=_PROBE_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
        ):
            tls.sendall(f"GET {READY_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
            return tls.recv(64).startswith(b"HTTP/1.1 200")
