"""Requests that botocore writes are read back; answers that we write are read by botocore."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openmwaa.api.errors import ServiceError
from openmwaa.api.models import load
from openmwaa.api.protocol.faults import Dialect, dialect_of, write_error
from openmwaa.api.protocol.rest_json import RestJson
from openmwaa.identity.sigv4 import SignedRequest
from tests.unit.api.shapes import values

MODEL = load("mwaa")
PROTOCOL = RestJson(MODEL)
OPERATIONS = sorted(MODEL.operation_names)


def as_sent(operation: str, parameters: dict[str, Any]) -> SignedRequest:
    """Serialise with botocore and put the request on the wire as its HTTP client would."""
    wire = create_serializer("rest-json", include_validation=False).serialize_to_request(
        parameters, MODEL.operation_model(operation)
    )
    query = urlencode(wire["query_string"], doseq=True).replace("+", "%20") if wire["query_string"] else ""
    return SignedRequest(wire["method"], wire["url_path"], query, [], wire["body"])


def test_there_are_twelve_operations() -> None:
    assert len(OPERATIONS) == 12


@pytest.mark.parametrize("operation", OPERATIONS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_requests_of_botocore_are_read_back(operation: str, data: st.DataObject) -> None:
    shape = MODEL.operation_model(operation).input_shape
    assert shape is not None
    parameters = data.draw(values(shape))
    request = as_sent(operation, parameters)
    match = PROTOCOL.find(request)
    assert match.operation.name == operation
    assert PROTOCOL.parse(match, request) == parameters


@pytest.mark.parametrize("operation", OPERATIONS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_answers_are_read_by_botocore(operation: str, data: st.DataObject) -> None:
    model = MODEL.operation_model(operation)
    assert model.output_shape is not None
    result = data.draw(values(model.output_shape))
    answer = PROTOCOL.answer(model, result, "id")
    assert answer.status == 200
    parsed = create_parser("rest-json").parse(
        {"status_code": 200, "headers": dict(answer.headers), "body": answer.body}, model.output_shape
    )
    parsed.pop("ResponseMetadata")
    assert parsed == result


ERRORS = sorted(shape.name for shape in MODEL.error_shapes)


@pytest.mark.parametrize("code", ERRORS)
def test_modelled_errors_are_read_by_botocore(code: str) -> None:
    shape = MODEL.shape_for_error_code(code)
    members = (
        {"RestApiStatusCode": 404, "RestApiResponse": {"detail": "x"}} if code.startswith("RestApi") else {}
    )
    answer = write_error(
        ServiceError(code, "" if members else "Why.", members=members), Dialect.REST_JSON, MODEL, "id"
    )
    response = {
        "status_code": answer.status,
        "headers": {key.lower(): value for key, value in answer.headers.items()},
        "body": answer.body,
    }
    assert answer.status == shape.metadata["error"]["httpStatusCode"]
    error = create_parser("rest-json").parse(response, None)["Error"]
    assert (error["Code"], error["Message"]) == (code, "" if members else "Why.")
    modelled = create_parser("rest-json").parse(response, shape)
    assert {name: modelled[name] for name in members} == members


def test_the_message_has_the_models_spelling() -> None:
    def body(code: str) -> dict[str, Any]:
        answer = write_error(ServiceError(code, "m"), Dialect.REST_JSON, MODEL, "id")
        decoded: dict[str, Any] = json.loads(answer.body)
        return decoded

    assert body("ValidationException") == {"message": "m"}
    assert body("AccessDeniedException") == {"Message": "m"}


def send(method: str, path: str, body: bytes = b"", query: str = "") -> dict[str, Any]:
    request = SignedRequest(method, path, query, [], body)
    return PROTOCOL.parse(PROTOCOL.find(request), request)


def test_unknown_members_and_nulls_are_ignored() -> None:
    body = b'{"MaxWorkers": null, "OfTomorrow": {"x": [1]}, "MinWorkers": 2}'
    assert send("PATCH", "/environments/alpha", body, "Unknown=1") == {"Name": "alpha", "MinWorkers": 2}


def test_an_encoded_slash_stays_in_its_label() -> None:
    arn = "arn%3Aaws%3Aairflow%3Aus-east-1%3A000000000000%3Aenvironment%2Falpha"
    assert send("GET", f"/tags/{arn}") == {
        "ResourceArn": "arn:aws:airflow:us-east-1:000000000000:environment/alpha"
    }


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("POST", "/environments"),
        ("GET", "/environments/a/b"),
        ("HEAD", "/environments/a"),
        ("PUT", "//environments/a"),
        ("PUT", "/environments/a/"),
        ("GET", "/Environments/a"),
        ("GET", "/tags"),
    ],
)
def test_other_paths_are_no_operation(method: str, path: str) -> None:
    with pytest.raises(ServiceError) as caught:
        send(method, path)
    assert caught.value.code == "UnknownOperationException"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"\xff", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"MaxWorkers": NaN}', "not valid JSON"),
        (b'{"MaxWorkers": "3"}', "STRING_VALUE can not be converted to an Integer"),
        (b'{"MaxWorkers": 3.5}', "NUMBER_VALUE can not be converted to an Integer"),
        (b'{"MaxWorkers": true}', "TRUE_VALUE can not be converted to an Integer"),
        (b'{"MaxWorkers": 2147483648}', "out of the range"),
        (b'{"MaxWorkers": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"DagS3Path": 3}', "NUMBER_VALUE can not be converted to a String"),
        (b'{"DagS3Path": "\\ud800"}', "surrogate"),
        (b'{"LoggingConfiguration": []}', "ARRAY_VALUE can not be converted to a Structure"),
        (b'{"LoggingConfiguration": {"TaskLogs": {"Enabled": "yes"}}}', "STRING_VALUE can not be converted to a Boolean"),
        (b'{"AirflowConfigurationOptions": {"a.b": null}}', "null is not allowed in AirflowConfigurationOptions"),
        (b'{"AirflowConfigurationOptions": {"a.b": {}}}', "OBJECT_VALUE can not be converted to a String"),
        (b'{"NetworkConfiguration": {"SecurityGroupIds": "sg-a"}}', "STRING_VALUE can not be converted to a List"),
    ],
)  # fmt: skip
def test_wrong_json_types_are_refused(body: bytes, text: str) -> None:
    with pytest.raises(ServiceError, match=text) as caught:
        send("PATCH", "/environments/alpha", body)
    assert caught.value.code == "SerializationException"


@pytest.mark.parametrize("value", ["x", "", "1.5", "99999999999", "%D9%A3"])
def test_a_number_in_the_query_must_be_one(value: str) -> None:
    with pytest.raises(ServiceError) as caught:
        send("GET", "/environments", query=f"MaxResults={value}")
    assert caught.value.code == "SerializationException"


def error_in(dialect: Dialect, protocol: str, service: str) -> tuple[dict[str, Any], int]:
    answer = write_error(ServiceError("NotImplemented", "Not <yet>."), dialect, load(service), "id-1")
    headers = {key.lower(): value for key, value in answer.headers.items()}
    response = {"status_code": answer.status, "headers": headers, "body": answer.body}
    return create_parser(protocol).parse(response, None)["Error"], answer.status


@pytest.mark.parametrize(
    ("dialect", "protocol", "service"),
    [
        (Dialect.QUERY, "query", "sts"),
        (Dialect.JSON, "json", "logs"),
        (Dialect.CBOR, "smithy-rpc-v2-cbor", "cloudwatch"),
        (Dialect.REST_JSON, "rest-json", "mwaa"),
    ],
)
def test_errors_in_every_dialect_are_read_by_botocore(dialect: Dialect, protocol: str, service: str) -> None:
    error, status = error_in(dialect, protocol, service)
    assert (error["Code"], error["Message"], status) == ("NotImplemented", "Not <yet>.", 501)


def test_the_dialect_is_known_from_the_request() -> None:
    def dialect(path: str = "/", query: str = "", body: bytes = b"", **headers: str) -> Dialect:
        pairs = [(key.replace("_", "-"), value) for key, value in headers.items()]
        return dialect_of(SignedRequest("POST", path, query, pairs, body))

    assert dialect(x_amz_target="Logs_20140328.PutLogEvents") is Dialect.JSON
    assert dialect("/service/x/operation/y", smithy_protocol="rpc-v2-cbor") is Dialect.CBOR
    assert dialect(body=b"Action=GetCallerIdentity&Version=2011-06-15") is Dialect.QUERY
    assert dialect(query="Action=GetCallerIdentity") is Dialect.QUERY
    assert dialect("/environments/alpha") is Dialect.REST_JSON
