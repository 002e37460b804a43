"""The embedded SeaweedFS: S3 with versions, IAM accounts and STS, on loopback."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import secrets
from pathlib import Path
from typing import Final

import structlog

from openmwaa.kit.secret import Secret
from openmwaa.services.binaries import Binaries
from openmwaa.services.endpoints import S3_ADMIN_KEY_ID, S3_ADMIN_SECRET, make_credentials, operator_key
from openmwaa.services.feed import feed_token, feed_url
from openmwaa.services.grpc_certificates import ensure_grpc_certificates
from openmwaa.services.s3_probe import S3Probe
from openmwaa.services.seaweedfs_config import (
    build_argv,
    build_iam_json,
    build_notification_toml,
    build_s3_json,
    build_security_toml,
)
from openmwaa.services.secrets import ServiceSecrets
from openmwaa.services.service import ServiceBrokenError, base_variables, digest_of, run_tool
from openmwaa.services.users import ServiceUser
from openmwaa.settings import Settings
from openmwaa.supervise import ProcessSpec, Sandbox

_log = structlog.get_logger()

PROBE_BUCKET: Final = "openmwaa-probe"

_STOP_GRACE_S: Final = 6.0
"""A stop takes 2 s; some builds wait for ever. Killing it loses nothing that was acknowledged."""

_MEMORY_TARGET: Final = "300MiB"
"""Unset, it keeps 450 MB after an upload; at 200 MiB the collector takes a fifth of a core."""

_SOCKET_PATH_LIMIT: Final = 100


class SeaweedFs:
    """How to prepare, start and probe the embedded object store."""

    name = "seaweedfs"

    def __init__(self, settings: Settings, user: ServiceUser, binaries: Binaries) -> None:
        self._settings = settings
        self._user = user
        self._weed = binaries.weed
        self._secrets = ServiceSecrets(settings)
        self._folder = settings.layout.services / "seaweedfs"
        self._data = self._folder / "data"
        self._settled = self._folder / "settled"

    async def prepare(self) -> None:
        """Make folders, keys, certificates and the configuration files."""
        self._user.make_folder(self._folder)
        self._user.make_folder(self._data)
        if len(str(self._folder / "filer.sock")) > _SOCKET_PATH_LIMIT:
            raise ServiceBrokenError(
                f"the path of the home is too long for unix sockets: {self._settings.home}"
            )
        self._remove_foreign_sockets()
        certificates = await asyncio.to_thread(ensure_grpc_certificates, self._folder, self._user)
        make_credentials(self._settings)
        make = self._secrets.get_or_create
        security = build_security_toml(
            certificates,
            volume_key=make("seaweedfs/volume-key"),
            filer_key=make("seaweedfs/filer-key"),
            filer_read_key=make("seaweedfs/filer-read-key"),
        )
        s3 = build_s3_json(
            [(make(S3_ADMIN_KEY_ID).reveal(), make(S3_ADMIN_SECRET)), operator_key(self._settings)]
        )
        iam = build_iam_json(
            account_id=self._settings.account_id, sts_signing_key=make("seaweedfs/sts-key", _new_sts_key)
        )
        notification = build_notification_toml(url=feed_url(self._settings), token=feed_token(self._settings))
        files = {
            "security.toml": security,
            "notification.toml": notification,
            "s3.json": s3,
            "iam.json": iam,
        }
        for name, text in files.items():
            self._user.write(self._folder / name, text)

    def spec(self) -> ProcessSpec:
        names = ("security.toml", "notification.toml", "s3.json", "iam.json", "grpc.crt")
        files = [self._folder / name for name in names]
        variables = base_variables(self._folder) | {
            "GOMEMLIMIT": _MEMORY_TARGET,
            "OPENMWAA_CONFIG_DIGEST": digest_of(*files),
            # Some of its parts write scratch files.
            "TMPDIR": str(self._folder),
        }
        return ProcessSpec(
            name=self.name,
            argv=build_argv(self._weed, self._data, self._folder, self._folder, self._settings.ports),
            env=variables,
            cwd=self._folder,
            log_path=self._settings.layout.logs / "seaweedfs.log",
            stop_grace_s=_STOP_GRACE_S,
            sandbox=Sandbox(uid=self._user.uid, gid=self._user.gid) if self._user.switch else None,
        )

    async def is_ready(self) -> bool:
        """Put and get an object: a port or a listing answers long before that works."""
        try:
            return await asyncio.to_thread(self._put_and_get)
        except OSError:
            return False

    async def settle(self) -> None:
        """Once: have what PutObject acknowledges flushed to disk."""
        if self._settled.exists():
            return
        ports = self._settings.ports
        argv = (
            *(self._weed, "shell"),
            f"-master=127.0.0.1:{ports.seaweedfs(0)}.{ports.seaweedfs(1)}",
            f"-filer=127.0.0.1:{ports.seaweedfs(4)}.{ports.seaweedfs(5)}",
        )
        code, output = await run_tool(
            argv,
            user=self._user,
            cwd=self._folder,
            variables=base_variables(self._folder) | {"TMPDIR": str(self._folder)},
            stdin=b"fs.configure -locationPrefix=/buckets/ -fsync -apply\n",
        )
        # protobuf varies the white space of its JSON on purpose
        if code != 0 or not re.search(r'"fsync":\s*true', output):
            raise ServiceBrokenError(f"weed shell could not configure fsync: {output.strip()[-300:]}")
        self._user.write(self._settled, "fsync\n")
        _log.info("seaweedfs-fsync-configured")

    def _remove_foreign_sockets(self) -> None:
        """Remove what someone else left at the fixed places in /tmp, e.g. a deleted home with the same ports.

        SeaweedFS replaces its own sockets, but hangs on one of another user.
        """
        for path in _sockets_in_tmp(self._settings):
            try:
                if path.lstat().st_uid != self._user.uid:
                    path.unlink()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise ServiceBrokenError(f"{path} belongs to another user; remove it first") from error

    def _put_and_get(self) -> bool:
        key_id, secret = self._secrets.get(S3_ADMIN_KEY_ID), self._secrets.get(S3_ADMIN_SECRET)
        if key_id is None or secret is None:
            return False
        probe = S3Probe(self._settings.ports.s3, key_id.reveal(), secret, self._settings.region)
        path, body = f"/{PROBE_BUCKET}/ready", os.urandom(8)
        status, _ = probe.request("PUT", path, body)
        if status == 404:
            probe.request("PUT", f"/{PROBE_BUCKET}")
            status, _ = probe.request("PUT", path, body)
        return status == 200 and probe.request("GET", path) == (200, body)


def remove_sockets(settings: Settings) -> None:
    """Remove the sockets that SeaweedFS leaves in /tmp. Only when it does not run."""
    for path in _sockets_in_tmp(settings):
        with contextlib.suppress(OSError):
            path.unlink()


def _sockets_in_tmp(settings: Settings) -> list[Path]:
    parts = {"master": 1, "volume": 3, "filer": 5, "s3": 6, "admin": 8}
    return [
        Path(f"/tmp/seaweedfs-{part}-grpc-{settings.ports.seaweedfs(offset)}.sock")  # noqa: S108 - its choice
        for part, offset in parts.items()
    ]


def _new_sts_key() -> Secret:
    return Secret(base64.b64encode(secrets.token_bytes(32)).decode())
