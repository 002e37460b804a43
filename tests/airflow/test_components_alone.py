"""Each version's manifest brings up a real Airflow that does what we promise of it.

Nothing of the service takes part but the manifest and the code inside Airflow; see
`bare.py`. This is also the gate of a lock file: a set of packages that installs may still
fail (airflow.md 9), so a task runs on a worker and the API must have its routes.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from openmwaa.airflow.secrets import METADATA_URL, TASK_TOKEN_SECRET
from openmwaa.airflow.versions import VERSIONS
from openmwaa.artifacts.runtimes import RuntimeStore
from openmwaa.environments.manifest import Kind
from openmwaa.kit.secret import Secret
from tests.airflow import bare
from tests.support.dags import HELLO, SLOW, numbered
from tests.support.eventually import eventually
from tests.support.specs import a_spec

pytestmark = [pytest.mark.timeout(900), pytest.mark.thorough]


@pytest.fixture(scope="module", params=VERSIONS)
def environment(
    request: pytest.FixtureRequest, runtimes: RuntimeStore, database: Secret
) -> Iterator[bare.Environment]:
    """A running environment of each version in turn; all components were started at once."""
    version = request.param
    runtime = asyncio.run(runtimes.ensure(version))
    with bare.environment(
        version,
        runtime,
        database,
        spec=a_spec(airflow_version=version),
        address=f"127.90.61.{1 + list(VERSIONS).index(version)}",
        dags={"hello.py": HELLO, "slow.py": SLOW},
    ) as running:
        running.migrate()
        running.start_all()
        yield running


def trigger(environment: bare.Environment, dag_id: str) -> str:
    body = {} if environment.version.startswith("2.") else {"logical_date": None}
    answer = environment.call("POST", f"/dags/{dag_id}/dagRuns", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["dag_run_id"])


def task(environment: bare.Environment, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
    answer = environment.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}")
    found: dict[str, Any] = answer.json()
    return found


def state_at_end(environment: bare.Environment, dag_id: str, run_id: str, *, within_s: float) -> str:
    def ended() -> str | None:
        state = environment.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}").json()["state"]
        return state if state in {"success", "failed"} else None

    return eventually(
        ended, within_s=within_s, every_s=0.5, errors=(httpx.HTTPError,), what=f"{run_id} ended"
    )


def log(environment: bare.Environment, dag_id: str, run_id: str, task_id: str) -> str:
    path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/1"
    return environment.call("GET", path, params={"full_content": True}).text


def test_airflow_reports_itself_healthy(environment: bare.Environment) -> None:
    """Every part is healthy through the web server; the probes had agreed before."""
    report = environment.health()
    assert report.healthy, report.evidence
    assert set(report.parts) == {"webserver", "metadatabase", "scheduler", "triggerer", "dag_processor"}


def test_the_api_has_its_routes(environment: bare.Environment) -> None:
    """A wrong pair of web libraries still starts, with a tenth of the routes."""
    path = "/api/v1/openapi.json" if environment.version.startswith("2.") else "/openapi.json"
    answer = httpx.get(environment.base_url + path, headers=environment.headers(), timeout=60)
    assert answer.status_code == 200
    assert len(answer.json()["paths"]) > 60


def test_migrating_again_changes_nothing(environment: bare.Environment) -> None:
    """The migration can be repeated while everything runs."""
    environment.migrate()
    assert environment.health().healthy


@pytest.mark.parametrize(
    ("role", "may_list", "may_run", "may_write_variables"),
    [
        ("Admin", True, True, True),
        ("Op", True, True, True),
        ("User", True, True, False),
        ("Viewer", True, False, False),
        ("Public", False, False, False),
        ("Unknown", False, False, False),
    ],
)
def test_a_role_gives_airflows_rights(
    environment: bare.Environment, role: str, may_list: bool, may_run: bool, may_write_variables: bool
) -> None:
    """The role in the identity decides, without any row made beforehand."""
    token = environment.identity(f"user/{role}", role)
    body = {} if environment.version.startswith("2.") else {"logical_date": None}
    variable = {"key": f"of-{role}", "value": "x"}
    answers = (
        environment.call("GET", "/dags", token=token),
        environment.call("POST", "/dags/hello/dagRuns", token=token, json=body),
        environment.call("POST", "/variables", token=token, json=variable),
    )
    allowed = tuple(answer.status_code in {200, 201} for answer in answers)
    assert allowed == (may_list, may_run, may_write_variables), [answer.status_code for answer in answers]
    assert all(answer.is_success or answer.status_code == 403 for answer in answers)


def test_nothing_but_the_gateways_identity_is_accepted(environment: bare.Environment) -> None:
    """Wrong audience, key, algorithm or time, no token: no answer. Airflow's own secret opens nothing."""
    now = int(time.time())
    claims = jwt.decode(environment.identity(), options={"verify_signature": False})
    secret = environment.secrets[TASK_TOKEN_SECRET].reveal()
    own, environment.key = environment.key, Ed25519PrivateKey.generate()
    by_another_key = environment.identity()
    environment.key = own
    refused = {
        "wrong audience": environment.identity(aud="openmwaa:another"),
        "session audience": environment.identity(aud=f"{claims['aud']}:session"),
        "no audience": environment.identity(aud=None),
        "expired": environment.identity(iat=now - 90, nbf=now - 90, exp=now - 30),
        "no end": environment.identity(exp=None),
        "not yet": environment.identity(nbf=now + 300),
        "no roles": environment.identity(roles=None),
        "another key": by_another_key,
        "HS256 by Airflow's secret": jwt.encode(claims, secret, algorithm="HS256"),
        "Airflow's own token": jwt.encode(
            claims | {"sub": "1", "aud": "apache-airflow"}, secret, algorithm="HS512"
        ),
        "unsigned": jwt.encode(claims, None, algorithm="none"),
        "nonsense": "nonsense",
    }
    for reason, token in refused.items():
        assert environment.call("GET", "/dags", token=token).status_code in {401, 403}, reason
    assert httpx.get(f"{environment.api}/dags").status_code in {401, 403}
    assert environment.call("GET", "/dags").status_code == 200


def test_parallel_first_requests_of_a_new_user_all_succeed(environment: bare.Environment) -> None:
    """The user's row is made once, whoever is first."""

    def write(number: int) -> int:
        token = environment.identity("assumed-role/newcomer", "Admin")
        body = {"key": f"parallel-{number}", "value": "x"}
        return environment.call("POST", "/variables", token=token, json=body).status_code

    with ThreadPoolExecutor(8) as pool:
        answers = Counter(pool.map(write, range(16)))
    assert set(answers) <= {200, 201}, answers


def test_custom_roles_are_kept_for_public_and_replaced_otherwise(environment: bare.Environment) -> None:
    """Who comes as Public keeps what an administrator gave; a standard role replaces it (mwaa.md 8.5)."""
    name = "assumed-role/analyst"
    assert environment.call("GET", "/dags", token=environment.identity(name, "Public")).status_code == 403
    url = environment.secrets[METADATA_URL].reveal().replace("+psycopg2", "")
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO ab_role (id, name) VALUES (nextval('ab_role_id_seq'), 'Analysts')")
        connection.execute(
            "INSERT INTO ab_permission_view_role (id, permission_view_id, role_id)"
            " SELECT nextval('ab_permission_view_role_id_seq'), p.permission_view_id, n.id"
            " FROM ab_permission_view_role p JOIN ab_role o ON o.id = p.role_id AND o.name = 'Viewer',"
            " ab_role n WHERE n.name = 'Analysts'"
        )
        connection.execute(
            "INSERT INTO ab_user_role (id, user_id, role_id)"
            " SELECT nextval('ab_user_role_id_seq'), u.id, r.id FROM ab_user u, ab_role r"
            " WHERE u.username = %s AND r.name = 'Analysts'",
            (name,),
        )

    def allowed(role: str) -> bool:
        return environment.call("GET", "/dags", token=environment.identity(name, role)).status_code == 200

    eventually(lambda: allowed("Public"), within_s=10, what="custom role in force")
    assert allowed("Viewer")
    assert _roles(url, name) == {"Viewer"}
    eventually(lambda: not allowed("Public"), within_s=10, what="custom role replaced")


def _roles(url: str, name: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT r.name FROM ab_user u JOIN ab_user_role ur ON ur.user_id = u.id"
            " JOIN ab_role r ON r.id = ur.role_id WHERE u.username = %s",
            (name,),
        )
        return {row[0] for row in rows}


def test_pages_open_with_an_identity_and_send_others_to_the_gateway(environment: bare.Environment) -> None:
    """Airflow's pages, also users and roles; log-in and log-out lead to the gateway."""
    if environment.version.startswith("2."):
        pages, login, logout = ("/home", "/users/list/", "/roles/list/"), "/login/", "/logout/"
    else:
        pages = ("/", "/ui/config", "/auth/users/list/", "/auth/roles/list/", "/auth/fab/v1/users")
        login, logout = "/api/v2/auth/login", "/api/v2/auth/logout"
    with httpx.Client(base_url=environment.base_url, timeout=30, trust_env=False) as client:
        for page in pages:
            assert client.get(page, headers=environment.headers()).status_code == 200, page
        answer = client.get(login)
        assert answer.headers["location"] == "/aws_mwaa/aws-console-sso"
        assert client.get(logout, headers=environment.headers()).headers["location"] == "/aws_mwaa/logout"
        anonymous = client.get(pages[-2], headers={})
        assert anonymous.status_code in {302, 401, 403}
        if not environment.version.startswith("2."):
            token = client.post("/auth/token", json={"username": "user/ann", "password": "*"})
            assert token.status_code == 401
            cookies = client.get("/auth/", headers=environment.headers()).headers.get_list("set-cookie")
            assert not any(cookie.startswith("_token=") for cookie in cookies)


def test_a_run_passes_values_between_tasks_and_its_log_can_be_read(environment: bare.Environment) -> None:
    """Two tasks on the worker; the log comes through the API and names the worker's folder."""
    run_id = trigger(environment, "hello")
    assert state_at_end(environment, "hello", run_id, within_s=90) == "success"
    assert "doubled to 40" in log(environment, "hello", run_id, "double")
    assert task(environment, "hello", run_id, "make")["hostname"] == "worker-0"


def test_a_new_file_is_parsed_within_ten_seconds(environment: bare.Environment) -> None:
    """The folder is listed often enough."""
    (environment.placement.dags_folder / "fresh.py").write_text(numbered("fresh"))
    eventually(
        lambda: environment.call("GET", "/dags/fresh").status_code == 200, within_s=10, what="fresh parsed"
    )


def test_a_log_is_readable_while_the_task_runs_and_after_its_worker_is_gone(
    environment: bare.Environment,
) -> None:
    """The UI reads the shared folder; a worker that is killed takes nothing with it."""
    run_id = trigger(environment, "slow")
    eventually(lambda: "second 3" in log(environment, "slow", run_id, "wait"), within_s=90, what="live log")
    environment.kill("worker-0")
    assert task(environment, "slow", run_id, "wait")["state"] == "running"
    assert "second 3" in log(environment, "slow", run_id, "wait")
    environment.start(Kind.WORKER)
    eventually(environment.is_ready, within_s=90, what="worker back")


def test_a_dead_workers_task_is_found_within_a_minute_and_retried(environment: bare.Environment) -> None:
    """One Airflow retry, and the run succeeds."""
    run_id = trigger(environment, "slow")
    eventually(lambda: "second 3" in log(environment, "slow", run_id, "wait"), within_s=90, what="task runs")
    environment.kill("worker-0")
    killed = time.monotonic()
    environment.start(Kind.WORKER)
    eventually(
        lambda: task(environment, "slow", run_id, "wait")["state"] != "running",
        within_s=90,
        what="found dead",
    )
    assert time.monotonic() - killed <= 60
    assert state_at_end(environment, "slow", run_id, within_s=150) == "success"
    assert task(environment, "slow", run_id, "wait")["try_number"] == 2


def test_tasks_outlive_every_other_component(environment: bare.Environment) -> None:
    """Web server, scheduler, DAG processor and triggerer are killed one after the other; the first try succeeds."""
    run_id = trigger(environment, "slow")
    eventually(lambda: "second 3" in log(environment, "slow", run_id, "wait"), within_s=90, what="task runs")
    for kind in (Kind.WEBSERVER, Kind.SCHEDULER, Kind.DAG_PROCESSOR, Kind.TRIGGERER):
        environment.kill(f"{kind}-0")
        environment.start(kind)
        eventually(environment.is_ready, within_s=120, what=f"{kind} back")
    assert state_at_end(environment, "slow", run_id, within_s=150) == "success"
    assert task(environment, "slow", run_id, "wait")["try_number"] == 1
