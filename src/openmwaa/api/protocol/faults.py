"""Error answers, in the protocol that the request speaks."""

from __future__ import annotations

import json
from enum import Enum, auto
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from botocore.model import ServiceModel, StructureShape

from openmwaa.api.errors import QUERY_CODE_OF, STATUS_OF, ServiceError
from openmwaa.api.protocol.answer import Answer
from openmwaa.api.protocol.query import fields
from openmwaa.api.protocol.rest_json import to_json
from openmwaa.identity.sigv4 import SignedRequest

_FIRST_SERVER_FAULT = 500


class Dialect(Enum):
    """How a client expects errors."""

    REST_JSON = auto()
    JSON = auto()
    QUERY = auto()
    CBOR = auto()


def dialect_of(request: SignedRequest) -> Dialect:
    """Return the protocol that a request speaks, also where its service is unknown."""
    if request.header("smithy-protocol") == "rpc-v2-cbor":
        return Dialect.CBOR
    if request.header("x-amz-target"):
        return Dialect.JSON
    if request.path == "/" and "Action" in fields(request):
        return Dialect.QUERY
    return Dialect.REST_JSON


def write_error(error: ServiceError, dialect: Dialect, model: ServiceModel | None, request_id: str) -> Answer:
    """Return the answer that tells a client of an error.

    Args:
        error: What to tell.

        dialect: How to tell it.

        model: Of the service, if known: status and members come from it where it lists the error.

        request_id: Part of the body in the query protocol.
    """
    shape = model.shape_for_error_code(error.code) if model else None  # type: ignore[arg-type] # stub
    status = STATUS_OF.get(error.code, 500)
    if isinstance(shape, StructureShape):
        status = shape.metadata.get("error", {}).get("httpStatusCode", status)
    match dialect:
        case Dialect.QUERY:
            return Answer(
                status, _xml(error, status, model, request_id), {"Content-Type": "text/xml"}, error.code
            )
        case Dialect.CBOR:
            headers = {"Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}
            return Answer(
                status, _cbor({"__type": error.code, "message": error.message}), headers, error.code
            )
        case Dialect.JSON:
            body = {"__type": error.code, "message": error.message}
            headers = {"Content-Type": "application/x-amz-json-1.1", "x-amzn-ErrorType": error.code}
            return Answer(status, json.dumps(body).encode(), headers, error.code)
        case Dialect.REST_JSON:
            body = _members(error, shape)
            headers = {"Content-Type": "application/json", "x-amzn-ErrorType": error.code}
            return Answer(status, json.dumps(body, separators=(",", ":")).encode(), headers, error.code)


def _members(error: ServiceError, shape: Any) -> dict[str, Any]:
    """Return the body: MWAA spells `message` in four errors, `Message` in one, and has none in two."""
    if not isinstance(shape, StructureShape):
        # What the front door answers itself: IAM's denial has a capital letter, the others do not.
        return {"Message" if error.code == "AccessDeniedException" else "message": error.message}
    body = dict(error.members)
    for name in shape.members:
        if name.lower() == "message":
            body[name] = error.message
    encoded: dict[str, Any] = to_json(shape, body)
    return encoded


def _xml(error: ServiceError, status: int, model: ServiceModel | None, request_id: str) -> bytes:
    namespace = (model.metadata.get("xmlNamespace") if model else None) or "http://webservices.amazon.com/"
    root = Element("ErrorResponse", xmlns=namespace)
    entry = SubElement(root, "Error")
    SubElement(entry, "Type").text = "Receiver" if status >= _FIRST_SERVER_FAULT else "Sender"
    SubElement(entry, "Code").text = QUERY_CODE_OF.get(error.code, error.code)
    SubElement(entry, "Message").text = "".join(char for char in error.message if char.isprintable())
    SubElement(root, "RequestId").text = request_id
    return tostring(root)


def _cbor(members: dict[str, str]) -> bytes:
    """Encode a small map of texts (RFC 8949: major types 5 and 3)."""
    encoded = bytes([0xA0 | len(members)])
    for text in (text for pair in members.items() for text in pair):
        data = text.encode()[:0xFFFF]
        encoded += b"\x79" + len(data).to_bytes(2) + data
    return encoded
