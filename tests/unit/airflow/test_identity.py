"""The gateway's word as Airflow's side reads it; the tokens are made with real keys."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from openmwaa_airflow.identity import Identity, bearer_token, identity_of, verify, wanted_roles

KEY = Ed25519PrivateKey.generate()
NEXT_KEY = Ed25519PrivateKey.generate()
NEVER_YET = 1 << 33
LONG_AGO = 1 << 30


def pem(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def token(key: Ed25519PrivateKey = KEY, **changes: Any) -> str:
    now = int(time.time())
    claims = {
        "sub": "user/ann",
        "roles": ["Admin"],
        "aud": "openmwaa:e1",
        "iat": now,
        "nbf": now,
        "exp": now + 60,
    }
    return jwt.encode({k: v for k, v in (claims | changes).items() if v is not None}, key, algorithm="EdDSA")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENMWAA_GATEWAY_PUBLIC_KEY", pem(KEY))
    monkeypatch.setenv("OPENMWAA_AUDIENCE", "openmwaa:e1")


def test_a_signed_identity_is_read() -> None:
    assert verify(token()) == Identity("user/ann", ("Admin",))


def test_two_keys_are_trusted_while_the_key_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENMWAA_GATEWAY_PUBLIC_KEY", pem(KEY) + pem(NEXT_KEY))
    assert verify(token(KEY)) == verify(token(NEXT_KEY))


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "openmwaa:e2"},
        {"aud": "openmwaa:e1:session"},
        {"aud": None},
        {"exp": None},
        {"iat": None},
        {"sub": None},
        {"sub": ""},
        {"roles": None},
        {"roles": "Admin"},
        {"roles": [1]},
        {"nbf": NEVER_YET},
        {"exp": LONG_AGO},
    ],
)
def test_anything_else_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(jwt.InvalidTokenError):
        verify(token(**changes))


def test_another_key_or_another_algorithm_is_refused() -> None:
    claims = jwt.decode(token(), options={"verify_signature": False})
    for forged in (
        token(NEXT_KEY),
        jwt.encode(claims, "x" * 64, algorithm="HS256"),
        jwt.encode(claims, None, algorithm="none"),
        "nonsense",
    ):
        with pytest.raises(jwt.InvalidTokenError):
            verify(forged)


def test_long_names_end_in_their_hash() -> None:
    names = {identity_of({"sub": "a" * 70 + last, "roles": []}).name for last in "xy"}
    assert len(names) == 2
    assert {len(name) for name in names} == {64}
    assert identity_of({"sub": "a" * 64, "roles": []}).name == "a" * 64


@pytest.mark.parametrize(
    ("claimed", "current", "wanted"),
    [
        (["Admin"], [], {"Admin"}),
        (["Viewer"], ["Admin", "TeamA"], {"Viewer"}),
        (["Public"], ["TeamA", "Public"], {"TeamA", "Public"}),
        (["Public"], ["Admin", "TeamA"], {"TeamA", "Public"}),
        (["Public"], [], {"Public"}),
    ],
)
def test_only_public_keeps_custom_roles(claimed: list[str], current: list[str], wanted: set[str]) -> None:
    assert wanted_roles(claimed, current) == wanted


def test_only_a_bearer_token_counts() -> None:
    assert bearer_token("Bearer abc") == "abc"
    assert bearer_token("bearer abc") == "abc"
    for other in (None, "", "Basic abc", "Bearer ", "abc"):
        assert bearer_token(other) is None
