"""The rest-json protocol: members travel in the path, the query and a JSON body.

Source: Smithy's "AWS restJson1 protocol". Unknown members are ignored, as AWS does; values of
the wrong JSON type are refused with a SerializationException.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import unquote

from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape
from botocore.utils import parse_timestamp

from openmwaa.api.errors import ServiceError
from openmwaa.api.protocol.answer import Answer, Match, Parameters
from openmwaa.identity.sigv4 import MalformedRequestError, SignedRequest

_LABEL: Final = re.compile(r"\{(\w+)\}")
_INT_BITS: Final = {"integer": 31, "long": 63}


class RestJson:
    """Reads requests and writes answers of one service."""

    def __init__(self, model: ServiceModel) -> None:
        self._routes = [_Route(model.operation_model(name)) for name in model.operation_names]

    def find(self, request: SignedRequest) -> Match:
        """Return the operation whose method and path these are.

        Raises:
            ServiceError: There is none.
        """
        for route in self._routes:
            if route.operation.http["method"] == request.method and (labels := route.match(request.path)):
                return Match(route.operation, labels.groupdict())
        raise ServiceError(
            "UnknownOperationException", f"There is no operation at {request.method} {request.path[:256]}"
        )

    def parse(self, match: Match, request: SignedRequest) -> Parameters:
        """Return the input members that a request holds.

        Raises:
            ServiceError: A value has the wrong type, or the body is not a JSON object.
        """
        shape = match.operation.input_shape
        if shape is None:
            return {}
        members = shape.members
        body = _json_object(request.body) if any(_in_body(member) for member in members.values()) else {}
        found: Parameters = {}
        for name, member in members.items():
            wire_name = member.serialization.get("name", name)
            location = member.serialization.get("location")
            if location == "uri":
                found[name] = _from_text(member, _decode(match.labels[wire_name]))
            elif location == "querystring":
                values = [value for key, value in request.parameters if key == wire_name]
                if values and isinstance(member, ListShape):
                    found[name] = [_from_text(member.member, value) for value in values]
                elif values:
                    found[name] = _from_text(member, values[0])
            elif location is not None:
                raise NotImplementedError(f"{shape.name}.{name} travels in {location}")
            elif body.get(wire_name) is not None:
                found[name] = _from_json(member, body[wire_name], name)
        return found

    def answer(
        self,
        operation: OperationModel,
        result: Mapping[str, Any],
        request_id: str,  # noqa: ARG002 - only in a header here
    ) -> Answer:
        """Return the successful answer that carries `result`."""
        shape = operation.output_shape
        body = b""
        if shape is not None and shape.members:
            body = json.dumps(to_json(shape, result), separators=(",", ":")).encode()
        return Answer(operation.http.get("responseCode", 200), body, {"Content-Type": "application/json"})


class _Route:
    """A request URI such as `/tags/{ResourceArn}` as a pattern over the encoded path."""

    def __init__(self, operation: OperationModel) -> None:
        self.operation = operation
        # Labels are matched before they are decoded: an encoded slash stays inside its label. An
        # empty label matches, so that the answer names the missing value.
        literal = _LABEL.split(operation.http["requestUri"])
        self._pattern = re.compile(
            "".join(f"(?P<{part}>[^/]*)" if odd % 2 else re.escape(part) for odd, part in enumerate(literal))
        )

    def match(self, path: str) -> re.Match[str] | None:
        return self._pattern.fullmatch(path)


def to_json(shape: Shape, value: Any) -> Any:  # noqa: PLR0911 - one line per type
    """Return `value` as JSON values in the form that `shape` has on the wire.

    Raises:
        KeyError: A member that the model does not know: a mistake of ours.
    """
    if isinstance(shape, StructureShape):
        if shape.is_document_type:
            return value
        return {
            shape.members[name].serialization.get("name", name): to_json(shape.members[name], member)
            for name, member in value.items()
            if member is not None
        }
    if isinstance(shape, ListShape):
        return [to_json(shape.member, entry) for entry in value]
    if isinstance(shape, MapShape):
        return {key: to_json(shape.value, entry) for key, entry in value.items()}
    if shape.type_name == "timestamp":
        return _epoch_seconds(value)
    if shape.type_name == "blob":
        return base64.b64encode(value).decode()
    return value


def _epoch_seconds(moment: datetime) -> float | int:
    seconds = round(moment.timestamp(), 3)
    return int(seconds) if seconds.is_integer() else seconds


def _in_body(member: Shape) -> bool:
    return "location" not in member.serialization


def _decode(label: str) -> str:
    try:
        return unquote(label, errors="strict")
    except UnicodeDecodeError as error:
        raise MalformedRequestError("The path is not valid UTF-8.") from error


def _json_object(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ServiceError("SerializationException", "The request body is not valid JSON.") from error
    if not isinstance(value, dict):
        raise ServiceError("SerializationException", "The request body must be a JSON object.")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _from_text(shape: Shape, text: str) -> Any:
    """Read a scalar of the path or the query."""
    if shape.type_name in _INT_BITS:
        if not re.fullmatch(r"[+-]?[0-9]{1,19}", text):
            raise _mismatch("STRING_VALUE", shape)
        return _integer(shape, int(text))
    if shape.type_name == "string":
        return _text(text)
    raise NotImplementedError(f"{shape.name}: {shape.type_name} in path or query")


def _from_json(shape: Shape, value: Any, where: str) -> Any:
    if isinstance(shape, StructureShape):
        if shape.is_document_type:
            return value
        if not isinstance(value, dict):
            raise _mismatch(_kind(value), shape)
        return {
            name: _from_json(member, value[wire_name], f"{where}.{name}")
            for name, member in shape.members.items()
            if value.get(wire_name := member.serialization.get("name", name)) is not None
        }
    if isinstance(shape, MapShape):
        if not isinstance(value, dict):
            raise _mismatch(_kind(value), shape)
        return {_text(key): _present(shape.value, entry, where) for key, entry in value.items()}
    if isinstance(shape, ListShape):
        if not isinstance(value, list):
            raise _mismatch(_kind(value), shape)
        return [_present(shape.member, entry, where) for entry in value]
    return _scalar(shape, value)


def _present(shape: Shape, value: Any, where: str) -> Any:
    if value is None:
        raise ServiceError("SerializationException", f"null is not allowed in {where}")
    return _from_json(shape, value, where)


def _scalar(shape: Shape, value: Any) -> Any:
    kind = shape.type_name
    if kind == "string" and isinstance(value, str):
        return _text(value)
    if kind == "boolean" and isinstance(value, bool):
        return value
    if kind in _INT_BITS and isinstance(value, int) and not isinstance(value, bool):
        return _integer(shape, value)
    if kind in ("double", "float") and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind == "timestamp" and isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            return parse_timestamp(value)  # type: ignore[arg-type] # it reads numbers too
        except (ValueError, OverflowError) as error:
            raise _mismatch(_kind(value), shape) from error
    if kind == "blob" and isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except ValueError as error:
            raise _mismatch("STRING_VALUE", shape) from error
    raise _mismatch(_kind(value), shape)


def _integer(shape: Shape, value: int) -> int:
    limit = 1 << _INT_BITS[shape.type_name]
    if not -limit <= value < limit:
        raise ServiceError("SerializationException", f"{value} is out of the range of {_java_name(shape)}")
    return value


def _text(text: str) -> str:
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise ServiceError("SerializationException", "A text holds half of a surrogate pair.")
    return text


def _mismatch(found: str, shape: Shape) -> ServiceError:
    """Say it as AWS's own parser does."""
    return ServiceError("SerializationException", f"{found} can not be converted to {_java_name(shape)}")


def _java_name(shape: Shape) -> str:
    names = {"integer": "an Integer", "list": "a List", "map": "a Map", "structure": "a Structure"}
    return names.get(shape.type_name, f"a {shape.type_name.capitalize()}")


def _kind(value: Any) -> str:
    match value:
        case bool():
            return f"{str(value).upper()}_VALUE"
        case int() | float():
            return "NUMBER_VALUE"
        case str():
            return "STRING_VALUE"
        case list():
            return "ARRAY_VALUE"
        case _:
            return "OBJECT_VALUE"
