"""A token is accepted for its own purpose and environment, and for nothing else."""

from __future__ import annotations

import base64
import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st

from openmwaa.environments.ids import new_environment_id
from openmwaa.gateway.keys import GatewayKey, load_gateway_key
from openmwaa.gateway.tokens import LIFETIME_S, TokenKind, TokenRefusedError, Tokens, audience
from openmwaa.kit.secret import Secret

KEY = GatewayKey.generate()
TOKENS = Tokens(KEY)
HOME = "abcdefghijkl"
ids = st.from_regex(r"[a-z][a-z0-9]{11}", fullmatch=True)
kinds = st.sampled_from(TokenKind)
users = st.text(min_size=1, max_size=64)


def refused(token: str, kind: TokenKind = TokenKind.SESSION, environment_id: str = HOME) -> bool:
    try:
        TOKENS.verify(token, kind, environment_id)
    except TokenRefusedError:
        return True
    return False


@given(kind=kinds, environment_id=ids, user=users, roles=st.lists(st.text(max_size=20), max_size=3))
def test_a_token_says_what_was_minted(
    kind: TokenKind, environment_id: str, user: str, roles: list[str]
) -> None:
    claims = TOKENS.verify(TOKENS.mint(kind, environment_id, subject=user, roles=roles), kind, environment_id)
    assert (claims.kind, claims.environment_id) == (kind, environment_id)
    assert (claims.subject, claims.roles) == (user, tuple(roles))


@given(minted=st.tuples(kinds, ids), asked=st.tuples(kinds, ids))
def test_no_other_kind_or_environment_accepts_a_token(
    minted: tuple[TokenKind, str], asked: tuple[TokenKind, str]
) -> None:
    token = TOKENS.mint(minted[0], minted[1], subject="user/alice", roles=["Admin"])
    assert refused(token, *asked) is (minted != asked)


@given(first=st.tuples(kinds, ids), second=st.tuples(kinds, ids))
def test_audiences_are_distinct(first: tuple[TokenKind, str], second: tuple[TokenKind, str]) -> None:
    assert (audience(*first) == audience(*second)) is (first == second)


@given(st.text(max_size=300))
def test_any_text_is_refused(text: str) -> None:
    assert refused(text)
    assert TOKENS.is_ours(text) is False


@given(position=st.integers(min_value=0), replacement=st.characters(min_codepoint=33, max_codepoint=126))
def test_an_altered_token_is_refused(position: int, replacement: str) -> None:
    token = TOKENS.mint(TokenKind.SESSION, HOME, subject="user/alice", roles=["Viewer"])
    position %= len(token)
    altered = token[:position] + replacement + token[position + 1 :]
    if decoded(altered) != decoded(token):
        assert refused(altered)


def decoded(token: str) -> list[bytes]:
    """The bytes of the parts: a last character of Base64 has bits that mean nothing."""
    parts = []
    for part in token.split("."):
        try:
            parts.append(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        except ValueError:
            parts.append(part.encode())
    return parts


@pytest.mark.parametrize("kind", TokenKind)
def test_a_token_ends_with_its_lifetime(kind: TokenKind) -> None:
    import time  # noqa: PLC0415 - only here is the clock of interest

    lifetime = LIFETIME_S[kind]
    young = Tokens(KEY, clock=lambda: time.time() - lifetime + 10).mint(kind, HOME, subject="user/alice")
    assert not refused(young, kind)
    old = Tokens(KEY, clock=lambda: time.time() - lifetime - 10).mint(kind, HOME, subject="user/alice")
    with pytest.raises(TokenRefusedError) as caught:
        TOKENS.verify(old, kind, HOME)
    assert caught.value.expired
    future = Tokens(KEY, clock=lambda: time.time() + 30).mint(kind, HOME, subject="user/alice")
    assert refused(future, kind)


def test_lifetimes_are_those_of_mwaa() -> None:
    assert LIFETIME_S[TokenKind.WEB] == LIFETIME_S[TokenKind.CLI] == LIFETIME_S[TokenKind.IDENTITY] == 60
    assert LIFETIME_S[TokenKind.SESSION] == 12 * 60 * 60


PAYLOAD = {
    "aud": audience(TokenKind.SESSION, HOME),
    "sub": "user/mallory",
    "roles": ["Admin"],
    "iat": 1,
    "nbf": 1,
    "exp": 4102444800,
    "jti": "x",
}


def test_other_keys_and_algorithms_are_refused() -> None:
    good = jwt.encode(PAYLOAD, KEY.private, algorithm="EdDSA")
    assert not refused(good)
    stranger = Ed25519PrivateKey.generate()
    public_as_secret = base64.b64encode(KEY.public_pem.encode()).decode()
    forged = [
        jwt.encode(PAYLOAD, stranger, algorithm="EdDSA", headers={"kid": KEY.kid}),
        jwt.encode(PAYLOAD, None, algorithm="none"),
        jwt.encode(PAYLOAD, public_as_secret, algorithm="HS256", headers={"kid": KEY.kid}),
        jwt.encode(PAYLOAD, "x" * 64, algorithm="HS512"),
    ]
    assert all(refused(token) for token in forged)


@pytest.mark.parametrize("missing", sorted(set(PAYLOAD) - {"roles"}))
def test_every_claim_is_required(missing: str) -> None:
    payload = {name: value for name, value in PAYLOAD.items() if name != missing}
    assert refused(jwt.encode(payload, KEY.private, algorithm="EdDSA"))


def test_a_list_of_audiences_is_refused() -> None:
    both = PAYLOAD | {"aud": [audience(kind, HOME) for kind in TokenKind]}
    assert refused(jwt.encode(both, KEY.private, algorithm="EdDSA"))


def test_a_header_that_exhausts_the_parser_is_refused() -> None:
    for depth in (2000, 200_000):
        header = base64.urlsafe_b64encode(b"[" * depth).decode().rstrip("=")
        assert refused(f"{header}.e30.AA")
        assert not TOKENS.is_ours(f"{header}.e30.AA")


def test_tokens_of_a_deleted_environment_do_not_fit_its_successor() -> None:
    token = TOKENS.mint(TokenKind.SESSION, new_environment_id(), subject="user/alice")
    assert refused(token, TokenKind.SESSION, new_environment_id())


def test_environments_verify_with_the_public_key_alone() -> None:
    token = TOKENS.mint(TokenKind.IDENTITY, HOME, subject="user/alice", roles=["Op"])
    public = load_pem_public_key(KEY.public_pem.encode())
    claims = jwt.decode(token, public, algorithms=["EdDSA"], audience=f"openmwaa:{HOME}")
    assert (claims["sub"], claims["roles"]) == ("user/alice", ["Op"])
    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "kid": KEY.kid, "typ": "JWT"}
    assert json.dumps(claims)


async def test_the_key_comes_from_the_store_and_is_made_once() -> None:
    kept: dict[str, Secret] = {}

    class Keys:
        async def get_or_create(self, name, make):  # type: ignore[no-untyped-def]
            return kept.setdefault(name, make())

    first, second = await load_gateway_key(Keys()), await load_gateway_key(Keys())
    assert first.public_pem == second.public_pem
    assert first.kid == second.kid
    assert "PRIVATE" not in repr(first)
