"""The front door: authentication on the wire, health, limits, other services, failures inside."""

from __future__ import annotations

import json
import socket
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx
import psycopg
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from openmwaa.identity.principals import ensure_administrator
from openmwaa.kit.secret import Secret
from tests.conformance.errors import an_error
from tests.support.api import ApiServer, changed
from tests.support.eventually import eventually


def call(
    api: ApiServer,
    method: str = "GET",
    path: str = "/environments",
    body: bytes = b"",
    *,
    service: str = "airflow",
    **headers: str,
) -> httpx.Response:
    """Send a request signed by botocore, outside of any client."""
    request = AWSRequest(method, f"{api.url}{path}", headers=headers, data=body)
    credentials = Credentials(api.admin.id, api.admin.secret.reveal())
    SigV4Auth(credentials, service, api.settings.region).add_auth(request)
    # As patient as AWS's clients. For up to ten seconds a request waits for a database that is coming back.
    return httpx.request(
        method, f"{api.url}{path}", headers=dict(request.headers.items()), content=body, timeout=60
    )


def test_health_needs_no_signature(api: ApiServer) -> None:
    response = httpx.get(f"{api.url}/health")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_the_administrator_is_written_for_aws_env(api: ApiServer) -> None:
    path = api.settings.layout.admin_credentials
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    written = json.loads(path.read_text())
    assert written["access_key_id"] == api.admin.id
    assert written["secret_access_key"] == api.admin.secret.reveal()
    assert written["principal_arn"] == "arn:aws:iam::000000000000:user/admin"
    again = api.run(ensure_administrator(api.store, api.settings))
    assert again == api.admin
    moved = api.settings.model_copy(update={"account_id": "123456789012"})
    try:
        assert (
            api.run(ensure_administrator(api.store, moved)).principal_arn
            == "arn:aws:iam::123456789012:user/admin"
        )
    finally:
        assert api.run(ensure_administrator(api.store, api.settings)) == api.admin


def test_an_administrator_that_is_switched_off_stays_off(api: ApiServer) -> None:
    api.run(api.store.access_keys.put(changed(api.admin, active=False)))
    try:
        assert not api.run(ensure_administrator(api.store, api.settings)).active
    finally:
        api.run(api.store.access_keys.put(api.admin))


def test_wrong_secret(api: ApiServer) -> None:
    with an_error("InvalidSignatureException", 403, "The request signature we calculated does not match"):
        api.client(key=changed(api.admin, secret=Secret("x" * 40))).list_environments()


def test_unknown_key(api: ApiServer) -> None:
    with an_error(
        "UnrecognizedClientException", 403, "The security token included in the request is invalid."
    ):
        api.client(key=changed(api.admin, id="AKIAAAAAAAAAAAAAAAAA")).list_environments()


@pytest.mark.parametrize(("minutes", "text"), [(6, "Signature expired"), (-6, "Signature not yet current")])
def test_wrong_time(api: ApiServer, minutes: int, text: str) -> None:
    api.clock.offset = timedelta(minutes=minutes)
    with an_error("InvalidSignatureException", 403, text):
        api.client().list_environments()


def test_wrong_region(api: ApiServer) -> None:
    with an_error("InvalidSignatureException", 403, "valid region, not 'eu-west-1'"):
        api.client(region_name="eu-west-1").list_environments()


def test_no_signature(api: ApiServer) -> None:
    response = httpx.get(f"{api.url}/environments")
    assert response.status_code == 403
    assert response.headers["x-amzn-errortype"] == "MissingAuthenticationTokenException"
    assert response.json() == {"message": "Missing Authentication Token"}
    assert uuid.UUID(response.headers["x-amzn-requestid"])


def test_a_session_token_belongs_to_no_key_here(api: ApiServer) -> None:
    response = call(api, **{"X-Amz-Security-Token": "something"})
    assert response.status_code == 403
    assert response.headers["x-amzn-errortype"] == "UnrecognizedClientException"


def test_a_presigned_url(api: ApiServer) -> None:
    api.create("alpha")
    mwaa = api.client()
    url = mwaa.generate_presigned_url("get_environment", {"Name": "alpha"}, ExpiresIn=60)
    assert httpx.get(url).json()["Environment"]["Name"] == "alpha"
    assert httpx.get(url.replace("/alpha?", "/beta?")).status_code == 403
    assert httpx.get(url + "&x=1").headers["x-amzn-errortype"] == "InvalidSignatureException"
    api.clock.offset = timedelta(seconds=70)
    assert "Signature expired" in httpx.get(url).json()["message"]


def test_a_changed_body_does_not_get_through(api: ApiServer) -> None:
    request = AWSRequest("PATCH", f"{api.url}/environments/alpha", data=b'{"MaxWorkers":2}')
    SigV4Auth(Credentials(api.admin.id, api.admin.secret.reveal()), "airflow", "us-east-1").add_auth(request)
    response = httpx.patch(
        f"{api.url}/environments/alpha", headers=dict(request.headers.items()), content=b'{"MaxWorkers":9}'
    )
    assert response.headers["x-amzn-errortype"] == "InvalidSignatureException"


@pytest.mark.parametrize("host", ["api.mwaa.example.com", "env.mwaa.example.com:8750", "127.0.0.1:1"])
def test_any_host_is_answered(api: ApiServer, host: str) -> None:
    response = call(api, Host=host)
    assert response.json() == {"Environments": []}


def test_an_unknown_operation(api: ApiServer) -> None:
    response = call(api, path="/workflows")
    assert response.status_code == 404
    assert response.headers["x-amzn-errortype"] == "UnknownOperationException"


def test_a_body_that_is_too_large(api: ApiServer) -> None:
    response = call(api, "PATCH", "/environments/alpha", b" " * (6 * 1024 * 1024 + 1))
    assert response.status_code == 413
    assert response.headers["x-amzn-errortype"] == "RequestEntityTooLargeException"


def test_an_answer_without_members_is_empty(api: ApiServer) -> None:
    api.available("alpha")
    response = call(api, "DELETE", "/environments/alpha")
    assert (response.status_code, response.content) == (200, b"")


def test_times_are_epoch_seconds(api: ApiServer) -> None:
    api.create("alpha")
    environment = call(api, path="/environments/alpha").json()["Environment"]
    assert isinstance(environment["CreatedAt"], int | float)


def test_a_body_that_ends_early_is_no_failure(api: ApiServer) -> None:
    with socket.create_connection(("127.0.0.1", api.port)) as connection:
        connection.sendall(b"PUT /environments/a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
    assert httpx.get(f"{api.url}/health").status_code == 200


def test_who_am_i(api: ApiServer) -> None:
    identity = api.client("sts").get_caller_identity()
    assert identity["Arn"] == "arn:aws:iam::000000000000:user/admin"
    assert identity["Account"] == "000000000000"
    url = api.client("sts").generate_presigned_url("get_caller_identity", HttpMethod="GET")
    assert "<Arn>arn:aws:iam::000000000000:user/admin</Arn>" in httpx.get(url).text


def test_who_am_i_needs_no_permission_but_a_signature(api: ApiServer) -> None:
    key = api.principal({"Statement": []})
    assert api.client("sts", key=key).get_caller_identity()["Arn"].endswith("user/someone")
    with an_error("SignatureDoesNotMatch", 403):
        api.client("sts", key=changed(key, secret=Secret("x" * 40))).get_caller_identity()
    with an_error("InvalidClientTokenId", 403, "The security token included in the request is invalid."):
        api.client("sts", key=changed(key, id="AKIAAAAAAAAAAAAAAAAA")).get_caller_identity()
    unsigned = httpx.post(api.url, data={"Action": "GetCallerIdentity", "Version": "2011-06-15"})
    assert unsigned.status_code == 403
    assert "<Code>MissingAuthenticationToken</Code>" in unsigned.text


def test_what_is_not_built_yet_says_so(api: ApiServer) -> None:
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("sts", "assume_role", {"RoleArn": "arn:aws:iam::000000000000:role/x", "RoleSessionName": "xx"}),
        ("logs", "describe_log_groups", {}),
        ("cloudwatch", "list_metrics", {}),
        ("mwaa-serverless", "list_workflows", {}),
    ]
    for service, operation, members in calls:
        with an_error("NotImplemented", 501, "OpenMWAA does not serve"):
            getattr(api.client(service), operation)(**members)


NAMES = ("name", "gone")


@contextmanager
def broken(api: ApiServer, statement: str, repair: str) -> Iterator[None]:
    api.run(api.store.database.all(statement))
    try:
        yield
    finally:
        api.run(api.store.database.all(repair))


def test_an_unexpected_failure_keeps_its_text_inside(api: ApiServer) -> None:
    """A column that is gone: not foreseen by anybody."""
    away, back = (
        f"ALTER TABLE environments RENAME COLUMN {old} TO {new}" for old, new in (NAMES, NAMES[::-1])
    )
    with broken(api, away, back), an_error("InternalServerException", 500) as error:
        api.client().get_environment(Name="alpha")
    assert error.response is not None
    assert error.response["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"] in error.message
    assert "column" not in error.message
    with an_error("ResourceNotFoundException", 404):
        api.client().get_environment(Name="alpha")


def test_a_store_that_is_away_is_a_503_and_comes_back(api: ApiServer) -> None:
    with psycopg.connect(api.server_url.reveal(), autocommit=True) as connection:
        connection.execute("ALTER DATABASE api ALLOW_CONNECTIONS false")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'api'")
        try:
            with an_error("ServiceUnavailableException", 503, "Try again"):
                api.client().list_environments()
            assert httpx.get(f"{api.url}/health").status_code == 200
        finally:
            connection.execute("ALTER DATABASE api ALLOW_CONNECTIONS true")
    eventually(lambda: call(api).status_code == 200, within_s=30, what="the API is back")
