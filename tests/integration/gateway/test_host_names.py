"""Environments at host names below a domain, through the real proxy."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.support.gateway_stack import GatewayStack, gateway_stack


@pytest.fixture(scope="module")
def stack() -> Iterator[GatewayStack]:
    environments = dict.fromkeys(("alpha", "Alpha", "under_score", "api"), ("3.3.1", True, 1))
    with gateway_stack(25400, environments, domain="mwaa.test") as running:
        yield running


def request(stack: GatewayStack, host: str, method: str, path: str, **more: object) -> httpx.Response:
    """Connect to where the name would resolve to."""
    name = host.partition(":")[0]
    headers = {"Host": host, **more.pop("headers", {})}  # type: ignore[dict-item]
    url = f"https://127.0.0.1:{stack.settings.ports.https}{path}"
    with stack.client() as client:
        return client.request(
            method,
            url,
            headers=headers,
            extensions={"sni_hostname": name},
            **more,
        )


@pytest.mark.parametrize("name", ["alpha", "Alpha", "under_score", "api"])
def test_each_environment_has_its_own_host_name(stack: GatewayStack, name: str) -> None:
    host = stack.host(name)
    login = request(stack, host, "POST", "/pluginsv2/aws_mwaa/login", data={"token": stack.web_token(name)})
    assert login.status_code == 200
    session = {"Authorization": f"Bearer {login.cookies['_token']}"}
    assert request(stack, host, "GET", "/api/v2/dags", headers=session).json()["path"] == "/api/v2/dags"
    assert len(stack.seen(name)) == 1
    for other in {"alpha", "Alpha", "under_score", "api"} - {name}:
        assert request(stack, stack.host(other), "GET", "/api/v2/dags", headers=session).status_code == 401
    assert request(stack, host, "GET", "/api/v2/dags").status_code == 401


def test_other_names_are_nobody_s(stack: GatewayStack) -> None:
    assert request(stack, f"nobody.mwaa.test:{stack.settings.ports.https}", "GET", "/").status_code == 404
