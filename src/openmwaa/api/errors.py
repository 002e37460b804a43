"""The errors that reach a caller, and the one table that leads to them.

Errors that a service's model knows take status and member names from the model. The front
door adds those that AWS answers before a service is reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from openmwaa.environments.errors import (
    AccessDeniedError,
    DomainError,
    EnvironmentNotFoundError,
    InvalidRequestError,
)
from openmwaa.environments.snapshots import SnapshotNotFoundError
from openmwaa.identity.sigv4 import AuthenticationError, Flaw, MalformedRequestError
from openmwaa.kit.errors import GiveUp, Retry

STATUS_OF: Final[Mapping[str, int]] = {
    "AccessDeniedException": 403,
    "IncompleteSignatureException": 403,
    "InternalServerException": 500,
    "InvalidSignatureException": 403,
    "MissingAuthenticationTokenException": 403,
    "NotImplemented": 501,
    "RequestEntityTooLargeException": 413,
    "RequestTimeoutException": 408,
    "SerializationException": 400,
    "ServiceUnavailableException": 503,
    "ThrottlingException": 429,
    "UnknownOperationException": 404,
    "UnrecognizedClientException": 403,
    "ValidationException": 400,
}
"""HTTP status of errors that a service's model does not list."""

QUERY_CODE_OF: Final[Mapping[str, str]] = {
    "AccessDeniedException": "AccessDenied",
    "IncompleteSignatureException": "IncompleteSignature",
    "InternalServerException": "InternalFailure",
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "MissingAuthenticationTokenException": "MissingAuthenticationToken",
    "ServiceUnavailableException": "ServiceUnavailable",
    "ThrottlingException": "Throttling",
    "UnknownOperationException": "InvalidAction",
    "UnrecognizedClientException": "InvalidClientTokenId",
    "ValidationException": "ValidationError",
}
"""The same errors as services with the query protocol spell them."""

_DOMAIN: Final[Mapping[type[DomainError], str]] = {
    InvalidRequestError: "ValidationException",
    EnvironmentNotFoundError: "ResourceNotFoundException",
    AccessDeniedError: "AccessDeniedException",
    SnapshotNotFoundError: "ResourceNotFoundException",
}
_FLAWS: Final[Mapping[Flaw, str]] = {
    Flaw.MISSING: "MissingAuthenticationTokenException",
    Flaw.INCOMPLETE: "IncompleteSignatureException",
    Flaw.UNKNOWN_KEY: "UnrecognizedClientException",
    Flaw.MISMATCH: "InvalidSignatureException",
}


class ServiceError(Exception):
    """An error as a caller sees it.

    Args:
        code: For example `ValidationException`.

        message: Empty for errors whose shape has no message.

        members: Further members of the error's shape.
    """

    def __init__(self, code: str, message: str = "", *, members: Mapping[str, Any] | None = None) -> None:
        super().__init__(message or code)
        self.code = code
        self.message = message
        self.members = dict(members or {})


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete: there is nobody to answer."""


def to_service_error(  # noqa: PLR0911 - one line per family
    error: Exception, request_id: str
) -> tuple[ServiceError, bool]:
    """Return what the caller is told, and whether the error was expected.

    The text of an unexpected one stays in the log.
    """
    match error:
        case ServiceError():
            return error, True
        case AuthenticationError():
            return ServiceError(_FLAWS[error.flaw], str(error)), True
        case MalformedRequestError():
            return ServiceError("SerializationException", str(error)), True
        case DomainError() if type(error) in _DOMAIN:
            return ServiceError(_DOMAIN[type(error)], str(error)), True
        case Retry():
            return ServiceError("ServiceUnavailableException", f"Try again: {error.reason}."), True
        case GiveUp():
            return ServiceError("InternalServerException", error.reason), True
        case TimeoutError():
            return ServiceError("ServiceUnavailableException", "The request took too long. Try again."), True
        case _:
            message = f"The request failed because of an internal error. Request id: {request_id}"
            return ServiceError("InternalServerException", message), False
