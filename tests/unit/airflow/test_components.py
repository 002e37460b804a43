"""Manifests, compared whole with what was reviewed once.

After a wanted change: `OPENMWAA_WRITE_SNAPSHOTS=1 pytest tests/unit/airflow`, then read the diff.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from openmwaa.airflow.components import Surroundings, build_manifest
from openmwaa.airflow.known_options import known_options
from openmwaa.airflow.preload import options_read_by_imports
from openmwaa.airflow.secrets import (
    DATABASE_PASSWORD,
    TASK_TOKEN_SECRET,
    WEB_SECRET_KEY_2,
    WEB_SECRET_KEY_3,
    database_variables,
    new_secrets,
)
from openmwaa.airflow.versions import VERSIONS, airflow_version
from openmwaa.environments.manifest import Component, Kind, Manifest, Placement
from openmwaa.environments.spec import EnvironmentSpec, LogSetting, default_logging
from openmwaa.kit.secret import Secret
from tests.support.specs import a_spec
from tests.unit.airflow.test_options import PLACEMENT

SNAPSHOTS = Path(__file__).parent / "manifests"
NAMES = sorted({*new_secrets(), *database_variables(Secret("postgresql://x")), "AWS_SECRET_ACCESS_KEY"})


def manifest_of(spec: EnvironmentSpec, placement: Placement = PLACEMENT) -> Manifest:
    return build_manifest(
        spec,
        environment_id="abcdefghijkl",
        ordinal=1,
        runtime=f"{spec.airflow_version}-0123456789ab",
        placement=placement,
        secrets={name: f"sealed {name}" for name in NAMES},
        surroundings=Surroundings(
            web_url="https://127.34.46.1:8750",
            gateway_public_key="-----BEGIN PUBLIC KEY-----\n…\n-----END PUBLIC KEY-----\n",
            s3_endpoint_url="http://127.0.0.1:8752",
            region="us-east-1",
            account_id="000000000000",
        ),
    )


def component(manifest: Manifest, kind: Kind) -> Component:
    return next(one for one in manifest.components if one.kind is kind)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_manifest_is_the_reviewed_one(version: str) -> None:
    made = manifest_of(
        a_spec(airflow_version=version, environment_class="mw1.small", schedulers=2, min_webservers=2)
    )
    text = json.dumps(made.to_json(), indent=2, sort_keys=True, default=str) + "\n"
    snapshot = SNAPSHOTS / f"{version}.json"
    if os.environ.get("OPENMWAA_WRITE_SNAPSHOTS"):
        snapshot.write_text(text)
    assert text == snapshot.read_text()


@pytest.mark.parametrize("version", VERSIONS)
def test_it_survives_json(version: str) -> None:
    made = manifest_of(a_spec(airflow_version=version))
    assert Manifest.from_json(json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize("version", VERSIONS)
def test_each_component_gets_only_its_secrets(version: str) -> None:
    made = manifest_of(a_spec(airflow_version=version))
    assert DATABASE_PASSWORD not in made.secrets
    assert not {WEB_SECRET_KEY_2, WEB_SECRET_KEY_3, TASK_TOKEN_SECRET} & made.secrets.keys()
    for kind in (Kind.WORKER, Kind.TRIGGERER, Kind.DAG_PROCESSOR):
        assert component(made, kind).secrets == {}
    web = component(made, Kind.WEBSERVER).secrets.keys()
    scheduler = component(made, Kind.SCHEDULER).secrets.keys()
    if version.startswith("2."):
        assert (set(web), set(scheduler)) == ({WEB_SECRET_KEY_2}, set())
    else:
        assert (set(web), set(scheduler)) == ({WEB_SECRET_KEY_3, TASK_TOKEN_SECRET}, {TASK_TOKEN_SECRET})


def test_no_component_is_told_to_skip_byte_code() -> None:
    made = manifest_of(a_spec())
    assert "PYTHONDONTWRITEBYTECODE" not in made.variables


def test_log_levels_follow_the_logging_configuration() -> None:
    logging = {
        **default_logging(),
        "WorkerLogs": LogSetting(enabled=True, level="ERROR"),
        "TaskLogs": LogSetting(enabled=True, level="DEBUG"),
    }
    made = manifest_of(a_spec(logging=logging))
    worker = component(made, Kind.WORKER).variables
    assert worker["AIRFLOW__LOGGING__LOGGING_LEVEL"] == "DEBUG"
    assert worker["AIRFLOW__LOGGING__CELERY_LOGGING_LEVEL"] == "ERROR"
    assert component(made, Kind.SCHEDULER).variables["AIRFLOW__LOGGING__LOGGING_LEVEL"] == "WARNING"


def test_a_level_chosen_as_an_option_wins() -> None:
    made = manifest_of(a_spec(airflow_configuration_options={"logging.logging_level": "DEBUG"}))
    assert made.variables["AIRFLOW__LOGGING__LOGGING_LEVEL"] == "DEBUG"
    assert "AIRFLOW__LOGGING__LOGGING_LEVEL" not in component(made, Kind.SCHEDULER).variables


@pytest.mark.parametrize(
    ("version", "name"),
    [("2.11.2", "AIRFLOW__TRIGGERER__DEFAULT_CAPACITY"), ("3.3.1", "AIRFLOW__TRIGGERER__CAPACITY")],
)
def test_the_triggerers_capacity_is_that_of_all_schedulers(version: str, name: str) -> None:
    """MWAA has one beside each scheduler; a value of the user's own wins."""
    spec = a_spec(airflow_version=version, environment_class="mw1.xlarge", schedulers=2)
    own = airflow_version(version).option("triggerer.capacity")
    found = {one.kind: one for one in manifest_of(spec).components}
    assert found[Kind.TRIGGERER].variables[name] == "1000"
    chosen = manifest_of(dataclasses.replace(spec, airflow_configuration_options={own: "7"}))
    assert all(name not in one.variables for one in chosen.components)


def test_the_triggerer_can_be_switched_off() -> None:
    made = manifest_of(a_spec(airflow_configuration_options={"mwaa.triggerer_enabled": "False"}))
    assert Kind.TRIGGERER not in {one.kind for one in made.components}


def test_scaling_replaces_nothing_and_an_option_replaces_everything() -> None:
    spec = a_spec(environment_class="mw1.small", max_workers=3)
    before = manifest_of(spec)
    more = manifest_of(dataclasses.replace(spec, min_workers=3))
    other = manifest_of(dataclasses.replace(spec, airflow_configuration_options={"core.parallelism": "3"}))
    for kind in Kind:
        hash_before = before.component_hash(component(before, kind))
        assert more.component_hash(component(more, kind)) == hash_before
        assert other.component_hash(component(other, kind)) != hash_before


@pytest.mark.parametrize(
    ("path", "prefix"), [("dags", "dags/"), ("dags/", "dags/"), ("/a/b/", "a/b/"), ("/", "")]
)
def test_the_dag_path_becomes_a_prefix(path: str, prefix: str) -> None:
    assert manifest_of(a_spec(dag_s3_path=path)).dags.prefix == prefix


def test_only_a_shared_broker_needs_a_key_prefix() -> None:
    assert "OPENMWAA_BROKER_KEY_PREFIX" not in manifest_of(a_spec()).variables
    shared = dataclasses.replace(PLACEMENT, broker_url="redis://broker:6379/0")
    assert manifest_of(a_spec(), shared).variables["OPENMWAA_BROKER_KEY_PREFIX"] == "abcdefghijkl:"


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_preloaded_belongs_to_no_environment(version: str) -> None:
    """Users' options, names, addresses and secrets change nothing in it; neither does a layer."""
    one = manifest_of(a_spec(airflow_version=version)).preload
    options = {"core.hide_sensitive_var_conn_fields": "False", "celery.worker_autoscale": "3,1"}
    other = manifest_of(
        a_spec("other", airflow_version=version, airflow_configuration_options=options),
        dataclasses.replace(PLACEMENT, address="127.9.9.9", runtime_path=Path("/srv/layers/x/venv")),
    ).preload
    assert one is not None
    assert one == other
    text = json.dumps(dataclasses.asdict(one))
    assert "sealed" not in text
    assert "127.9.9.9" not in text


@pytest.mark.parametrize("version", VERSIONS)
def test_options_that_imports_keep_make_another_preloaded_process(version: str) -> None:
    """Only harmless ones: it imports as root, so no user may name code or files for it."""

    def preloaded(**options: str) -> Mapping[str, str]:
        named = {name.replace("__", "."): value for name, value in options.items()}
        spec = a_spec(airflow_version=version, airflow_configuration_options=named)
        preload = manifest_of(spec).preload
        assert preload is not None
        return preload.variables

    plain, retrying = preloaded(), preloaded(core__default_task_retries="3")
    assert dict(retrying.items() - plain.items()) == {"AIRFLOW__CORE__DEFAULT_TASK_RETRIES": "3"}
    for naming_code in ("core__xcom_backend", "core__asset_manager_kwargs", "core__unit_test_mode"):
        assert preloaded(**{naming_code: "1"}) == plain


def test_options_that_may_differ_name_no_code() -> None:
    for version in VERSIONS:
        known = known_options(version).options
        for option in options_read_by_imports(version):
            value = known[option].default or ""
            assert "/" not in value, option
            assert not re.search(r"[a-z]\.[a-z]", value), option
