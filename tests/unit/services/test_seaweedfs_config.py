"""The object store's files and command line."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from openmwaa.kit.secret import Secret
from openmwaa.services.grpc_certificates import GrpcCertificates
from openmwaa.services.seaweedfs_config import build_argv, build_iam_json, build_s3_json, build_security_toml
from openmwaa.settings import Ports


def test_every_port_is_given_and_within_the_home_s_range() -> None:
    argv = build_argv(Path("/bin/weed"), Path("/d"), Path("/c"), Path("/s"), Ports(9000))
    options = dict(part.removeprefix("-").split("=", 1) for part in argv if "=" in part)
    ports = [int(value) for key, value in options.items() if ".port" in key and value != "0"]
    assert len(ports) == len(set(ports)) == 10
    assert all(9000 < port < 9020 for port in ports)
    assert options["ip"] == options["ip.bind"] == "127.0.0.1"
    assert options["master.telemetry"] == options["master.resumeState"] == "false"


def test_security_toml_authenticates_every_part() -> None:
    files = GrpcCertificates(Path("/c/ca.crt"), Path("/c/a.crt"), Path('/c/"odd".key'))
    text = build_security_toml(
        files, volume_key=Secret("k1"), filer_key=Secret("k2"), filer_read_key=Secret("k3")
    )
    config = tomllib.loads(text)
    assert config["jwt"]["signing"]["key"] == "k1"
    assert config["jwt"]["filer_signing"] == {"key": "k2", "read": {"key": "k3"}}
    assert config["filer"]["expose_directory_metadata"]["enabled"] is False
    for part in ("master", "volume", "filer", "s3", "client", "admin", "worker"):
        assert config["grpc"][part] == {"cert": "/c/a.crt", "key": '/c/"odd".key'}


def test_only_the_administrator_is_configured_and_only_he_may_assume_the_role() -> None:
    identities = json.loads(build_s3_json([("AKIA1", Secret("s1")), ("AKIA2", Secret("s2"))]))["identities"]
    assert [one["name"] for one in identities] == ["admin"]
    assert [key["accessKey"] for key in identities[0]["credentials"]] == ["AKIA1", "AKIA2"]
    iam = json.loads(build_iam_json(account_id="123456789012", sts_signing_key=Secret("key")))
    assert iam["roles"][0]["roleArn"] == "arn:aws:iam::123456789012:role/Broad"
    trust = iam["roles"][0]["trustPolicy"]["Statement"]
    assert [one["Principal"] for one in trust] == [{"AWS": "arn:aws:iam::000000000000:user/admin"}]
    assert iam["policy"]["defaultEffect"] == "Deny"
