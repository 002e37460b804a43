"""The gateway as clients meet it: through the real proxy, with a real web server behind it."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from openmwaa.gateway.tokens import TokenKind
from openmwaa.kit.errors import Retry
from openmwaa.services.caddy_config import root_certificate
from tests.support.eventually import eventually
from tests.support.gateway_stack import ALICE, GatewayStack, gateway_stack

PORT_BASE = 25000
VERSIONS = {"two": "2.11.2", "old-three": "3.0.6", "three": "3.3.1"}
LOGIN = {
    "two": "/aws_mwaa/login",
    "old-three": "/pluginsv2/aws_mwaa/login",
    "three": "/pluginsv2/aws_mwaa/login",
}
COOKIE = {"two": "session", "old-three": "_token", "three": "_token"}
BROWSER = {"Accept": "text/html,application/xhtml+xml"}
FORGED = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0."


@pytest.fixture(scope="module")
def stack() -> Iterator[GatewayStack]:
    environments = {name: (version, True, 1) for name, version in VERSIONS.items()}
    with gateway_stack(
        PORT_BASE, environments | {"fresh": ("3.3.1", False, 0), "pair": ("3.3.1", True, 2)}
    ) as running:
        yield running


@pytest.fixture(params=VERSIONS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def sign_in(stack: GatewayStack, name: str, role: str = "Admin") -> str:
    """Return the session that the programmatic exchange gives."""
    with stack.client() as client:
        answer = client.post(
            stack.url(name, LOGIN.get(name, LOGIN["three"])), data={"token": stack.web_token(name, role)}
        )
        assert answer.status_code == 200, answer.text
        return str(answer.cookies[COOKIE.get(name, "_token")])


def headers_of(seen: dict[str, Any], header: str) -> list[str]:
    return [value for key, value in seen["headers"] if key == header]


def identity(stack: GatewayStack, name: str, seen: dict[str, Any]) -> dict[str, Any]:
    """Verify the identity that reached the web server, the way Airflow's side does."""
    if VERSIONS.get(name, "3").startswith("2"):
        assert headers_of(seen, "authorization") == []
        (token,) = headers_of(seen, "x-openmwaa-identity")
    else:
        (authorization,) = headers_of(seen, "authorization")
        scheme, token = authorization.split()
        assert scheme == "Bearer"
        assert headers_of(seen, "x-openmwaa-identity") in ([], [token])
    public = load_pem_public_key(stack.key.public_pem.encode())
    claims: dict[str, Any] = jwt.decode(
        token,
        public,
        algorithms=["EdDSA"],
        audience=f"openmwaa:{stack.records[name].id}",
        options={"require": ["exp", "iat", "nbf", "sub", "jti"]},
    )
    assert 0 < claims["exp"] - time.time() <= 60
    return claims


# Signing in


def test_the_exchange_gives_a_session_of_twelve_hours(stack: GatewayStack, name: str) -> None:
    with stack.client() as client:
        answer = client.post(stack.url(name, LOGIN[name]), data={"token": stack.web_token(name)})
    assert answer.status_code == 200
    given = [header.lower() for header in answer.headers.get_list("set-cookie")]
    assert {header.partition("=")[0] for header in given} == {COOKIE[name], "_openmwaa_session"}
    for header in given:
        assert {"secure", "httponly", "samesite=lax", "path=/", "max-age=43200"} <= set(header.split("; "))
        assert "domain" not in header


def test_a_session_reaches_airflow_with_its_identity(stack: GatewayStack, name: str) -> None:
    session = sign_in(stack, name, "Viewer")
    carriers = [{"Cookie": f"{COOKIE[name]}={session}"}, {"Cookie": f"_openmwaa_session={session}"}]
    carriers.append({"Authorization": f"Bearer {session}"})
    with stack.client() as client:
        for carrier in carriers:
            answer = client.get(stack.url(name, "/some/page?a=1&b=%2F"), headers=carrier)
            assert answer.status_code == 200, answer.text
            assert answer.json()["path"] == "/some/page?a=1&b=%2F"
            claims = identity(stack, name, answer.json())
            assert (claims["sub"], claims["roles"]) == ("user/alice", ["Viewer"])


def test_method_body_and_query_pass(stack: GatewayStack, name: str) -> None:
    session = sign_in(stack, name)
    with stack.client(headers={"Authorization": f"Bearer {session}"}) as client:
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            answer = client.request(method, stack.url(name, "/api/v2/dags?x=1"), json={"a": "ü" * 50_000})
            assert answer.json()["method"] == method
            assert json.loads(answer.json()["body"].encode("latin-1")) == {"a": "ü" * 50_000}
        assert client.head(stack.url(name, "/")).status_code == 200


@pytest.mark.parametrize(
    "path", ["/aws_mwaa/login", "/pluginsv2/aws_mwaa/login", "/login", "/aws_mwaa/other", "/aws_mwaa/login/"]
)
def test_the_exchange_is_at_one_path_per_generation(stack: GatewayStack, name: str, path: str) -> None:
    with stack.client() as client:
        status = client.post(stack.url(name, path), data={"token": stack.web_token(name)}).status_code
    if path == "/login":
        assert status == 401  # asked as Airflow's own path: nobody is signed in
    else:
        assert status == (200 if path == LOGIN[name] else 404)


def test_bad_tokens_are_refused_at_the_exchange(stack: GatewayStack, name: str) -> None:
    record = stack.records[name]
    other = stack.records["three" if name == "two" else "two"]

    def mint(kind: TokenKind, environment_id: str) -> str:
        return stack.tokens.mint(kind, environment_id, subject="user/mallory", roles=["Admin"])

    bad: list[dict[str, Any]] = [
        {},
        {"token": ""},
        {"token": "x"},
        {"token": FORGED},
        {"other": stack.web_token(name)},
        {"token": [stack.web_token(name), stack.web_token(name)]},
        {"token": mint(TokenKind.WEB, other.id)},
        *({"token": mint(kind, record.id)} for kind in TokenKind if kind is not TokenKind.WEB),
    ]
    with stack.client() as client:
        for form in bad:
            answer = client.post(stack.url(name, LOGIN[name]), data=form)
            assert (answer.status_code, answer.headers.get_list("set-cookie")) == (403, []), form
        url = stack.url(name, LOGIN[name])
        assert client.post(url, data={"token": "x" * 20_000}).status_code == 403
        assert client.post(url, data={"token": "x" * 200_000}).status_code == 413
        assert client.get(url).status_code == 405
        page = client.post(url, data={"token": "x"}, headers=BROWSER)
        assert page.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://{host}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_site_cannot_sign_a_visitor_in(stack: GatewayStack, headers: dict[str, str]) -> None:
    filled = {key: value.format(host=stack.host("three")) for key, value in headers.items()}
    with stack.client() as client:
        answer = client.post(
            stack.url("three", LOGIN["three"]), data={"token": stack.web_token("three")}, headers=filled
        )
        assert (answer.status_code, answer.headers.get_list("set-cookie")) == (403, [])
        own = {"Origin": stack.url("three"), "Sec-Fetch-Site": "same-origin"}
        answer = client.post(
            stack.url("three", LOGIN["three"]), data={"token": stack.web_token("three")}, headers=own
        )
        assert answer.status_code == 200


# Nobody anonymous


ANONYMOUS = [
    "/",
    "/home",
    "/dags",
    "/api/v1/dags",
    "/api/v2/dags",
    "/api/v2/version",
    "/api/v2/monitor/health",
    "/api/v1/health",
    "/health",
    "/ui/config",
    "/static/x.js",
    "/openapi.json",
    "/docs",
    "/execution/health",
    "/execution/task-instances/1/run",
    "/auth/login",
    "/auth/login/",
    "/auth/token",
    "/auth/token/cli",
    "/api/v2/auth/login",
    "/login/",
    "/ui/auth/token",
    "/api/v1/security/login",
    "//api/v2/dags",
    "/%61pi/v2/dags",
    "/route",
    "/aws_mwaa",
    "/aws_mwaa/../api/v2/dags",
    "/aws_mwaa/%2e%2e/api/v2/dags",
    "/api/v2/../../aws_mwaa/cli",
    "/_openmwaa/../api/v2/dags",
]
CREDENTIALS: list[dict[str, str]] = [
    {},
    {"Authorization": "Bearer x"},
    {"Authorization": f"Bearer {FORGED}"},
    {"Authorization": "Basic YWRtaW46YWRtaW4="},
    {"Cookie": f"session={FORGED}; _token={FORGED}; _openmwaa_session={FORGED}"},
    {"X-Openmwaa-Identity": FORGED, "X-Openmwaa-Upstream": "127.0.0.1:22"},
    {"Remote-User": "admin", "X-Forwarded-User": "admin"},
    {"X-Forwarded-Uri": "/aws_mwaa/login", "X-Forwarded-Method": "GET"},
]


def test_nobody_anonymous_reaches_the_web_server(stack: GatewayStack, name: str) -> None:
    before = len(stack.seen(name))
    connection = http.client.HTTPSConnection(
        stack.host(name),
        timeout=10,
        context=ssl.create_default_context(cafile=root_certificate(stack.settings)),
    )
    with closing(connection):
        for path in ANONYMOUS:
            for method in ("GET", "POST"):
                for credentials in CREDENTIALS:
                    # This client sends paths as they are; others would tidy them up.
                    connection.putrequest(method, path, skip_accept_encoding=True)
                    for header, value in credentials.items():
                        connection.putheader(header, value)
                    connection.putheader("Content-Length", "0")
                    connection.endheaders()
                    answer = connection.getresponse()
                    answer.read()
                    assert answer.status in {302, 400, 401, 404, 405}, (method, path, credentials)
    assert len(stack.seen(name)) == before


def test_tokens_for_other_purposes_open_nothing(stack: GatewayStack, name: str) -> None:
    before = len(stack.seen(name))
    other = stack.records["three" if name == "two" else "two"]
    texts = [
        stack.web_token(name),
        stack.cli_token(name),
        stack.tokens.mint(TokenKind.IDENTITY, stack.records[name].id, subject="root", roles=["Admin"]),
        stack.tokens.mint(TokenKind.SESSION, other.id, subject="root", roles=["Admin"]),
    ]
    with stack.client() as client:
        for text in texts:
            for carrier in (
                {"Authorization": f"Bearer {text}"},
                {"Cookie": f"session={text}; _token={text}; _openmwaa_session={text}"},
            ):
                assert client.get(stack.url(name, "/api/v2/dags"), headers=carrier).status_code == 401
    assert len(stack.seen(name)) == before


def test_people_are_sent_to_the_sign_in_page_and_programs_are_not(stack: GatewayStack, name: str) -> None:
    with stack.client() as client:
        for path in ("/", "/home", "/dags/etl?tab=x", "/login/", "/auth/login/", "/api/v2/auth/login?next=/"):
            answer = client.get(stack.url(name, path), headers=BROWSER)
            assert answer.status_code == 302, path
            assert answer.headers["location"] == "/aws_mwaa/aws-console-sso"
        for path in ("/api/v2/dags", "/ui/config", "/health"):
            answer = client.get(stack.url(name, path), headers=BROWSER)
            assert answer.status_code == 401, path
            assert answer.json()["status"] == 401
        fetched = {"Accept": "text/html", "Sec-Fetch-Mode": "cors"}
        assert client.get(stack.url(name, "/home"), headers=fetched).status_code == 401
        assert client.post(stack.url(name, "/home"), headers=BROWSER).status_code == 401


def test_a_host_without_environment_is_not_found(stack: GatewayStack) -> None:
    address = stack.settings.ports.address(200)
    with stack.client() as client:
        for path in ("/", "/aws_mwaa/aws-console-sso", "/api/v2/dags"):
            url = f"https://{address}:{stack.settings.ports.https}{path}"
            assert client.get(url, headers=BROWSER).status_code == 404
        url = f"https://{address}:{stack.settings.ports.https}/aws_mwaa/cli"
        assert client.post(url, content="version").status_code == 404
        for host in ("evil.example", "127.0.0.1", ""):
            assert client.get(stack.url("three", "/"), headers={"Host": host}).status_code in {400, 404}


# What reaches Airflow


def test_claims_of_the_client_never_pass(stack: GatewayStack, name: str) -> None:
    session = sign_in(stack, name)
    spoofed = [
        ("X-Openmwaa-Identity", FORGED),
        ("x-openmwaa-identity", FORGED),
        ("X_Openmwaa_Identity", FORGED),
        ("X-Openmwaa-Upstream", "127.0.0.1:1"),
        ("X-OPENMWAA-ANYTHING", "x"),
        ("Authorization", f"Bearer {FORGED}"),
        ("Authorization", "Basic cm9vdDpyb290"),
        ("Remote-User", "root"),
        ("Cookie", f"_openmwaa_session={session}; theme=dark; session={FORGED}"),
        ("Cookie", f"_token={session}; _token={FORGED}; _openmwaa_session=x"),
        ("X-Forwarded-Uri", "/elsewhere"),
        ("X-Forwarded-Method", "DELETE"),
    ]
    answer = raw(stack, name, "GET", "/page", spoofed)
    assert status_of(answer) == 200, answer
    seen = stack.seen(name)[-1]
    assert (seen["method"], seen["path"]) == ("GET", "/page")
    assert identity(stack, name, seen)["sub"] == "user/alice"
    everything = json.dumps(seen["headers"]).lower()
    assert session.lower() not in everything
    assert "cm9vddpyb290" not in everything
    assert "127.0.0.1:1" not in everything
    names = {key.replace("_", "-") for key, _ in seen["headers"]}
    assert not {"remote-user", "x-openmwaa-anything", "x-openmwaa-upstream"} & names
    assert len(headers_of(seen, "x-openmwaa-identity") + headers_of(seen, "x_openmwaa_identity")) <= 1
    # Flask's own cookie stays; a forged one is Flask's to refuse.
    assert headers_of(seen, "cookie") == [f"theme=dark; session={FORGED}"]


def test_only_our_cookies_are_taken_out(stack: GatewayStack, name: str) -> None:
    session = sign_in(stack, name)
    flask = "eyJjc3JmX3Rva2VuIjoiYSJ9.aGVsbG8.c2lnbmF0dXJl"
    with stack.client() as client:
        cookies = f"session={flask}; {COOKIE[name]}={session}; a=1; b=x=y"
        seen = client.get(stack.url(name, "/page"), headers={"Cookie": cookies}).json()
        assert headers_of(seen, "cookie") == [f"session={flask}; a=1; b=x=y"]
        seen = client.get(stack.url(name, "/page"), headers={"Cookie": f"{COOKIE[name]}={session}"}).json()
        assert headers_of(seen, "cookie") in ([], [""])


def test_airflow_s_own_ways_to_sign_in_stay_closed_to_everybody(stack: GatewayStack, name: str) -> None:
    session = sign_in(stack, name)
    before = len(stack.seen(name))
    with stack.client(headers={"Authorization": f"Bearer {session}"}) as client:
        for path in (
            "/auth/token",
            "/auth/token/cli",
            "/ui/auth/token",
            "/execution/task-instances/1/run",
            "/api/v1/security/login",
            "/auth//token",
            "/%61uth/token",
        ):
            assert client.post(stack.url(name, path), json={}).status_code == 404, path
        for path in ("/login/", "/auth/login/", "/api/v2/auth/login"):
            assert client.get(stack.url(name, path), headers=BROWSER).status_code == 302
            assert client.post(stack.url(name, path)).status_code == 404
        assert client.get(stack.url(name, "/a/%2e%2e/auth/token")).status_code == 400
    assert len(stack.seen(name)) == before


def test_another_site_cannot_use_a_visitor_s_cookie(stack: GatewayStack, name: str) -> None:
    session = sign_in(stack, name)
    cookie = {"Cookie": f"_openmwaa_session={session}"}
    url = stack.url(name, "/api/v2/dags")
    foreign = [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
    with stack.client() as client:
        for headers in foreign:
            assert client.post(url, headers=cookie | headers).status_code == 403
        assert client.get(url, headers=cookie | foreign[0]).status_code == 403
        assert client.get(url, headers=cookie | {"Sec-Fetch-Site": "cross-site"}).status_code == 200  # a link
        own = {"Origin": stack.url(name), "Sec-Fetch-Site": "same-origin"}
        assert client.post(url, headers=cookie | own).status_code == 200
        # A program that names its session cannot be made to do so by another site.
        explicit = {"Authorization": f"Bearer {session}", "Origin": "https://app.example"}
        assert client.post(url, headers=explicit).status_code == 200


def test_answers_are_streamed(stack: GatewayStack) -> None:
    session = sign_in(stack, "three")
    with (
        stack.client(headers={"Authorization": f"Bearer {session}"}) as client,
        client.stream("GET", stack.url("three", "/stream")) as answer,
    ):
        arrived = [(time.monotonic(), line) for line in answer.iter_lines()]
    assert [line for _, line in arrived] == ['{"line": 0}', '{"line": 1}', '{"line": 2}']
    assert arrived[-1][0] - arrived[0][0] > 0.3


def test_websockets_pass_with_a_session_and_only_then(stack: GatewayStack) -> None:
    session = sign_in(stack, "three")
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    before = len(stack.seen("three"))
    assert status_of(raw(stack, "three", "GET", "/ws", upgrade)) == 401
    cookie = {"Cookie": f"_openmwaa_session={session}"}
    stolen = upgrade | cookie | {"Origin": "https://evil.example"}
    assert status_of(raw(stack, "three", "GET", "/ws", stolen)) == 403
    assert len(stack.seen("three")) == before
    answer = raw(stack, "three", "GET", "/ws", upgrade | cookie, then=b"hello\n")
    assert status_of(answer) == 101
    assert answer.endswith(b"\r\n\r\nhello\n")
    assert identity(stack, "three", stack.seen("three")[-1])["sub"] == "user/alice"


def test_a_session_stays_at_one_web_server(stack: GatewayStack) -> None:
    with stack.client() as client:
        used = []
        for _ in range(12):
            session = sign_in(stack, "pair")
            servers = {
                client.get(stack.url("pair", "/x"), headers={"Authorization": f"Bearer {session}"}).json()[
                    "upstream"
                ]
                for _ in range(3)
            }
            assert len(servers) == 1
            used += servers
        assert len(set(used)) == 2


# Signing out, waiting


@pytest.mark.parametrize(
    "path",
    ["/logout", "/logout/", "/auth/logout", "/auth/logout/", "/api/v2/auth/logout", "/aws_mwaa/logout"],
)
def test_signing_out(stack: GatewayStack, name: str, path: str) -> None:
    session = sign_in(stack, name)
    before = len(stack.seen(name))
    with stack.client() as client:
        cookie = {"Cookie": f"_openmwaa_session={session}"}
        if path != "/aws_mwaa/logout":
            for method in ("GET", "POST"):
                answer = client.request(method, stack.url(name, path), headers=BROWSER | cookie)
                assert (answer.status_code, answer.headers["location"]) == (302, "/aws_mwaa/logout")
        answer = client.get(stack.url(name, "/aws_mwaa/logout"), headers=BROWSER | cookie)
        assert answer.status_code == 200
        cleared = {header.partition("=")[0] for header in answer.headers.get_list("set-cookie")}
        assert cleared == {"_openmwaa_session", "session", "_token"}
        assert all("max-age=0" in header.lower() for header in answer.headers.get_list("set-cookie"))
        image = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
        answer = client.get(stack.url(name, "/aws_mwaa/logout"), headers=cookie | image)
        assert answer.headers.get_list("set-cookie") == []
    assert len(stack.seen(name)) == before


def test_an_environment_that_is_not_up_says_so(stack: GatewayStack) -> None:
    record = stack.records["fresh"]
    session = stack.tokens.mint(TokenKind.SESSION, record.id, subject="user/alice", roles=["Admin"])
    with stack.client() as client:
        for path in ("/", "/aws_mwaa/aws-console-sso"):
            page = client.get(stack.url("fresh", path), headers=BROWSER)
            assert page.status_code == 503
            assert "CREATING" in page.text
            assert 'http-equiv="refresh"' in page.text
        answer = client.get(
            stack.url("fresh", "/api/v2/dags"), headers={"Authorization": f"Bearer {session}"}
        )
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert "CREATING" in answer.json()["detail"]


def test_a_deleted_environment_takes_its_sessions_along(stack: GatewayStack) -> None:
    stack.add("brief", "3.3.1")
    stack.webs["brief"] = []
    session = sign_in(stack, "brief")
    old = stack.records["brief"]

    async def delete() -> None:
        await stack.store.database.all(
            "UPDATE environments SET deleting = true, deleted_at = now() WHERE id = %s", (old.id,)
        )

    bearer = {"Authorization": f"Bearer {session}"}
    with stack.client() as client:
        assert (
            client.get(stack.url("brief", "/api/v2/dags"), headers=bearer).status_code == 503
        )  # no web server
        stack.wait(delete())

        def gone() -> bool:
            return client.get(stack.url("brief", "/api/v2/dags"), headers=bearer).status_code == 404

        eventually(gone, within_s=5)
        new = stack.add("brief", "3.3.1")
        assert new.ordinal == old.ordinal
        assert client.get(stack.url("brief", "/api/v2/dags"), headers=bearer).status_code == 401


def test_the_pages_carry_a_policy_and_no_foreign_resource(stack: GatewayStack, name: str) -> None:
    paths = [
        "/aws_mwaa/aws-console-sso",
        "/aws_mwaa/aws-console-sso?login=true",
        "/aws_mwaa/logout",
        "/aws_mwaa/x",
    ]
    with stack.client() as client:
        for path in paths:
            answer = client.get(stack.url(name, path), headers=BROWSER)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-frame-options"] == "DENY"
            assert "src=" not in answer.text
            assert "@import" not in answer.text
        below = client.get(stack.url(name, "/pluginsv2/aws_mwaa/aws-console-sso"), headers=BROWSER)
        assert below.status_code == (404 if name == "two" else 200)


# The CLI endpoint


def run(stack: GatewayStack, name: str, text: str | bytes, **headers: str) -> httpx.Response:
    with stack.client() as client:
        return client.post(
            stack.url(name, "/aws_mwaa/cli"),
            content=text,
            headers={
                "Authorization": f"Bearer {stack.cli_token(name)}",
                "Content-Type": "text/plain",
                **headers,
            },
        )


def output(answer: httpx.Response) -> tuple[str, str]:
    body = answer.json()
    assert set(body) == {"stdout", "stderr"}
    return base64.b64decode(body["stdout"]).decode(), base64.b64decode(body["stderr"]).decode()


def test_a_command_runs_with_its_arguments_as_quoted(stack: GatewayStack, name: str) -> None:
    answer = run(stack, name, """variables set 'a b' "$(id); `id` | x > /tmp/y" ü""")
    assert answer.status_code == 200
    stdout, stderr = output(answer)
    assert json.loads(stdout) == ["variables", "set", "a b", "$(id); `id` | x > /tmp/y", "ü"]
    assert stderr == "to stderr\n"


def test_a_failing_command_is_answered_like_any_other(stack: GatewayStack) -> None:
    answer = run(stack, "three", "variables delete x")
    assert answer.status_code == 200
    assert output(answer)[1] == "to stderr\n"


def test_refused_commands_say_why(stack: GatewayStack, name: str) -> None:
    for text in ("users list", "connections export -", "config list", "", "'", "db shell", b"\xff"):
        answer = run(stack, name, text)
        assert answer.status_code == 400
        stdout, stderr = output(answer)
        assert (stdout, bool(stderr)) == ("", True)
    answer = run(stack, name, "variables set x " + "y" * 110_000)
    assert answer.status_code == 413


def test_the_cli_path_of_airflow_3(stack: GatewayStack, name: str) -> None:
    with stack.client() as client:
        answer = client.post(
            stack.url(name, "/pluginsv2/aws_mwaa/cli"),
            content="version",
            headers={"Authorization": f"Bearer {stack.cli_token(name)}"},
        )
        assert answer.status_code == (404 if name == "two" else 200)
        assert client.get(stack.url(name, "/aws_mwaa/cli")).status_code == 405


def test_only_a_cli_token_of_this_environment_runs_commands(stack: GatewayStack, name: str) -> None:
    other = "three" if name == "two" else "two"
    session = sign_in(stack, name)
    bad = ["", "x", FORGED, stack.web_token(name), session, stack.cli_token(other)]
    with stack.client(cookies={"_openmwaa_session": session}) as client:
        url = stack.url(name, "/aws_mwaa/cli")
        assert client.post(url, content="version").status_code == 403
        for token in bad:
            answer = client.post(url, content="version", headers={"Authorization": f"Bearer {token}".strip()})
            assert answer.status_code == 403, token
        basic = {"Authorization": f"Basic {stack.cli_token(name)}"}
        assert client.post(url, content="version", headers=basic).status_code == 403


def test_a_fifth_command_at_once_has_to_wait(stack: GatewayStack, tmp_path: Path) -> None:
    gates = [tmp_path / str(number) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(run, stack, "three", f"variables get {gate}") for gate in gates]
        for gate in gates:
            eventually(gate.with_name(f"{gate.name}.started").exists, within_s=20, every_s=0.02)
        refused = run(stack, "three", "version")
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert run(stack, "two", "version").status_code == 200  # another environment is not held up
        for gate in gates:
            gate.touch()
        assert [future.result(20).status_code for future in running] == [200] * 4
    assert run(stack, "three", "version").status_code == 200


# InvokeRestApi


def invoke(stack: GatewayStack, name: str, path: str, method: str = "GET", **more: Any) -> Any:
    return stack.wait(
        stack.rest.invoke(
            stack.records[name],
            ALICE,
            "Op",
            path=path,
            method=method,
            query=more.get("query"),
            body=more.get("body"),
        )
    )


def test_rest_calls_carry_identity_query_and_body(stack: GatewayStack, name: str) -> None:
    query = {"limit": 5, "tags": ["a", "b&c"], "paused": False, "none": None, "order_by": "-dag_id"}
    answer = invoke(stack, name, "/dags/ü x/dagRuns", "POST", query=query, body={"conf": {"a": 1}})
    assert answer.status == 200
    seen = answer.body
    prefix = "/api/v1" if name == "two" else "/api/v2"
    assert seen["path"] == (
        f"{prefix}/dags/%C3%BC%20x/dagRuns?limit=5&tags=a&tags=b%26c&paused=false&order_by=-dag_id"
    )
    assert json.loads(seen["body"]) == {"conf": {"a": 1}}
    assert headers_of(seen, "content-type") == ["application/json"]
    claims = identity(stack, name, seen)
    assert (claims["sub"], claims["roles"]) == ("user/alice", ["Op"])


def test_the_empty_body_of_mwaa_s_hook_is_not_sent_with_get(stack: GatewayStack) -> None:
    pause = threading.Event()
    for method in ("GET", "DELETE"):
        assert invoke(stack, "three", "/dags", method, query={}, body={}).body["body"] == ""
    assert invoke(stack, "three", "/dags", "POST", body={}).body["body"] == "{}"
    pause.wait(1.0)  # the limit of calls a second is another test's


def test_other_answers_of_the_web_server(stack: GatewayStack) -> None:
    assert invoke(stack, "old-three", "/nothing").body == {}
    assert invoke(stack, "old-three", "/nothing").status == 204
    assert invoke(stack, "old-three", "/plain").body == {"content": "plain text"}
    assert invoke(stack, "old-three", "/teapot").status == 418
    assert invoke(stack, "old-three", "/large").status == 502
    assert invoke(stack, "old-three", "/slow").status == 504
    with pytest.raises(Retry):
        invoke(stack, "fresh", "/dags")


def test_rest_calls_are_limited_per_environment(stack: GatewayStack) -> None:
    statuses = [invoke(stack, "pair", "/dags").status for _ in range(30)]
    assert statuses[:10] == [200] * 10
    assert 429 in statuses
    assert invoke(stack, "two", "/dags").status == 200


def raw(
    stack: GatewayStack,
    name: str,
    method: str,
    path: str,
    headers: dict[str, str] | list[tuple[str, str]],
    then: bytes = b"",
) -> bytes:
    """Send exactly these bytes: clients would tidy paths and headers up."""
    host, _, port = stack.host(name).partition(":")
    pairs = list(headers.items()) if isinstance(headers, dict) else headers
    lines = [f"{method} {path} HTTP/1.1", f"Host: {stack.host(name)}", "Content-Length: 0"]
    if not any(key == "Connection" for key, _ in pairs):
        lines.append("Connection: close")
    lines += [f"{key}: {value}" for key, value in pairs]
    context = ssl.create_default_context(cafile=root_certificate(stack.settings))
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
    ):
        tls.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += tls.recv(65536)
        if then:
            tls.sendall(then)
        if status_of(answer) == 101 or "Connection: close" in lines:
            while chunk := tls.recv(65536):
                answer += chunk
        return answer


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])
