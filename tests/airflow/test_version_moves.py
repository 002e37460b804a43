"""An environment of the service goes through versions and back, as its user sees it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.moves import MOVES, USERS_ROWS, Statuses, Traveller, settled
from tests.support.service import Service

pytestmark = pytest.mark.timeout(1800)

ROUTES = [
    pytest.param(("2.11.2", "3.3.1"), 5, id="direct"),
    pytest.param(
        ("2.11.2", "3.0.6", "3.3.1", "2.11.2"), 200, id="there-and-back", marks=pytest.mark.thorough
    ),
]


@pytest.fixture
def traveller(request: pytest.FixtureRequest, service: Service) -> Iterator[Traveller]:
    """An environment of the first version of the route."""
    route, runs = request.param
    made = Traveller.start(service, f"moves-{len(route)}", route[0])
    made.populate(runs)
    yield made
    settled(service, made.name)
    service.delete(made.name)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("traveller", "route", "runs"),
    [pytest.param(p.values, *p.values, id=p.id, marks=p.marks) for p in ROUTES],
    indirect=["traveller"],
)
def test_everything_is_there_and_readable_at_each_stop(
    service: Service, traveller: Traveller, route: tuple[str, ...], runs: int
) -> None:
    """History, connections, variables, the custom role and encrypted values; a DAG of both generations runs."""
    traveller.is_readable(runs)
    for version in route[1:]:
        before = traveller.counts()
        assert before["dag_run"] > runs
        with Statuses(service, traveller.name) as statuses:
            service.client("mwaa").update_environment(Name=traveller.name, AirflowVersion=version)
            seen = settled(service, traveller.name)
        assert seen["Status"] == "AVAILABLE", seen["LastUpdate"]
        assert seen["AirflowVersion"] == version
        assert seen["LastUpdate"]["Status"] == "SUCCESS"
        statuses.were_only(*MOVES)
        assert "CREATING_SNAPSHOT" in statuses.seen
        assert traveller.counts(USERS_ROWS) == {table: before[table] for table in USERS_ROWS}
        traveller.is_readable(runs)
        traveller.works()
        traveller.is_tidy()
