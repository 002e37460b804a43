"""Signatures made by botocore are accepted; after any change to the request they are not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from openmwaa.identity.sigv4 import (
    AuthenticationError,
    Claim,
    Flaw,
    MalformedRequestError,
    SignedRequest,
    verify,
)
from openmwaa.kit.secret import Secret

KEY_ID, SECRET = "AKIAEXAMPLEEXAMPLE23", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
HOST = "api.127.0.0.1:8750"
ARN = "arn:aws:airflow:us-east-1:000000000000:environment/alpha"


def signed(
    method: str = "PUT",
    path: str = "/environments/alpha",
    query: str = "",
    body: bytes = b'{"DagS3Path":"dags"}',
    headers: Mapping[str, str] | None = None,
    *,
    presigned: bool = False,
    service: str = "airflow",
    region: str = "us-east-1",
    expires_s: int = 300,
) -> SignedRequest:
    """Sign with botocore and return the request as it would arrive."""
    url = f"https://{HOST}{path}" + (f"?{query}" if query else "")
    request = AWSRequest(
        method=method, url=url, headers=dict(headers or {}), data=None if presigned else body
    )
    credentials = Credentials(KEY_ID, SECRET)
    if presigned:
        SigV4QueryAuth(credentials, service, region, expires=expires_s).add_auth(request)
    else:
        SigV4Auth(credentials, service, region).add_auth(request)
    assert request.url is not None
    parts = urlsplit(request.url)
    arrived = [("host", HOST), *((name.lower(), value) for name, value in request.headers.items())]
    return SignedRequest(method, parts.path, parts.query, arrived, b"" if presigned else body)


def check(
    request: SignedRequest,
    *,
    later: timedelta = timedelta(),
    region: str = "us-east-1",
    service: str = "airflow",
    secret: str = SECRET,
) -> Claim:
    """Verify as the API does."""
    request.check()
    claim = Claim.read(request)
    claim.check(region=region, service=service, now=datetime.now(UTC) + later)
    verify(request, claim, Secret(secret))
    return claim


def refused(request: SignedRequest, flaw: Flaw, text: str = "", **facts: Any) -> None:
    with pytest.raises(AuthenticationError) as caught:
        check(request, **facts)
    assert caught.value.flaw is flaw
    assert text in str(caught.value)


def with_header(request: SignedRequest, name: str, value: str | None) -> SignedRequest:
    headers = [(key, old) for key, old in request.headers if key != name]
    return dataclasses.replace(request, headers=headers + ([(name, value)] if value is not None else []))


@pytest.mark.parametrize("presigned", [False, True])
def test_what_botocore_signs_is_accepted(presigned: bool) -> None:
    claim = check(signed(presigned=presigned))
    assert (claim.key_id, claim.region, claim.service) == (KEY_ID, "us-east-1", "airflow")


def test_a_request_is_accepted_again_within_the_skew() -> None:
    request = signed()
    check(request)
    check(request, later=timedelta(minutes=4, seconds=50))


UNUSUAL = [
    ("/environments", "", b""),
    ("/environments", "MaxResults=5&NextToken=a%2Fb%3D%3D", b""),
    ("/tags/a%20b%C3%A9~", "tagKeys=%E2%82%AC&other=x%20y%2B", b"{}"),
    ("/environments", "MaxResults=&empty", b"\x00\xff"),
    ("/a/./b/../c//d", "", b""),
]
REPEATED = (f"/tags/{quote(ARN, safe='')}", "tagKeys=b&tagKeys=a&tagKeys=b", b"")


@pytest.mark.parametrize(("path", "query", "body"), [*UNUSUAL, REPEATED])
def test_unusual_characters_are_signed_as_botocore_does(path: str, query: str, body: bytes) -> None:
    check(signed("GET", path, query, body))


@pytest.mark.parametrize(("path", "query", "body"), UNUSUAL)  # botocore drops repeated keys here
def test_unusual_characters_in_a_presigned_url(path: str, query: str, body: bytes) -> None:
    check(signed("GET", path, query, body, presigned=True))


_label = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(label=_label, pairs=st.lists(st.tuples(_label, _label), max_size=4), body=st.binary(max_size=64))
def test_any_encoded_text_survives(label: str, pairs: list[tuple[str, str]], body: bytes) -> None:
    pairs = [(f"k{key}", value) for key, value in pairs]
    query = "&".join(f"{quote(key, safe='-_.~')}={quote(value, safe='-_.~')}" for key, value in pairs)
    request = signed("POST", f"/tags/x{quote(label, safe='-_.~')}", query, body)
    check(request)
    assert request.parameters == pairs


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "DELETE"},
        {"path": "/environments/beta"},
        {"path": "/environments/alpha/"},
        {"path": "/environments/%61lpha"},
        {"query": "MaxResults=1"},
        {"body": b'{"DagS3Path":"other"}'},
        {"body": b""},
    ],
)
def test_a_changed_request_is_refused(changes: dict[str, Any]) -> None:
    refused(dataclasses.replace(signed(), **changes), Flaw.MISMATCH, "does not match")


@pytest.mark.parametrize("presigned", [False, True])
@pytest.mark.parametrize("query", ["a=1&b=2", "a=2&b=1", "a=1", "a=1&b=1&b=1", "a=1&b=%31x"])
def test_a_changed_query_is_refused(query: str, presigned: bool) -> None:
    request = signed("GET", "/environments", "a=1&b=1", b"", presigned=presigned)
    check(request)
    changed = request.query.replace("a=1&b=1", query)
    refused(dataclasses.replace(request, query=changed), Flaw.MISMATCH)


def test_a_plus_is_no_space() -> None:
    """What the signature covers is what is read: `+` cannot stand for a signed `%2B` or `%20`."""
    request = signed("GET", "/tags/x", "tagKeys=a%2Bb", b"")
    plus = dataclasses.replace(request, query="tagKeys=a+b")
    check(plus)
    assert plus.parameters == request.parameters == [("tagKeys", "a+b")]
    spaced = signed("GET", "/tags/x", "tagKeys=a%20b", b"")
    refused(dataclasses.replace(spaced, query="tagKeys=a+b"), Flaw.MISMATCH)


def test_signed_headers_are_protected_and_others_are_not() -> None:
    request = signed(headers={"Content-Type": "application/json", "User-Agent": "signed-by-nobody"})
    check(with_header(request, "user-agent", "other"))
    check(with_header(request, "x-forwarded-for", "10.0.0.1"))
    refused(with_header(request, "content-type", "text/plain"), Flaw.MISMATCH)
    refused(with_header(request, "content-type", None), Flaw.MISMATCH)
    refused(with_header(request, "host", "evil.example.com"), Flaw.MISMATCH)
    later = (datetime.now(UTC) + timedelta(seconds=1)).strftime("%Y%m%dT%H%M%SZ")
    refused(with_header(request, "x-amz-date", later), Flaw.MISMATCH)


def test_headers_that_botocore_leaves_out_are_checked_if_a_client_signs_them() -> None:
    """The Java SDK signs user-agent; botocore never does. The client's list decides."""

    class SignsAgent(SigV4Auth):
        def headers_to_sign(self, request: Any) -> Any:
            chosen = super().headers_to_sign(request)
            chosen["user-agent"] = request.headers["User-Agent"]
            return chosen

    request = AWSRequest("GET", f"https://{HOST}/environments", headers={"User-Agent": "a/1  b/2"})
    SignsAgent(Credentials(KEY_ID, SECRET), "airflow", "us-east-1").add_auth(request)
    headers = [("host", HOST), *((name.lower(), value) for name, value in request.headers.items())]
    arrived = SignedRequest("GET", "/environments", "", headers, b"")
    check(arrived)
    refused(with_header(arrived, "user-agent", "a/1 b/3"), Flaw.MISMATCH)


@pytest.mark.parametrize("part", ["Credential", "SignedHeaders", "Signature"])
def test_each_part_of_the_authorization_header_is_needed(part: str) -> None:
    request = signed()
    header = request.header("authorization")
    assert header is not None
    algorithm, _, rest = header.partition(" ")
    kept = ", ".join(entry for entry in rest.split(", ") if not entry.startswith(part))
    broken = with_header(request, "authorization", f"{algorithm} {kept}")
    refused(broken, Flaw.INCOMPLETE, f"requires '{part}' parameter")


def test_every_character_of_the_signature_counts() -> None:
    request = signed()
    header = request.header("authorization")
    assert header is not None
    head, _, signature = header.rpartition("=")
    for position, char in enumerate(signature):
        other = "0" if char != "0" else "1"
        wrong = signature[:position] + other + signature[position + 1 :]
        refused(with_header(request, "authorization", f"{head}={wrong}"), Flaw.MISMATCH)
    for wrong in (signature[:-1], signature + "0", signature.upper(), "é"):
        if wrong != signature:
            refused(with_header(request, "authorization", f"{head}={wrong}"), Flaw.MISMATCH)


@pytest.mark.parametrize("presigned", [False, True])
def test_the_wrong_secret_is_refused(presigned: bool) -> None:
    refused(signed(presigned=presigned), Flaw.MISMATCH, "does not match", secret=SECRET[:-1])


@pytest.mark.parametrize("presigned", [False, True])
def test_the_scope_must_be_ours(presigned: bool) -> None:
    elsewhere = signed(region="eu-west-1", presigned=presigned)
    refused(elsewhere, Flaw.MISMATCH, "Credential should be scoped to a valid region, not 'eu-west-1'.")
    other = signed(service="s3", presigned=presigned)
    refused(other, Flaw.MISMATCH, "Credential should be scoped to correct service: 'airflow'.")


def test_an_old_signature_is_refused_in_aws_words() -> None:
    refused(signed(), Flaw.MISMATCH, "Signature expired: ", later=timedelta(minutes=5, seconds=2))
    refused(signed(), Flaw.MISMATCH, "- 5 min.)", later=timedelta(minutes=5, seconds=2))
    refused(signed(), Flaw.MISMATCH, "Signature not yet current: ", later=-timedelta(minutes=5, seconds=2))
    check(signed(), later=timedelta(minutes=4, seconds=55))
    check(signed(), later=-timedelta(minutes=4, seconds=55))


def test_a_presigned_request_lives_as_long_as_it_says() -> None:
    request = signed(presigned=True, expires_s=30)
    check(request, later=timedelta(seconds=25))
    refused(request, Flaw.MISMATCH, "Signature expired: ", later=timedelta(seconds=33))
    long = signed(presigned=True, expires_s=7200)
    check(long, later=timedelta(hours=1))
    for wrong in ("0", "-1", "604801", "x", "1e3", "٣"):
        changed = dataclasses.replace(
            long, query=long.query.replace("X-Amz-Expires=7200", f"X-Amz-Expires={quote(wrong)}")
        )
        refused(changed, Flaw.INCOMPLETE, "X-Amz-Expires")


def test_a_longer_life_is_part_of_the_signature() -> None:
    request = signed(presigned=True, expires_s=30)
    longer = request.query.replace("X-Amz-Expires=30", "X-Amz-Expires=3000")
    refused(dataclasses.replace(request, query=longer), Flaw.MISMATCH, "does not match")


@pytest.mark.parametrize("name", ["Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"])
def test_each_presigned_parameter_is_needed_once(name: str) -> None:
    request = signed(presigned=True)
    kept = [pair for pair in request.query.split("&") if not pair.startswith(f"X-Amz-{name}=")]
    missing = dataclasses.replace(request, query="&".join(kept))
    refused(missing, Flaw.INCOMPLETE, f"X-Amz-{name}")
    twice = dataclasses.replace(request, query=f"{request.query}&X-Amz-{name}=x")
    refused(twice, Flaw.INCOMPLETE, "must be given once")


def test_the_host_must_be_signed() -> None:
    request = signed()
    header = request.header("authorization")
    assert header is not None
    refused(with_header(request, "authorization", header.replace("host;", "")), Flaw.INCOMPLETE, "Host")


def test_the_date_of_the_scope_must_be_the_requests() -> None:
    request = signed()
    header = request.header("authorization")
    assert header is not None
    today = datetime.now(UTC).strftime("%Y%m%d")
    changed = with_header(request, "authorization", header.replace(f"/{today}/", "/20200101/"))
    refused(changed, Flaw.MISMATCH, "Date in Credential scope does not match")


def test_a_date_header_stands_in_for_x_amz_date() -> None:
    request = signed(headers={"Date": "Mon, 01 Jan 2024 00:00:00 GMT"})  # botocore replaces it with now
    assert request.header("x-amz-date") is None
    check(request)
    refused(with_header(request, "date", None), Flaw.INCOMPLETE, "'X-Amz-Date' or a 'Date' header")
    refused(with_header(request, "date", "yesterday"), Flaw.INCOMPLETE)


@pytest.mark.parametrize("stamp", ["20261199T000000Z", "2026-11-23T00:00:00Z", "", "now"])
def test_a_date_that_is_none_is_refused(stamp: str) -> None:
    refused(
        with_header(signed(), "x-amz-date", stamp),
        Flaw.INCOMPLETE if stamp[:8] != "20261199" else Flaw.MISMATCH,
    )


@pytest.mark.parametrize(
    "header",
    [
        "Bearer abc",
        "AWS4-ECDSA-P256-SHA256 Credential=a/b/c/d/aws4_request, SignedHeaders=host, Signature=00",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=a/b/c/aws4_request, SignedHeaders=host, Signature=00",
        "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws5_request, SignedHeaders=host, Signature=00",
        "AWS4-HMAC-SHA256 Credential=//c/d/aws4_request, SignedHeaders=host, Signature=00",
    ],
)
def test_other_authorization_headers_are_incomplete(header: str) -> None:
    refused(with_header(signed(), "authorization", header), Flaw.INCOMPLETE)


def test_no_authentication_at_all() -> None:
    refused(with_header(signed(), "authorization", None), Flaw.MISSING, "Missing Authentication Token")


def test_header_and_query_at_once_are_refused() -> None:
    query = signed(presigned=True).query
    refused(dataclasses.replace(signed(), query=query), Flaw.INCOMPLETE, "Only one")


def test_a_declared_body_hash_must_be_the_bodys() -> None:
    request = signed(headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
    refused(request, Flaw.MISMATCH, "x-amz-content-sha256")
    refused(with_header(signed(), "x-amz-content-sha256", "0" * 64), Flaw.MISMATCH, "x-amz-content-sha256")


@pytest.mark.parametrize(
    "changes",
    [
        {"path": "/a#b"},
        {"path": "no-slash"},
        {"path": "/a b"},
        {"path": "/\x7f"},
        {"path": "/é"},
        {"query": "a=1#b=2"},
        {"query": "a=\t1"},
        {"query": "a=%ff"},
        {"headers": [("host", "a"), ("host", "b")]},
        {"headers": [("authorization", "a"), ("authorization", "b")]},
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedRequestError):
        dataclasses.replace(signed(), **changes).check()
