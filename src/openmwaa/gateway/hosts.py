"""Between the host name in a request and the environment it means. Pure.

An environment is reached at its own loopback address and, where a domain is set, at
`<label>.<domain>`. The label is the environment's name where that is a plain DNS label;
names with capitals, underscores or more than 63 characters have their id as label, because
browsers lower-case host names and two names may differ in case only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address

from openmwaa.environments.record import EnvironmentRecord
from openmwaa.settings import Settings
from openmwaa.settings.layout import FIRST_ORDINAL, LAST_ORDINAL

_HTTPS = 443
_API_LABELS = frozenset({"api", "env", "ops"})
"""Host prefixes of the AWS API (mwaa.md 1.1): never an environment's label."""

_PLAIN_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_ID = re.compile(r"[a-z][a-z0-9]{11}")


@dataclass(frozen=True)
class ByOrdinal:
    """The environment at this loopback address."""

    ordinal: int


@dataclass(frozen=True)
class ByLabel:
    """The environment with this label below the domain."""

    label: str

    @property
    def may_be_id(self) -> bool:
        """The label has the form of an environment id."""
        return _ID.fullmatch(self.label) is not None


HostKey = ByOrdinal | ByLabel


def _bare(host: str) -> str:
    """Return the host of `host[:port]` in lower case, without a trailing dot; empty if malformed."""
    name, colon, port = host.strip().lower().partition(":")
    if colon and not (port.isascii() and port.isdigit()):
        return ""
    return name.removesuffix(".")


def parse_host(settings: Settings, host: str) -> HostKey | None:
    """Read a Host header, or a name without port.

    Returns:
        How to find the environment; None if no environment can have this host.
    """
    name = _bare(host)
    try:
        return _by_address(settings, IPv4Address(name))
    except AddressValueError:
        pass
    domain = _domain(settings)
    if domain is None or not name.endswith(f".{domain}"):
        return None
    label = name.removesuffix(f".{domain}")
    if label in _API_LABELS or not _PLAIN_LABEL.fullmatch(label):
        return None
    return ByLabel(label)


def label_of(record: EnvironmentRecord) -> str:
    """Return the label of an environment below the domain."""
    plain = _PLAIN_LABEL.fullmatch(record.name) and record.name not in _API_LABELS
    return record.name if plain else record.id


def hostname_of(settings: Settings, record: EnvironmentRecord) -> str:
    """Return `WebserverUrl` and `WebServerHostname`: no scheme, with the port unless it is 443."""
    domain = _domain(settings)
    host = f"{label_of(record)}.{domain}" if domain else str(settings.ports.address(record.ordinal))
    return host if settings.ports.https == _HTTPS else f"{host}:{settings.ports.https}"


def _domain(settings: Settings) -> str | None:
    return settings.domain.lower().strip(".") if settings.domain else None


def _by_address(settings: Settings, address: IPv4Address) -> ByOrdinal | None:
    ordinal = address.packed[3]
    if not FIRST_ORDINAL <= ordinal <= LAST_ORDINAL or settings.ports.address(ordinal) != address:
        return None
    return ByOrdinal(ordinal)
