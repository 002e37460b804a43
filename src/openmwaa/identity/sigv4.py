"""Verification of AWS Signature Version 4, in the header and in the query (presigned) form.

The signature that a request must carry is computed by botocore's own signer over the request
exactly as it arrived; this module only decides what is fed to the signer and compares. Query
parameters are decoded once, here, and the same decoded pairs are parsed by the API, so that
nothing can be read from a request in another way than it was signed.

Source: "AWS Signature Version 4 for API requests" in the IAM user guide.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from functools import cached_property
from hashlib import sha256
from typing import Any, Final, Self
from urllib.parse import unquote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials

from openmwaa.kit.secret import Secret

ALGORITHM: Final = "AWS4-HMAC-SHA256"
CLOCK_SKEW: Final = timedelta(minutes=5)
MAX_EXPIRES_S: Final = 604_800
_TIMESTAMP: Final = "%Y%m%dT%H%M%SZ"
_ONCE: Final = ("authorization", "host", "x-amz-date", "x-amz-content-sha256")
_MISMATCH: Final = (
    "The request signature we calculated does not match the signature you provided. Check your AWS"
    " Secret Access Key and signing method. Consult the service documentation for details."
)


class Flaw(Enum):
    """What is wrong with a request's authentication. Each protocol has its own code for it."""

    MISSING = auto()
    INCOMPLETE = auto()
    UNKNOWN_KEY = auto()
    MISMATCH = auto()


class AuthenticationError(Exception):
    """The request is not authentic; the text is AWS's and is shown to the caller."""

    def __init__(self, flaw: Flaw, message: str) -> None:
        super().__init__(message)
        self.flaw = flaw


class MalformedRequestError(Exception):
    """The request line cannot be read in one way only."""


@dataclass(frozen=True)
class SignedRequest:
    """A request as it arrived, byte for byte.

    Attributes:
        path: Percent-encoded, as on the request line, without the query.

        query: Percent-encoded, as on the request line, without the question mark.

        headers: Names in lower case, in the order of arrival.
    """

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes

    @cached_property
    def parameters(self) -> list[tuple[str, str]]:
        """Decoded query parameters in the order of arrival; `+` is a plus, as in the signature.

        Raises:
            MalformedRequestError: A part is not UTF-8.
        """
        pairs = (part.partition("=") for part in self.query.split("&") if part)
        try:
            return [
                (unquote(key, errors="strict"), unquote(value, errors="strict")) for key, _, value in pairs
            ]
        except UnicodeDecodeError as error:
            raise MalformedRequestError("The query string is not valid UTF-8.") from error

    def header(self, name: str) -> str | None:
        """Return the first header of this name."""
        return next((value for key, value in self.headers if key == name), None)

    def check(self) -> None:
        """Refuse what URL parsers disagree about.

        Raises:
            MalformedRequestError: Names what is wrong.
        """
        if not re.fullmatch(r"/[\x21-\x22\x24-\x3e\x40-\x7e]*", self.path):
            raise MalformedRequestError("The path must be percent-encoded ASCII and begin with a slash.")
        if not re.fullmatch(r"[\x21-\x22\x24-\x7e]*", self.query):
            raise MalformedRequestError("The query string must be percent-encoded ASCII.")
        for name in _ONCE:
            if sum(key == name for key, _ in self.headers) > 1:
                raise MalformedRequestError(f"The header {name} must be given once.")
        _ = self.parameters


@dataclass(frozen=True)
class Claim:
    """What a request says about its signature; nothing here is proved yet."""

    key_id: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    timestamp: str
    expires_s: int | None
    in_query: bool

    @classmethod
    def read(cls, request: SignedRequest) -> Self:
        """Read the Authorization header or the X-Amz-… query parameters.

        Raises:
            AuthenticationError: Neither is there, or a part is missing.
        """
        header = request.header("authorization")
        query: dict[str, str] = {}
        for key, value in request.parameters:
            if key.startswith("X-Amz-") and key in query:
                raise _incomplete(f"Query-string parameter '{key}' must be given once.")
            query[key] = value
        signed_query = "X-Amz-Algorithm" in query or "X-Amz-Signature" in query
        if header and signed_query:
            raise _incomplete(
                "Only one of the Authorization header and query-string authentication is allowed."
            )
        if header:
            return cls._from_header(header, request)
        if signed_query:
            return cls._from_query(query)
        raise AuthenticationError(Flaw.MISSING, "Missing Authentication Token")

    @classmethod
    def _from_header(cls, header: str, request: SignedRequest) -> Self:
        algorithm, _, rest = header.strip().partition(" ")
        if algorithm != ALGORITHM:
            raise _incomplete(f"Unsupported AWS 'algorithm': '{algorithm[:32]}'.")
        found = dict(part.strip().partition("=")[::2] for part in rest.split(","))
        missing = [
            f"Authorization header requires '{name}' parameter."
            for name in ("Credential", "Signature", "SignedHeaders")
            if not found.get(name)
        ]
        timestamp = request.header("x-amz-date")
        if timestamp is None and (http_date := request.header("date")):
            timestamp = _from_http_date(http_date)
        if timestamp is None:
            missing.append(
                "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
            )
        if missing or timestamp is None:
            raise _incomplete(" ".join(missing))
        return cls(
            *_scope(found["Credential"]),
            signed_headers=tuple(found["SignedHeaders"].split(";")),
            signature=found["Signature"],
            timestamp=timestamp,
            expires_s=None,
            in_query=False,
        )

    @classmethod
    def _from_query(cls, query: Mapping[str, str]) -> Self:
        names = ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")
        missing = [
            f"AWS query-string parameters must include 'X-Amz-{name}'."
            for name in names
            if not query.get(f"X-Amz-{name}")
        ]
        if missing:
            raise _incomplete(" ".join(missing))
        if query["X-Amz-Algorithm"] != ALGORITHM:
            raise _incomplete(f"Unsupported AWS 'algorithm': '{query['X-Amz-Algorithm'][:32]}'.")
        expires = query["X-Amz-Expires"]
        if not re.fullmatch(r"[0-9]{1,6}", expires) or not 0 < int(expires) <= MAX_EXPIRES_S:
            raise _incomplete(f"X-Amz-Expires must be between 1 and {MAX_EXPIRES_S} seconds.")
        return cls(
            *_scope(query["X-Amz-Credential"]),
            signed_headers=tuple(query["X-Amz-SignedHeaders"].split(";")),
            signature=query["X-Amz-Signature"],
            timestamp=query["X-Amz-Date"],
            expires_s=int(expires),
            in_query=True,
        )

    def check(self, *, region: str, service: str, now: datetime) -> None:
        """Refuse a signature for another place or time.

        Raises:
            AuthenticationError: With AWS's wording.
        """
        if "host" not in self.signed_headers:
            raise _incomplete("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
        problems = []
        if self.region != region:
            problems.append(f"Credential should be scoped to a valid region, not '{self.region}'.")
        if self.service != service:
            problems.append(f"Credential should be scoped to correct service: '{service}'.")
        if problems:
            raise AuthenticationError(Flaw.MISMATCH, " ".join(problems))
        if not re.fullmatch(r"\d{8}T\d{6}Z", self.timestamp, re.ASCII):
            raise _incomplete(
                "Date must be in ISO-8601 'basic format'. Got"
                f" '{self.timestamp[:32]}'. See http://en.wikipedia.org/wiki/ISO_8601"
            )
        if self.date != self.timestamp[:8]:
            raise AuthenticationError(
                Flaw.MISMATCH,
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP:"
                f" '{self.date}' != '{self.timestamp[:8]}', from '{self.timestamp}'.",
            )
        self._check_time(now)

    def _check_time(self, now: datetime) -> None:
        try:
            signed_at = datetime.strptime(self.timestamp, _TIMESTAMP).replace(tzinfo=UTC)
        except ValueError as error:
            raise _incomplete(f"'{self.timestamp}' is not a date.") from error
        seen = now.strftime(_TIMESTAMP)
        latest = (now + CLOCK_SKEW).strftime(_TIMESTAMP)
        if signed_at > now + CLOCK_SKEW:
            raise AuthenticationError(
                Flaw.MISMATCH,
                f"Signature not yet current: {self.timestamp} is still later than {latest} ({seen} + 5 min.)",
            )
        life = timedelta(seconds=self.expires_s) if self.expires_s else CLOCK_SKEW
        if signed_at + life < now:
            earliest = (now - life).strftime(_TIMESTAMP)
            span = f"{self.expires_s} sec." if self.expires_s else "5 min."
            raise AuthenticationError(
                Flaw.MISMATCH,
                f"Signature expired: {self.timestamp} is now earlier than {earliest} ({seen} - {span})",
            )


def verify(request: SignedRequest, claim: Claim, secret: Secret) -> None:
    """Prove that the holder of `secret` signed this request, its body included.

    Args:
        request: As it arrived.

        claim: `Claim.read(request)`, after `Claim.check`.

        secret: Of the access key that the claim names.

    Raises:
        AuthenticationError: The signature is another.
    """
    digest = sha256(request.body).hexdigest()
    declared = request.header("x-amz-content-sha256")
    if declared is not None and not hmac.compare_digest(declared.encode(), digest.encode()):
        raise AuthenticationError(
            Flaw.MISMATCH, "The provided 'x-amz-content-sha256' header does not match what was computed."
        )
    signer = _Signer(claim, secret, digest)
    expected = signer.expected(request)
    if not hmac.compare_digest(expected.encode(), claim.signature.encode()):
        raise AuthenticationError(Flaw.MISMATCH, _MISMATCH)


class _Signer(SigV4Auth):
    """botocore's signer, told to sign what the client says it signed and nothing else."""

    def __init__(self, claim: Claim, secret: Secret, body_digest: str) -> None:
        super().__init__(Credentials(claim.key_id, secret.reveal()), claim.service, claim.region)
        self._claim = claim
        self._body_digest = body_digest

    def expected(self, request: SignedRequest) -> str:
        # The host is signed as a header. The one in the URL is never read.
        pairs = [pair for pair in request.parameters if not self._carries_signature(pair[0])]
        rebuilt = AWSRequest(method=request.method, url=f"https://host{request.path}")
        rebuilt.params = pairs  # type: ignore[assignment] # botocore reads pairs too; a key may come twice
        for name, value in request.headers:
            if name in self._claim.signed_headers and name != "x-amz-content-sha256":
                rebuilt.headers.add_header(name, value)
        if "x-amz-content-sha256" in self._claim.signed_headers:
            rebuilt.headers["x-amz-content-sha256"] = self._body_digest
        rebuilt.context["timestamp"] = self._claim.timestamp
        canonical = self.canonical_request(rebuilt)
        return str(self.signature(self.string_to_sign(rebuilt, canonical), rebuilt))

    def _carries_signature(self, parameter: str) -> bool:
        return self._claim.in_query and parameter == "X-Amz-Signature"

    # botocore leaves out headers that proxies may change. The client's list decides here.
    def headers_to_sign(self, request: Any) -> HTTPHeaders:
        chosen = HTTPHeaders()
        for name, value in request.headers.items():
            chosen[name.lower()] = value
        return chosen

    def signed_headers(self, headers_to_sign: Any) -> str:  # noqa: ARG002 - the signature is botocore's
        return ";".join(self._claim.signed_headers)

    def payload(self, request: Any) -> str:  # noqa: ARG002
        return self._body_digest


def _scope(credential: str) -> tuple[str, str, str, str]:
    parts = credential.split("/")
    if len(parts) != 5 or parts[4] != "aws4_request" or not all(parts):
        raise _incomplete(
            "Credential must have exactly 5 slash-delimited elements, e.g."
            f" keyid/date/region/service/term, got '{credential[:128]}'"
        )
    return parts[0], parts[1], parts[2], parts[3]


def _from_http_date(text: str) -> str:
    if re.fullmatch(r"\d{8}T\d{6}Z", text, re.ASCII):
        return text
    try:
        return parsedate_to_datetime(text).astimezone(UTC).strftime(_TIMESTAMP)
    except ValueError as error:
        raise _incomplete(f"'{text[:64]}' is not a date.") from error


def _incomplete(message: str) -> AuthenticationError:
    return AuthenticationError(Flaw.INCOMPLETE, message)
