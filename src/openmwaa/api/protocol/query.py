"""The query protocol: form fields in, XML out. Only what GetCallerIdentity needs.

Source: Smithy's "AWS query protocol".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl
from xml.etree.ElementTree import Element, SubElement, tostring

from botocore.model import OperationModel, ServiceModel, Shape, StructureShape

from openmwaa.api.errors import ServiceError
from openmwaa.api.protocol.answer import Answer, Match, Parameters
from openmwaa.identity.sigv4 import SignedRequest


class Query:
    """Reads requests and writes answers of one service."""

    def __init__(self, model: ServiceModel) -> None:
        self._model = model

    def find(self, request: SignedRequest) -> Match:
        """Return the operation that the field `Action` names.

        Raises:
            ServiceError: There is none.
        """
        action = fields(request).get("Action", "")
        if action not in self._model.operation_names:
            raise ServiceError("UnknownOperationException", f"Could not find operation {action[:128]}")
        return Match(self._model.operation_model(action))

    def parse(self, match: Match, request: SignedRequest) -> Parameters:  # noqa: ARG002 - the protocol's seam
        """Return the input members; the operations that are served have none."""
        shape = match.operation.input_shape
        if shape is not None and shape.members:
            raise NotImplementedError(f"{match.operation.name} has input members")
        return {}

    def answer(self, operation: OperationModel, result: Mapping[str, Any], request_id: str) -> Answer:
        """Return the successful answer that carries `result`."""
        root = Element(f"{operation.name}Response", xmlns=self._model.metadata["xmlNamespace"])
        shape = operation.output_shape
        if shape is not None:
            wrapper = SubElement(root, shape.serialization["resultWrapper"])
            _write(wrapper, shape, result)
        SubElement(SubElement(root, "ResponseMetadata"), "RequestId").text = request_id
        return Answer(200, tostring(root), {"Content-Type": "text/xml"})


def fields(request: SignedRequest) -> dict[str, str]:
    """Return the fields of a form, from the query of a GET or the body of a POST."""
    pairs = list(request.parameters)
    if request.method == "POST":
        pairs += parse_qsl(request.body.decode("utf-8", errors="replace"), keep_blank_values=True)
    return dict(pairs)


def _write(parent: Element, shape: Shape, value: Any) -> None:
    if isinstance(shape, StructureShape):
        for name, member in value.items():
            child = shape.members[name]
            _write(SubElement(parent, child.serialization.get("name", name)), child, member)
    elif shape.type_name == "string":
        parent.text = value
    else:
        raise NotImplementedError(f"{shape.name}: {shape.type_name} in XML")
