"""Airflow's own ways to sign in are closed, whatever their spelling; everything else passes."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmwaa.environments.errors import InvalidRequestError
from openmwaa.gateway.paths import PathRule, classify, is_api
from openmwaa.gateway.rest_paths import to_rest_path

CLOSED = {
    PathRule.SIGN_IN: [
        "/login",
        "/login/",
        "/login/github",
        "/auth/login",
        "/auth/login/",
        "/api/v2/auth/login",
    ],
    PathRule.SIGN_OUT: ["/logout", "/logout/", "/auth/logout", "/auth/logout/", "/api/v2/auth/logout"],
    PathRule.REFUSE: [
        "/auth/token",
        "/auth/token/",
        "/auth/token/cli",
        "/auth/token/login",
        "/ui/auth/token",
        "/api/v2/auth/refresh",
        "/api/v1/security/login",
        "/api/v1/security/refresh",
        "/auth/api/v1/security/login",
        "/oauth-authorized/github",
        "/auth/oauth-authorized/github",
        "/saml/acs/",
        "/register/form",
        "/execution",
        "/execution/task-instances/1/run",
        "/internal_api/v1/rpcapi",
        "/aws_mwaa/login",
        "/pluginsv2/aws_mwaa/cli",
        "/_openmwaa/health",
    ],
}
OPEN = [
    "/",
    "/home",
    "/dags",
    "/dags/etl/runs/manual__2026-01-01T00:00:00+00:00",
    "/dags/etl/runs/manual__2026-01-01T00%3A00%3A00%2B00%3A00",
    "/api/v2/dags",
    "/api/v1/dags/etl/dagRuns",
    "/api/v2/monitor/health",
    "/ui/auth/menus",
    "/ui/auth/me",
    "/ui/config",
    "/auth/users/list/",
    "/auth/fab/v1/roles",
    "/auth/static/appbuilder/css/ab.css",
    "/static/assets/index-1.js",
    "/loginsight",
    "/dags/login",
    "/api/v2/dags/auth/details",
    "/registers",
    "/executions",
    "/tokens/list",
    "/variables/a%20b",
    "/xcom/ünïcode",
]
closed = st.sampled_from([(path, rule) for rule, paths in CLOSED.items() for path in paths])


@pytest.mark.parametrize(("path", "rule"), [(path, rule) for rule, paths in CLOSED.items() for path in paths])
def test_closed(path: str, rule: PathRule) -> None:
    assert classify(path) is rule


@pytest.mark.parametrize("path", OPEN)
def test_open(path: str) -> None:
    assert classify(path) is PathRule.PASS


@given(entry=closed, data=st.data())
def test_no_spelling_opens_a_closed_path(entry: tuple[str, PathRule], data: st.DataObject) -> None:
    """Escapes at one or two levels, doubled and added slashes."""
    path, rule = entry
    spelled = []
    for character in path:
        how = data.draw(st.sampled_from(["as is", "escaped", "escaped twice", "doubled"]))
        if how == "doubled" and character == "/":
            spelled.append("//")
        elif how == "escaped":
            spelled.append(f"%{ord(character):02X}")
        elif how == "escaped twice":
            spelled.append(f"%25{ord(character):02x}")
        else:
            spelled.append(character)
    variant = "/" + "".join(spelled)
    assert classify(variant) is rule, variant


@pytest.mark.parametrize(
    "path",
    [
        "",
        "auth/token",
        "https://elsewhere/",
        "/dags/../auth/token",
        "/dags/%2e%2e/auth/token",
        "/dags/%252e%252e/auth/token",
        "/./auth/token",
        "/a\\b",
        "/a%5cb",
        "/a%00",
        "/a\nb",
        "/a%0d%0aX-Openmwaa-Identity:%20x",
    ],
)
def test_malformed(path: str) -> None:
    assert classify(path) is PathRule.MALFORMED


@given(st.text(max_size=60))
def test_every_path_has_a_rule(text: str) -> None:
    classify(text)
    classify("/" + quote(text))
    is_api("/" + text)


def test_scripts_and_people() -> None:
    assert is_api("/api/v2/dags")
    assert is_api("//ui/config")
    assert is_api("/health")
    assert not is_api("/dags/api")
    assert not is_api("/home")


@pytest.mark.parametrize(
    ("path", "full"),
    [
        ("/dags", "/api/v2/dags"),
        ("/dags/etl/dagRuns/manual__2026-01-01T00:00:00+00:00", None),
        ("/variables/a b", "/api/v2/variables/a%20b"),
        ("/variables/a%20b", "/api/v2/variables/a%20b"),
        ("/variables/ü", "/api/v2/variables/%C3%BC"),
        ("/dags/" + "x" * 200, None),
        ("/dags/~/dagRuns/~/taskInstances", None),
    ],
)
def test_rest_paths(path: str, full: str | None) -> None:
    assert to_rest_path(path, "/api/v2") == (full or "/api/v2" + path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "dags",
        "//dags",
        "//evil.example/x",
        "http://evil.example/",
        "/dags//runs",
        "/dags/%2f/runs",
        "/../auth/token",
        "/dags/../../../auth/token",
        "/dags/%2e%2e/%2e%2e",
        "/dags/%252e%252e/x",
        "/./dags",
        "/auth",
        "/auth/login",
        "/%61uth/login",
        "/execution/x",
        "/ui/config",
        "/security/login",
        "/dags?limit=1",
        "/dags#x",
        "/dags\\x",
        "/dags\r\nHost: evil",
        "/dags%0d%0a",
        "/http://evil.example",
    ],
)
def test_rest_paths_that_are_refused(path: str) -> None:
    with pytest.raises(InvalidRequestError):
        to_rest_path(path, "/api/v2")


@given(st.text(max_size=40))
def test_a_rest_path_stays_below_its_prefix(text: str) -> None:
    try:
        full = to_rest_path("/" + text, "/api/v1")
    except InvalidRequestError:
        return
    assert full.isascii()
    assert full.startswith("/api/v1/")
    assert classify(full) is PathRule.PASS
