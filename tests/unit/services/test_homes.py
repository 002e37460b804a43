"""Secrets, users and endpoints of a home."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from openmwaa.services.endpoints import ServicesNotReadyError, load_endpoints, make_credentials, operator_key
from openmwaa.services.grpc_certificates import ensure_grpc_certificates
from openmwaa.services.secrets import ServiceSecrets
from openmwaa.services.users import ServiceUser, UnusableHomeError, prepare_home, service_user
from openmwaa.settings import Settings

ME = ServiceUser(os.geteuid(), os.getegid(), switch=False)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, port_base=8750)


def test_a_secret_is_made_once_and_never_stored_in_clear(settings: Settings) -> None:
    first = ServiceSecrets(settings).get_or_create("a/b")
    assert ServiceSecrets(settings).get_or_create("a/b") == first == ServiceSecrets(settings).get("a/b")
    assert ServiceSecrets(settings).get("other") is None
    file = settings.home / "keys" / "services.json"
    assert first.reveal() not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_endpoints_need_a_prepared_home_and_are_the_same_in_every_process(settings: Settings) -> None:
    with pytest.raises(ServicesNotReadyError, match="openmwaa up"):
        load_endpoints(settings)
    make_credentials(settings)
    ends = load_endpoints(settings)
    assert ends == load_endpoints(settings)
    assert ends.s3_url == "http://127.0.0.1:8752"
    assert ends.s3_embedded
    assert ends.postgres_url.reveal().endswith("@127.0.0.1:8751/openmwaa")
    assert "***" in repr(ends)
    assert operator_key(settings) == operator_key(settings)
    assert operator_key(settings)[0] != ends.s3_access_key_id


def test_a_user_s_own_servers_are_used_as_they_are(tmp_path: Path) -> None:
    own = Settings(
        home=tmp_path,
        postgres_url=SecretStr("postgresql://me:pw@db/x"),
        s3_endpoint_url="https://s3.example.com",
        s3_access_key_id="AKIAOWN",
        s3_secret_access_key=SecretStr("own"),
    )
    ends = load_endpoints(own)
    assert ends.postgres_url.reveal() == "postgresql://me:pw@db/x"
    assert (ends.s3_url, ends.s3_access_key_id) == ("https://s3.example.com", "AKIAOWN")
    assert ends.s3_secret_access_key.reveal() == "own"
    assert not ends.s3_embedded


def test_a_home_below_a_closed_folder_is_refused_for_root_and_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    settings = Settings(home=closed / "home")
    if service_user(settings).switch:
        with pytest.raises(UnusableHomeError, match="cannot enter"):
            prepare_home(settings)
    else:
        prepare_home(settings)
        assert settings.home.stat().st_mode & 0o777 == 0o711


def test_certificates_are_made_once_and_again_when_damaged(tmp_path: Path) -> None:
    files = ensure_grpc_certificates(tmp_path, ME)
    first = files.certificate.read_bytes()
    ensure_grpc_certificates(tmp_path, ME)
    assert files.certificate.read_bytes() == first
    assert files.key.stat().st_mode & 0o777 == 0o600
    files.certificate.write_bytes(first[: len(first) // 2])
    ensure_grpc_certificates(tmp_path, ME)
    assert files.certificate.read_bytes() not in {first, b""}
