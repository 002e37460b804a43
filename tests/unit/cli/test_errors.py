"""Errors of the libraries as one line."""

from __future__ import annotations

from botocore.exceptions import ClientError, EndpointConnectionError

from openmwaa.cli.errors import CommandFailed, ServiceDown, failure_of, one_line


def test_an_error_of_the_api_is_code_and_message() -> None:
    """As AWS writes it, without the SDK's preamble."""
    error = ClientError(
        {"Error": {"Code": "ValidationException", "Message": "Environment with name x\nalready exists."}},
        "CreateEnvironment",
    )
    failure = failure_of(error)
    assert isinstance(failure, CommandFailed)
    assert one_line(failure.message) == "ValidationException: Environment with name x already exists."


def test_an_error_of_airflows_rest_api_shows_airflows_reason() -> None:
    """It has no message of its own."""
    answer = {
        "Error": {"Code": "RestApiClientException", "Message": ""},
        "RestApiStatusCode": 404,
        "RestApiResponse": {"detail": "The Dag with ID: `x` was not found"},
    }
    failure = failure_of(ClientError(answer, "InvokeRestApi"))
    assert failure is not None
    assert (
        failure.message == "RestApiClientException: Airflow answered 404: The Dag with ID: `x` was not found"
    )


def test_a_service_that_is_down_is_said_so() -> None:
    """With what to do."""
    failure = failure_of(EndpointConnectionError(endpoint_url="https://127.0.0.1:8750/"))
    assert isinstance(failure, ServiceDown)
    assert "openmwaa up" in failure.message


def test_a_bug_stays_a_bug() -> None:
    """Nobody should have to guess from one line what went wrong inside."""
    assert failure_of(KeyError("x")) is None
