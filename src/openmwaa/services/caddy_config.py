"""Caddy's configuration: one document that never changes while it runs. Pure.

Each change of a Caddy configuration drops some new connections (infra.md 4). So the
configuration knows no environment: the gateway's answer to the forward-authentication
request names the upstream, and adding an environment is only a row in the store.

Invariants: a header in which a client claims an identity never passes; the upstream gets
`Authorization`, `Cookie` and the identity from the gateway's answer or not at all; all
listeners are on loopback; certificates exist for our own addresses and names only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from openmwaa.settings import Settings
from openmwaa.settings.layout import FIRST_ORDINAL, LAST_ORDINAL

Json = dict[str, Any]

READY_PATH: Final = "/_openmwaa/proxy-ready"
"""Answered by Caddy itself at 127.0.0.1."""

UPSTREAM_HEADER: Final = "X-Openmwaa-Upstream"
IDENTITY_HEADER: Final = "X-Openmwaa-Identity"
LOCAL_ADDRESS_HEADER: Final = "X-Openmwaa-Local-Address"

_API_LABELS: Final = ("api", "env", "ops")
"""Host prefixes that AWS SDKs put before the endpoint's name (mwaa.md 1.1)."""

_FORBIDDEN_HEADERS: Final = [
    # Any header with our name in it: WSGI servers read `X_Openmwaa_Identity` as `X-Openmwaa-Identity`.
    "*openmwaa*",
    "Remote-User",
    "Remote_User",
    "X-Forwarded-*",
    "X_Forwarded*",
    "Forwarded",
    "X-Real-Ip",
    "X_Real_Ip",
    "Proxy",
]

_FROM_ANSWER: Final = ("Authorization", "Cookie", IDENTITY_HEADER)
_DIRECT_PATHS: Final = ["/aws_mwaa/*", "/pluginsv2/aws_mwaa/*", "/_openmwaa/*"]
_LEAF_LIFETIME: Final = "144h"
_TRANSPORT: Final = {"protocol": "http", "compression": False, "keep_alive": {"enabled": False}}
"""A kept connection that the server closes just as a POST goes out is a 502; a new one costs 0.1 ms."""

_CONNECT_PATIENCE: Final = {"try_duration": "5s", "try_interval": "100ms"}
"""A request that comes while control restarts waits for it. Only failed connections are tried again."""


def build_config(settings: Settings) -> Json:
    """Return the whole configuration.

    Environments with a host name below `settings.domain` are served at the same listener as
    the AWS API, because the name cannot tell which loopback address to connect to.
    """
    return {
        # No admin API: nothing may change the configuration, and nothing can be read from it.
        "admin": {"disabled": True, "config": {"persist": False}},
        "logging": {"logs": {"default": _log()}},
        "storage": {"module": "file_system", "root": str(storage_folder(settings))},
        "apps": {
            "pki": {"certificate_authorities": {"local": {"name": "OpenMWAA local", "install_trust": False}}},
            "tls": {
                "automation": {
                    "policies": [{"issuers": [{"module": "internal", "lifetime": _LEAF_LIFETIME}]}]
                },
                "certificates": {"automate": certificate_subjects(settings)},
            },
            "http": {
                "grace_period": "5s",
                "servers": {
                    "api": _server([f"127.0.0.1:{settings.ports.https}"], _api_routes(settings)),
                    "environments": _server(
                        [f"{address}:{settings.ports.https}" for address in _addresses(settings)],
                        _environment_routes(settings),
                    ),
                },
            },
        },
    }


def certificate_subjects(settings: Settings) -> list[str]:
    """Return every address and name that gets a certificate: a fixed list, made on the first start.

    250 certificates take about half a second once, beside the start of the other services.
    Issuing on demand would need an endpoint to ask for permission, and it cannot be a unix socket.
    """
    names = ["127.0.0.1", "localhost", *_addresses(settings)]
    if settings.domain:
        domain = settings.domain.lower().strip(".")
        names += [domain, f"*.{domain}"]
    return names


def storage_folder(settings: Settings) -> Path:
    """Return where Caddy keeps its authority and certificates."""
    return settings.layout.services / "caddy" / "storage"


def root_certificate(settings: Settings) -> Path:
    """Return the certificate of Caddy's authority."""
    return storage_folder(settings) / "pki" / "authorities" / "local" / "root.crt"


def _addresses(settings: Settings) -> list[str]:
    return [str(settings.ports.address(ordinal)) for ordinal in range(FIRST_ORDINAL, LAST_ORDINAL + 1)]


def _server(listen: list[str], routes: list[Json]) -> Json:
    return {
        "listen": listen,
        "protocols": ["h1", "h2"],
        "automatic_https": {"disable": True},
        "tls_connection_policies": [{}],
        "read_header_timeout": "15s",
        "routes": routes,
        "errors": {"routes": [{"handle": [_error_page()]}]},
    }


def _api_routes(settings: Settings) -> list[Json]:
    routes: list[Json] = [
        {
            "match": [{"path": [READY_PATH]}],
            "handle": [{"handler": "static_response", "status_code": 200, "body": "ready\n"}],
            "terminal": True,
        },
        {"handle": [_strip_claims()]},
    ]
    if settings.domain:
        domain = settings.domain.lower().strip(".")
        not_api = {"host": [f"{label}.{domain}" for label in _API_LABELS]}
        routes.append(
            {
                "match": [{"host": [f"*.{domain}"], "not": [not_api]}],
                "handle": [{"handler": "subroute", "routes": _environment_routes(settings)}],
                "terminal": True,
            }
        )
    routes.append({"handle": [_to_unix(settings.layout.control_socket)], "terminal": True})
    return routes


def _environment_routes(settings: Settings) -> list[Json]:
    gateway = settings.layout.gateway_socket
    return [
        {"handle": [_strip_claims()]},
        {
            "match": [{"path": _DIRECT_PATHS}],
            "handle": [_to_unix(gateway, local_address=True)],
            "terminal": True,
        },
        {"handle": [_forward_authentication(gateway)]},
        {"handle": [_to_upstream()]},
    ]


def _strip_claims() -> Json:
    return {"handler": "headers", "request": {"delete": _FORBIDDEN_HEADERS}}


def _to_unix(socket: Path, *, local_address: bool = False) -> Json:
    proxy: Json = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": f"unix/{socket}"}],
        "load_balancing": _CONNECT_PATIENCE,
        "transport": _TRANSPORT,
        "flush_interval": -1,
    }
    if local_address:
        proxy["headers"] = {"request": {"set": {LOCAL_ADDRESS_HEADER: ["{http.request.local.host}"]}}}
    return proxy


def _forward_authentication(gateway: Path) -> Json:
    """Ask the gateway; 2xx lets the request pass, any other answer goes to the client as it is."""
    question = {
        "set": {
            "X-Forwarded-Method": ["{http.request.method}"],
            "X-Forwarded-Uri": ["{http.request.uri}"],
            "X-Forwarded-Host": ["{http.request.hostport}"],
            LOCAL_ADDRESS_HEADER: ["{http.request.local.host}"],
        },
        # The question is a plain GET, also when the request wants to become a websocket.
        "delete": ["Connection", "Upgrade", "Sec-Websocket-*", "Content-Length", "Content-Type", "Expect"],
    }
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": f"unix/{gateway}"}],
        "load_balancing": _CONNECT_PATIENCE,
        "transport": _TRANSPORT,
        "rewrite": {"method": "GET", "uri": "/route"},
        "headers": {"request": question},
        "handle_response": [{"match": {"status_code": [2]}, "routes": _take_answer()}],
    }


def _take_answer() -> list[Json]:
    """Replace identity headers by those of the answer; one that the answer lacks is gone.

    The upstream's address travels in a variable of the request, which no client can set.
    """
    routes: list[Json] = [
        {"handle": [{"handler": "headers", "request": {"delete": list(_FROM_ANSWER)}}]},
        {"handle": [{"handler": "vars", "openmwaa_upstream": _answer_header(UPSTREAM_HEADER)}]},
    ]
    routes += [
        {
            "match": [{"not": [{"vars": {_answer_header(name): [""]}}]}],
            "handle": [{"handler": "headers", "request": {"set": {name: [_answer_header(name)]}}}],
        }
        for name in _FROM_ANSWER
    ]
    return routes


def _answer_header(name: str) -> str:
    return f"{{http.reverse_proxy.header.{name}}}"


def _to_upstream() -> Json:
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": "{http.vars.openmwaa_upstream}"}],
        "transport": _TRANSPORT,
        "flush_interval": -1,
        "stream_close_delay": "1h",
        "headers": {
            "request": {"set": {"X-Forwarded-Host": ["{http.request.hostport}"]}},
            "response": {"delete": ["Server"], "deferred": True},
        },
    }


def _error_page() -> Json:
    """Say plainly that something behind the proxy is away; a log line says what."""
    return {
        "handler": "static_response",
        "status_code": "{http.error.status_code}",
        "headers": {"Content-Type": ["text/plain; charset=utf-8"], "Cache-Control": ["no-store"]},
        "body": "{http.error.status_code} {http.error.status_text}\n",
    }


def _log() -> Json:
    """Errors only, without headers and without query strings: both can hold credentials."""
    return {
        "level": "WARN",
        "writer": {"output": "stderr"},
        "encoder": {
            "format": "filter",
            "wrap": {"format": "json", "time_format": "iso8601"},
            "fields": {
                "request>headers": {"filter": "delete"},
                "request>uri": {"filter": "regexp", "regexp": "\\?.*", "value": "?…"},
            },
        },
    }
