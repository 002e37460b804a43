"""What a change would do, from the manifests that really would run."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from openmwaa.airflow.components import Surroundings, build_manifest
from openmwaa.environments.changes import Action, plan_change, to_json, with_strategy
from openmwaa.environments.manifest import Kind, Manifest, Placement
from openmwaa.environments.spec import EnvironmentSpec, LogSetting
from tests.support.specs import a_spec

PLACEMENT = Placement(
    IPv4Address("127.0.0.5"),
    Path("/home"),
    Path("/dags"),
    "redis+socket:///b",
    Path("/runtime"),
    Path("/plug-in"),
    Path("/plugins"),
    Path("/startup/startup.sh"),
)
SURROUNDINGS = Surroundings("https://127.0.0.5", "PEM", "http://127.0.0.1:1", "us-east-1", "000000000000")
SMALL = a_spec(environment_class="mw1.small", schedulers=2, min_webservers=2, max_webservers=2, max_workers=5)
ALL = (Kind.SCHEDULER, Kind.DAG_PROCESSOR, Kind.TRIGGERER, Kind.WEBSERVER, Kind.WORKER)


def build(spec: EnvironmentSpec) -> Manifest:
    return build_manifest(
        spec,
        environment_id="abcdefghijkl",
        ordinal=1,
        runtime=f"{spec.airflow_version}-x",
        placement=PLACEMENT,
        secrets={},
        surroundings=SURROUNDINGS,
    )


def effects(**changes: Any) -> dict[Kind, tuple[Action, int, int]]:
    plan = plan_change(SMALL, dataclasses.replace(SMALL, **changes), build)
    return {effect.kind: (effect.action, effect.before, effect.after) for effect in plan.effects}


def test_more_workers_touch_nothing_that_runs() -> None:
    """Counts are not part of what a replica is replaced for."""
    assert effects(min_workers=3) == {Kind.WORKER: (Action.ADD, 1, 3)}


def test_more_schedulers_replace_only_the_triggerer() -> None:
    """Its capacity grows with their number (mwaa.md 3); no running task is touched."""
    assert effects(schedulers=3) == {
        Kind.SCHEDULER: (Action.ADD, 2, 3),
        Kind.TRIGGERER: (Action.REPLACE, 1, 1),
    }


def test_fewer_web_servers_stop_only_some() -> None:
    """The others go on."""
    before = dataclasses.replace(SMALL, min_webservers=3, max_webservers=3)
    plan = plan_change(before, SMALL, build)
    assert [(one.kind, one.action, one.before, one.after) for one in plan.effects] == [
        (Kind.WEBSERVER, Action.REMOVE, 3, 2)
    ]
    assert not plan.stops_workers


@pytest.mark.parametrize("changes", [{"max_workers": 9}, {"weekly_maintenance_window_start": "MON:01:00"}])
def test_what_concerns_only_the_service_replaces_nothing(changes: dict[str, Any]) -> None:
    """The field is listed, without an effect."""
    plan = plan_change(SMALL, dataclasses.replace(SMALL, **changes), build)
    assert [field.field for field in plan.fields] == list(changes)
    assert plan.effects == ()


def test_an_airflow_option_replaces_every_component() -> None:
    """Options reach all of them as variables."""
    replaced = effects(airflow_configuration_options={"core.parallelism": "8"})
    assert {kind: action for kind, (action, _, _) in replaced.items()} == dict.fromkeys(ALL, Action.REPLACE)


def test_an_option_that_the_service_decides_changes_nothing() -> None:
    """It is accepted and overridden, as on MWAA: the plan shows it."""
    assert effects(airflow_configuration_options={"core.executor": "LocalExecutor"}) == {}


def test_a_log_level_replaces_its_component_only() -> None:
    """Scheduler logs are those of scheduler and triggerer."""
    logging = {**SMALL.logging, "SchedulerLogs": LogSetting(enabled=True, level="INFO")}
    assert effects(logging=logging).keys() == {Kind.SCHEDULER, Kind.TRIGGERER}


def test_each_field_has_its_own_effects() -> None:
    """So that a reader sees which of several changes is the expensive one."""
    wanted = dataclasses.replace(
        SMALL, min_workers=2, airflow_configuration_options={"core.parallelism": "8"}
    )
    plan = plan_change(SMALL, wanted, build)
    by_field = {field.field: {effect.kind for effect in field.effects} for field in plan.fields}
    assert by_field == {"min_workers": {Kind.WORKER}, "airflow_configuration_options": set(ALL)}
    assert plan.stops_workers
    assert to_json(plan)["stops_workers"] is True


def test_without_a_changed_field_everything_is_replaced() -> None:
    """An update call without a field rolls every component."""
    plan = plan_change(SMALL, SMALL, build)
    assert plan.fields == ()
    assert {(effect.kind, effect.action) for effect in plan.effects} == {
        (kind, Action.REPLACE) for kind in ALL
    }


def test_switching_the_triggerer_off_stops_it() -> None:
    """A component that is not wanted any more is removed."""
    kinds = effects(airflow_configuration_options={"mwaa.triggerer_enabled": "false"})
    assert kinds[Kind.TRIGGERER] == (Action.REMOVE, 1, 0)


@pytest.mark.parametrize(
    ("changes", "series"),
    [
        ({"airflow_configuration_options": {"core.parallelism": "8"}}, 1),
        ({}, 1),
        ({"min_workers": 3}, 0),
        ({"weekly_maintenance_window_start": "MON:01:00"}, 0),
        ({"airflow_version": "3.0.6"}, 0),
    ],
)
def test_workers_that_are_replaced_gracefully_have_successors_of_other_names(
    changes: dict[str, Any], series: int
) -> None:
    """Only where workers are replaced; another version always stops everything (mwaa.md 2.3)."""
    after = dataclasses.replace(SMALL, **changes)
    graceful = with_strategy(SMALL, after, "GRACEFUL", build)
    assert graceful.worker_series == series
    assert with_strategy(SMALL, after, "FORCED", build) == after
    assert [field.field for field in plan_change(SMALL, graceful, build).fields] == list(changes)
    names = {(one.kind, one.first_index) for one in build(graceful).components if one.kind is Kind.WORKER}
    assert names == {(Kind.WORKER, 100 * series)}
