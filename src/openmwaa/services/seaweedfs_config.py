"""SeaweedFS's configuration files and command line. Pure.

Why each setting is there: with SeaweedFS 4.48's defaults about one start in seven stalls for
5 to 20 seconds, new buckets stop storing after the 64th, every local process can read and
write all buckets past S3's permissions, and statistics are sent out (infra.md 1).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from openmwaa.kit.secret import Secret
from openmwaa.services.grpc_certificates import GrpcCertificates
from openmwaa.settings import Ports

ADMIN_NAME: Final = "admin"
TASK_ROLE_NAME: Final = "Broad"
"""The role that temporary credentials are made from; each is narrowed by its session policy."""

_OWN_ACCOUNT: Final = "000000000000"
"""The account that SeaweedFS gives its own users, whatever ours is."""

_GRPC_PARTS: Final = ("master", "volume", "filer", "s3", "client", "admin", "worker", "msg_broker")


def task_role_arn(account_id: str) -> str:
    """Return the ARN for STS AssumeRole with a session policy."""
    return f"arn:aws:iam::{account_id}:role/{TASK_ROLE_NAME}"


def build_security_toml(
    certificates: GrpcCertificates, *, volume_key: Secret, filer_key: Secret, filer_read_key: Secret
) -> str:
    """Return `security.toml`: mutual TLS on gRPC, signed tokens on the filer's and volumes' HTTP."""
    lines = [
        "[jwt.signing]",
        f"key = {json.dumps(volume_key.reveal())}",
        "[jwt.filer_signing]",
        f"key = {json.dumps(filer_key.reveal())}",
        "[jwt.filer_signing.read]",
        f"key = {json.dumps(filer_read_key.reveal())}",
        "[filer.expose_directory_metadata]",
        "enabled = false",
        "[grpc]",
        f"ca = {json.dumps(str(certificates.authority))}",
    ]
    for part in _GRPC_PARTS:
        lines += [
            f"[grpc.{part}]",
            f"cert = {json.dumps(str(certificates.certificate))}",
            f"key = {json.dumps(str(certificates.key))}",
        ]
    return "\n".join(lines) + "\n"


def build_notification_toml(*, url: str, token: Secret) -> str:
    """Return `notification.toml`: what changes in buckets is posted to the node agent.

    Events wait in memory only and are dropped after three tries within seconds: they are hints.

    Args:
        url: Of the node agent's feed.

        token: What the agent knows us by.
    """
    lines = [
        "[notification.webhook]",
        "enabled = true",
        f"endpoint = {json.dumps(url)}",
        f"bearer_token = {json.dumps(token.reveal())}",
        'path_prefixes = ["/buckets/"]',
        "timeout_seconds = 2",
        "max_retries = 2",
        "backoff_seconds = 1",
        "max_backoff_seconds = 2",
        "workers = 2",
        "buffer_size = 1000",
    ]
    return "\n".join(lines) + "\n"


def build_s3_json(keys: Sequence[tuple[str, Secret]]) -> str:
    """Return `s3.json` with the administrator only: keys listed here cannot be withdrawn while it runs.

    Args:
        keys: Access key ids and secrets of the administrator.
    """
    credentials = [{"accessKey": key_id, "secretKey": secret.reveal()} for key_id, secret in keys]
    return json.dumps(
        {"identities": [{"name": ADMIN_NAME, "credentials": credentials, "actions": ["Admin"]}]}, indent=1
    )


def build_iam_json(*, account_id: str, sts_signing_key: Secret) -> str:
    """Return `iam.json`: one role, which only the administrator may assume.

    Args:
        account_id: Account in the role's ARN.

        sts_signing_key: Base64 of 32 bytes; signs session tokens.
    """
    everything = {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["*"]}
    trust = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{_OWN_ACCOUNT}:user/{ADMIN_NAME}"},
        "Action": ["sts:AssumeRole"],
    }
    config: dict[str, Any] = {
        "sts": {
            "tokenDuration": "1h",
            "maxSessionLength": "12h",
            "issuer": "openmwaa",
            "signingKey": sts_signing_key.reveal(),
        },
        "policy": {"defaultEffect": "Deny", "storeType": "memory"},
        "policies": [{"name": "All", "document": {"Version": "2012-10-17", "Statement": [everything]}}],
        "roles": [
            {
                "roleName": TASK_ROLE_NAME,
                "roleArn": task_role_arn(account_id),
                "attachedPolicies": ["All"],
                "trustPolicy": {"Version": "2012-10-17", "Statement": [trust]},
            }
        ],
    }
    return json.dumps(config, indent=1)


def build_argv(weed: Path, data: Path, config: Path, sockets: Path, ports: Ports) -> tuple[str, ...]:
    """Return the command line of `weed mini`.

    Args:
        weed: The program.

        data: Folder of volumes and metadata.

        config: Folder of `s3.json` and `iam.json`; also the working directory, for `security.toml`.

        sockets: Folder of its unix sockets; its path must be short.

        ports: Every port is given, because the defaults of two homes would collide.
    """
    options = {
        "dir": data,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "master.port": ports.seaweedfs(0),
        "master.port.grpc": ports.seaweedfs(1),
        "volume.port": ports.seaweedfs(2),
        "volume.port.grpc": ports.seaweedfs(3),
        "filer.port": ports.seaweedfs(4),
        "filer.port.grpc": ports.seaweedfs(5),
        "s3.port": ports.s3,
        "s3.port.grpc": ports.seaweedfs(6),
        "admin.port": ports.seaweedfs(7),
        "admin.port.grpc": ports.seaweedfs(8),
        "admin.ui": "false",
        "webdav": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "master.resumeState": "false",
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 256,
        "volume.max": 2000,
        "s3.config": config / "s3.json",
        "s3.iam.config": config / "iam.json",
        "s3.iam.readOnly": "false",
        "s3.autoCreateBucket": "false",
        "s3.allowDeleteBucketNotEmpty": "false",
        "filer.localSocket": sockets / "filer.sock",
        "s3.localSocket": sockets / "s3.sock",
    }
    return (str(weed), "-logtostderr=true", "mini", *(f"-{key}={value}" for key, value in options.items()))
