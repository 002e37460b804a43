"""What the application answers when something behind it is away, and what it shares with other parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from openmwaa.airflow.components import LOGIN_PATH, LOGOUT_PATH
from openmwaa.airflow.components import audience as manifest_audience
from openmwaa.backends.base import CommandResult
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.gateway import EnvironmentDirectory, GatewayContext, GatewayKey, Tokens, create_gateway
from openmwaa.gateway.bodies import LARGEST_BODY
from openmwaa.gateway.paths import SIGN_IN_PAGE, SIGN_OUT_PAGE
from openmwaa.gateway.tokens import TokenKind, audience
from openmwaa.kit.errors import GiveUp, Retry
from openmwaa.settings import Settings
from tests.support.specs import a_record, a_spec

SETTINGS = Settings(home=Path("/nowhere"), port_base=8750)
HOST = "127.34.46.1:8750"
RECORD = a_record(observed_generation=1, good_spec=a_spec())
TOKENS = Tokens(GatewayKey.generate())
ASK = {"X-Forwarded-Method": "GET", "X-Forwarded-Uri": "/api/v2/dags"}


class Rows:
    """One environment, or a store that is away."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    async def get_by_ordinal(self, ordinal: int) -> EnvironmentRecord:
        if self.error:
            raise self.error
        return RECORD

    async def get(self, name: str) -> EnvironmentRecord:
        raise NotImplementedError

    async def get_by_id(self, environment_id: str) -> EnvironmentRecord:
        raise NotImplementedError


def client(
    *, store: Exception | None = None, run: Exception | CommandResult | None = None
) -> httpx.AsyncClient:
    async def run_airflow(
        record: EnvironmentRecord, arguments: Sequence[str], timeout_s: float
    ) -> CommandResult:
        if isinstance(run, Exception):
            raise run
        assert run is not None
        return run

    async def upstreams(record: EnvironmentRecord) -> Sequence[str]:
        return ["127.0.0.1:1"]

    app = create_gateway(
        GatewayContext(
            settings=SETTINGS,
            directory=EnvironmentDirectory(SETTINGS, Rows(store)),
            tokens=TOKENS,
            upstreams=upstreams,
            run_airflow=run_airflow,
        )
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=f"https://{HOST}")


def bearer(kind: TokenKind) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS.mint(kind, RECORD.id, subject='user/alice', roles=['Op'])}"}


def test_the_parts_agree() -> None:
    assert (LOGIN_PATH, LOGOUT_PATH) == (SIGN_IN_PAGE, SIGN_OUT_PAGE)
    assert manifest_audience(RECORD.id) == audience(TokenKind.IDENTITY, RECORD.id)


@pytest.mark.parametrize("path", ["/route", "/aws_mwaa/aws-console-sso"])
async def test_a_store_that_is_away_is_503(path: str) -> None:
    async with client(store=Retry("the store cannot be reached")) as http:
        answer = await http.get(path, headers=ASK)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]


async def test_a_bug_is_500_and_says_nothing_of_itself() -> None:
    async with client(store=RuntimeError("password=secret")) as http:
        answer = await http.get("/route", headers=ASK)
    assert answer.status_code == 500
    assert "secret" not in answer.text


async def test_only_a_permitted_request_is_answered_2xx() -> None:
    """The proxy lets pass whatever is answered 2xx at /route, so nothing else may be."""
    paths = ["/", "/logout", "/login/", "/aws_mwaa/login", "/route", "/a/../b", "/auth/token", "/health"]
    async with client() as http:
        for path in paths:
            for method in ("GET", "POST", "OPTIONS"):
                headers = {"X-Forwarded-Method": method, "X-Forwarded-Uri": path, "Accept": "text/html"}
                assert (await http.get("/route", headers=headers)).status_code >= 300
        good = await http.get("/route", headers=ASK | bearer(TokenKind.SESSION))
        assert good.status_code == 200
        assert good.headers["x-openmwaa-upstream"] == "127.0.0.1:1"
        assert (await http.get("/route", headers=bearer(TokenKind.SESSION))).status_code == 400


async def test_commands_that_cannot_run() -> None:
    async with client(run=Retry("the node agent is away")) as http:
        answer = await http.post("/aws_mwaa/cli", content="version", headers=bearer(TokenKind.CLI))
        assert answer.status_code == 503
    async with client(run=GiveUp("The runtime is missing.")) as http:
        answer = await http.post("/aws_mwaa/cli", content="version", headers=bearer(TokenKind.CLI))
        assert (answer.status_code, set(answer.json())) == (400, {"stdout", "stderr"})
    async with client(run=CommandResult(124, b"", b"")) as http:
        answer = await http.post("/aws_mwaa/cli", content="version", headers=bearer(TokenKind.CLI))
        assert answer.status_code == 200
        assert answer.json()["stderr"]
    async with client(run=CommandResult(1, b"\xff\x00", b"")) as http:
        answer = await http.post("/aws_mwaa/cli", content="version", headers=bearer(TokenKind.CLI))
        assert (answer.status_code, answer.json()["stdout"]) == (200, "/wA=")


@pytest.mark.parametrize("length", [LARGEST_BODY + 1, 20 * 1024 * 1024])
async def test_large_bodies_are_refused(length: int) -> None:
    async with client() as http:
        answer = await http.post("/aws_mwaa/cli", content=b"x" * length, headers=bearer(TokenKind.CLI))
        assert answer.status_code == 413
