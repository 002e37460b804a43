"""The life of a request, from top to bottom of `handle`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog
from botocore import xform_name
from botocore.model import OperationModel, ServiceModel

from openmwaa.api.authorize import authorize_mwaa
from openmwaa.api.context import ApiContext, Call
from openmwaa.api.errors import ServiceError
from openmwaa.api.models import BY_SIGNING_NAME, load
from openmwaa.api.protocol.answer import Answer, Match, Parameters
from openmwaa.api.protocol.faults import Dialect, dialect_of
from openmwaa.api.protocol.query import Query
from openmwaa.api.protocol.rest_json import RestJson
from openmwaa.api.services.mwaa import MwaaService
from openmwaa.api.services.sts import get_caller_identity
from openmwaa.api.validate import validate
from openmwaa.identity.principals import Principal
from openmwaa.identity.sigv4 import AuthenticationError, Claim, Flaw, SignedRequest, verify

Handler = Callable[[Call], Awaitable[Mapping[str, Any]]]
Authorizer = Callable[[Principal, str, Mapping[str, Any]], str | None]
"""Given principal, operation and input: returns an Airflow role or None, or raises ServiceError."""

_BY_DIALECT: Final = {Dialect.QUERY: "sts", Dialect.JSON: "logs", Dialect.CBOR: "monitoring"}


class WireProtocol(Protocol):
    """Between requests and the shapes of one service."""

    def find(self, request: SignedRequest) -> Match: ...

    def parse(self, match: Match, request: SignedRequest) -> Parameters: ...

    def answer(self, operation: OperationModel, result: Mapping[str, Any], request_id: str) -> Answer: ...


@dataclass(frozen=True)
class Service:
    """One service that is served.

    Attributes:
        handlers: By name of the operation. Operations of the model that are missing here answer
            NotImplemented.

        authorize: None if no operation needs a permission.
    """

    model: ServiceModel
    protocol: WireProtocol
    handlers: Mapping[str, Handler]
    authorize: Authorizer | None = None


class Chain:
    """Answers requests. One instance per process."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._services = {"airflow": _mwaa(context), "sts": _sts()}

    def service_of(self, request: SignedRequest) -> str:
        """Return the signing name of the service that a request is meant for; nothing is verified.

        The credential scope says it. Without a readable one, the form of the request does.
        """
        try:
            return Claim.read(request).service
        except AuthenticationError:
            return _BY_DIALECT.get(dialect_of(request), "airflow")

    def model_of(self, service: str) -> ServiceModel | None:
        """Return the model of a service by its signing name; None if unknown."""
        return load(BY_SIGNING_NAME[service]) if service in BY_SIGNING_NAME else None

    async def handle(self, request: SignedRequest, service_name: str, request_id: str) -> Answer:
        """Answer one request.

        Args:
            request: As it arrived, complete.

            service_name: `service_of(request)`.

            request_id: Told to the client with the answer.

        Raises:
            Exception: Anything; `errors.to_service_error` says what a caller sees of it.
        """
        principal = await self._authenticate(request, service_name)
        structlog.contextvars.bind_contextvars(principal=principal.arn)
        service = self._services.get(service_name)
        if service is None:
            raise ServiceError(
                "NotImplemented", f"OpenMWAA does not serve the service {service_name[:64]} yet."
            )
        match = service.protocol.find(request)
        operation = match.operation
        structlog.contextvars.bind_contextvars(operation=operation.name)
        handler = service.handlers.get(operation.name)
        if handler is None:
            raise ServiceError(
                "NotImplemented", f"OpenMWAA does not serve {service_name}:{operation.name} yet."
            )
        parameters = service.protocol.parse(match, request)
        validate(operation.input_shape, parameters)
        role = service.authorize(principal, operation.name, parameters) if service.authorize else None
        result = await handler(Call(operation.name, principal, parameters, request_id, role))
        return service.protocol.answer(operation, result, request_id)

    async def _authenticate(self, request: SignedRequest, service_name: str) -> Principal:
        claim = Claim.read(request)
        claim.check(region=self._context.settings.region, service=service_name, now=self._context.clock())
        key = await self._context.store.access_keys.get(claim.key_id)
        # Keys here are long-term ones: a session token belongs to none of them.
        token = request.header("x-amz-security-token") or dict(request.parameters).get("X-Amz-Security-Token")
        if key is None or not key.active or token:
            raise AuthenticationError(
                Flaw.UNKNOWN_KEY, "The security token included in the request is invalid."
            )
        verify(request, claim, key.secret)
        return Principal.of(key)


def _mwaa(context: ApiContext) -> Service:
    model = load("mwaa")
    service = MwaaService(context)
    return Service(
        model=model,
        protocol=RestJson(model),
        handlers={name: getattr(service, xform_name(name)) for name in model.operation_names},
        authorize=lambda principal, operation, parameters: authorize_mwaa(
            context.settings, principal, operation, parameters
        ),
    )


def _sts() -> Service:
    model = load("sts")
    return Service(model, Query(model), {"GetCallerIdentity": get_caller_identity})
