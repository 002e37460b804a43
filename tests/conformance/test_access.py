"""Who may do what, tokens, and calls of Airflow's REST API."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from tests.conformance.errors import an_error
from tests.support.api import ApiServer, changed

ENVIRONMENT = "arn:aws:airflow:us-east-1:000000000000:environment/"
ROLE = "arn:aws:airflow:us-east-1:000000000000:role/"


def policy(*statements: tuple[Any, Any]) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": action, "Resource": resource} for action, resource in statements
        ],
    }


def test_a_reader_reads(api: ApiServer) -> None:
    arn = api.create("alpha")
    reading = policy((["airflow:Get*", "airflow:List*"], "*"))
    mwaa = api.client(key=api.principal(reading))
    assert mwaa.get_environment(Name="alpha")["Environment"]["Arn"] == arn
    assert mwaa.list_environments()["Environments"] == ["alpha"]
    assert mwaa.list_tags_for_resource(ResourceArn=arn)["Tags"] == {}
    with an_error("AccessDeniedException", 403) as error:
        mwaa.delete_environment(Name="alpha")
    assert error.message == (
        "User: arn:aws:iam::000000000000:user/someone is not authorized to perform: airflow:DeleteEnvironment on"
        f" resource: {arn} because no identity-based policy allows the airflow:DeleteEnvironment action"
    )
    with an_error("AccessDeniedException", 403):
        mwaa.tag_resource(ResourceArn=arn, Tags={"a": "b"})
    with an_error("AccessDeniedException", 403):
        mwaa.create_environment(Name="beta", **{**api_request()})
    with an_error("AccessDeniedException", 403, "No Airflow role granted in IAM"):
        mwaa.create_web_login_token(Name="alpha")
    assert api.names() == ["alpha"]


def api_request() -> dict[str, Any]:
    from tests.support.api import REQUEST  # noqa: PLC0415 - the members only

    return dict(REQUEST)


def test_permission_for_one_environment(api: ApiServer) -> None:
    api.create("alpha")
    mwaa = api.client(key=api.principal(policy(("airflow:*", f"{ENVIRONMENT}alpha"))))
    mwaa.get_environment(Name="alpha")
    with an_error("AccessDeniedException", 403):
        mwaa.get_environment(Name="beta")  # whether it exists is not told
    with an_error("AccessDeniedException", 403):
        mwaa.list_environments()


def test_tags_at_creation_need_their_own_permission(api: ApiServer) -> None:
    mwaa = api.client(key=api.principal(policy(("airflow:CreateEnvironment", "*"))))
    with an_error("AccessDeniedException", 403, "airflow:TagResource"):
        mwaa.create_environment(Name="alpha", **api_request(), Tags={"a": "b"})
    mwaa.create_environment(Name="alpha", **api_request())


def test_a_condition_is_never_ignored(api: ApiServer) -> None:
    document = policy(("airflow:*", "*"))
    document["Statement"][0]["Condition"] = {"StringEquals": {"aws:SourceVpc": "vpc-1"}}
    with an_error("AccessDeniedException", 403, "Condition, which is not supported"):
        api.client(key=api.principal(document)).list_environments()


def test_a_key_that_is_switched_off(api: ApiServer) -> None:
    key = api.principal(policy(("*", "*")))
    api.client(key=key).list_environments()
    api.run(api.store.access_keys.put(changed(key, active=False)))
    with an_error(
        "UnrecognizedClientException", 403, "The security token included in the request is invalid."
    ):
        api.client(key=key).list_environments()


def test_cli_token(api: ApiServer) -> None:
    api.available("alpha")
    answer = api.client().create_cli_token(Name="alpha")
    claims = jwt.decode(answer["CliToken"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 60
    assert answer["WebServerHostname"] == api.environment("alpha")["WebserverUrl"]


def test_web_token(api: ApiServer) -> None:
    api.available("alpha")
    grant = policy(("airflow:CreateWebLoginToken", [f"{ROLE}alpha/Viewer", f"{ROLE}alpha/Op"]))
    key = api.principal(grant, "arn:aws:sts::000000000000:assumed-role/Engineers/jane")
    answer = api.client(key=key).create_web_login_token(Name="alpha")
    claims = jwt.decode(answer["WebToken"], options={"verify_signature": False})
    assert claims["roles"] == ["Op"]
    assert answer["AirflowIdentity"] == claims["sub"] == "assumed-role/Engineers"
    assert answer["IamIdentity"] == "assumed-role/Engineers/jane"
    assert answer["WebServerHostname"] == api.environment("alpha")["WebserverUrl"]
    with an_error("AccessDeniedException", 403, "No Airflow role granted in IAM"):
        api.client(key=key).invoke_rest_api(Name="alpha", Path="/dags", Method="GET")


@pytest.mark.parametrize("state", ["creating", "failed", "deleting"])
def test_an_environment_that_is_not_ready(api: ApiServer, state: str) -> None:
    api.create("alpha")
    if state == "failed":
        api.reconciled("alpha", failed=True)
    elif state == "deleting":
        api.reconciled("alpha")
        api.client().delete_environment(Name="alpha")
    mwaa = api.client()
    with an_error("ResourceNotFoundException", 404, "status"):
        mwaa.create_cli_token(Name="alpha")
    with an_error("ValidationException", 400, "status"):
        mwaa.create_web_login_token(Name="alpha")
    with an_error("ValidationException", 400, "status"):
        mwaa.invoke_rest_api(Name="alpha", Path="/dags", Method="GET")


def test_an_updating_environment_can_be_used(api: ApiServer) -> None:
    api.available("alpha")
    api.client().update_environment(Name="alpha", MaxWorkers=3)
    assert api.client().create_web_login_token(Name="alpha")["WebToken"]


def test_a_rest_call_reaches_airflow_as_its_user(api: ApiServer) -> None:
    api.available("alpha")
    answer = api.client().invoke_rest_api(
        Name="alpha",
        Path="/dags/a%20b/" + "x" * 100,
        Method="POST",
        Body={"conf": {"a": [1, None]}},
        QueryParameters={"limit": 3, "tags": ["a", "b"]},
    )
    assert answer["RestApiStatusCode"] == 200
    assert answer["RestApiResponse"] == {"dags": [], "total_entries": 0}
    (seen,) = api.upstream_requests
    assert seen["query"] == [("limit", "3"), ("tags", "a"), ("tags", "b")]
    assert seen["body"] == '{"conf": {"a": [1, null]}}'
    claims = jwt.decode(seen["identity"], options={"verify_signature": False})
    assert (claims["sub"], claims["roles"]) == ("user/admin", ["Admin"])


def test_errors_of_airflow_come_back_with_their_status_and_body(api: ApiServer) -> None:
    api.available("alpha")
    mwaa = api.client()
    with an_error("RestApiClientException", 400) as error:
        mwaa.invoke_rest_api(Name="alpha", Path="/dags/missing", Method="GET", Body={}, QueryParameters={})
    assert error.message == ""
    assert error.response is not None
    assert error.response["RestApiStatusCode"] == 404
    assert error.response["RestApiResponse"] == {"detail": "not found", "status": 404}
    with an_error("RestApiServerException", 400) as error:
        mwaa.invoke_rest_api(Name="alpha", Path="/dags/broken", Method="GET")
    assert error.response is not None
    assert error.response["RestApiStatusCode"] == 500
    gone = mwaa.invoke_rest_api(Name="alpha", Path="/dags/gone", Method="DELETE")
    assert (gone["RestApiStatusCode"], gone["RestApiResponse"]) == (204, {})


@pytest.mark.parametrize("path", ["dags", "/dags?limit=1", "/../../execution/x", "/a/%2e%2e/b", "/dags#x"])
def test_a_path_outside_the_rest_api(api: ApiServer, path: str) -> None:
    api.available("alpha")
    with an_error("ValidationException", 400, "Path"):
        api.client().invoke_rest_api(Name="alpha", Path=path, Method="GET")
    assert api.upstream_requests == []


def test_a_method_that_is_not_allowed(api: ApiServer) -> None:
    api.available("alpha")
    with an_error("ValidationException", 400, "enum value set: [GET, PUT, POST, PATCH, DELETE]"):
        api.client().invoke_rest_api(Name="alpha", Path="/dags", Method="TRACE")


def test_more_than_ten_calls_a_second_are_throttled(api: ApiServer) -> None:
    api.available("alpha")
    mwaa = api.client()
    with an_error("ThrottlingException", 429, "Rate exceeded"):
        for _ in range(200):
            mwaa.invoke_rest_api(Name="alpha", Path="/dags", Method="GET")
    assert 10 <= len(api.upstream_requests) < 200
