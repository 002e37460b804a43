"""Which variables of a start-up script count."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openmwaa.airflow.startup_rules import RULES_VARIABLE, startup_rules
from openmwaa.airflow.versions import VERSIONS, airflow_version
from openmwaa.environments.manifest import Kind
from openmwaa.environments.spec import S3File
from openmwaa_airflow import startup, startup_variables
from openmwaa_airflow.startup_variables import Rules, merged
from tests.support.specs import a_spec
from tests.support.startup import ScriptedComponent
from tests.unit.airflow.test_components import component as of_kind
from tests.unit.airflow.test_components import manifest_of

SCRIPT = S3File("startup.sh", "v1")
OPTIONS = {"core.parallelism": "7", "core.executor": "LocalExecutor", "mine.colour": "blue"}


def rules(version: str = "3.3.1", **options: str) -> Rules:
    chosen = {key.replace("__", "."): value for key, value in options.items()}
    spec = a_spec(airflow_version=version, startup_script=SCRIPT, airflow_configuration_options=chosen)
    return Rules.of(startup_rules(spec, airflow_version(version)))


def variables(contents: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, str]]:
    """Names that mean nothing to bash."""
    names = st.text(string.ascii_letters + string.digits + "_", max_size=8).map(lambda name: f"T_{name}")
    return st.dictionaries(names, contents, max_size=6)


TEXT = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0") | st.sampled_from("'\"\\\n=$`! "),
    max_size=60,
)
BYTES = (
    st.binary(max_size=20)
    .filter(lambda content: b"\0" not in content)
    .map(lambda content: content.decode("utf-8", "surrogateescape"))
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(inherited=variables(TEXT), exported=variables(TEXT | BYTES))
def test_variables_survive_the_script_byte_by_byte(
    tmp_path: Path, inherited: dict[str, str], exported: dict[str, str]
) -> None:
    script = tmp_path / "startup.sh"
    lines = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in exported.items())
    script.write_bytes(lines.encode("utf-8", "surrogateescape"))
    before = {"AIRFLOW_HOME": str(tmp_path), "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", **inherited}
    after = startup.run("worker-0", before | {startup.SCRIPT_VARIABLE: str(script)})
    assert after == before | exported


def test_both_sides_mean_the_same_variable() -> None:
    assert RULES_VARIABLE == startup_variables.RULES_VARIABLE


def test_without_a_script_no_rules_are_handed_over() -> None:
    assert startup_rules(a_spec(), airflow_version("3.3.1")) == {}
    assert RULES_VARIABLE not in manifest_of(a_spec()).variables


@pytest.mark.parametrize("version", VERSIONS)
def test_every_essential_setting_and_secret_of_a_manifest_is_reserved(version: str) -> None:
    spec = a_spec(airflow_version=version, startup_script=SCRIPT, airflow_configuration_options=OPTIONS)
    manifest = manifest_of(spec)
    known = Rules.of(manifest.variables)
    assert json.loads(manifest.variables[RULES_VARIABLE])["options"] == [
        "AIRFLOW__CORE__PARALLELISM",
        "AIRFLOW__MINE__COLOUR",
    ]
    secret = {*manifest.secrets, *(name for one in manifest.components for name in one.secrets)}
    assert {name for name in secret if not known.refusal(name)} == {"AWS_SECRET_ACCESS_KEY"}
    without = manifest_of(dataclasses.replace(spec, airflow_configuration_options={}))
    free = {name for name in without.variables if name.startswith("AIRFLOW") and not known.refusal(name)}
    assert not {name for name in free if re.search(r"EXECUTOR|BROKER|AUTH|JWT|METRICS|HOME|BASE_URL", name)}
    assert "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT" in free


@pytest.mark.parametrize(
    "name",
    [
        *(
            "MWAA__CORE__ANYTHING",
            "AIRFLOW_HOME",
            "PYTHONPATH",
            "PYTHONUNBUFFERED",
            "AWS_REGION",
            "AIRFLOW_ENV_ID",
        ),
        *("AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__CORE__FERNET_KEY_CMD", "AIRFLOW__CORE__FERNET_KEY_SECRET"),
        *("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_SECRET", "AIRFLOW__CELERY__BROKER_URL_CMD"),
        *("AIRFLOW__METRICS__STATSD_ON", "AIRFLOW__METRICS__ANYTHING", "AIRFLOW__CELERY__WORKER_AUTOSCALE"),
        *("AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__REGION", "AIRFLOW__CORE__PARALLELISM"),
        *("AIRFLOW_CONN_AWS_DEFAULT", "OPENMWAA_AUDIENCE", "OPENMWAA_PROCESS", "SPT_NOENV", "PYTHONHOME"),
    ],
)
def test_reserved_names(name: str) -> None:
    for version in VERSIONS:
        assert rules(version).refusal(name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "PATH",
            "LD_LIBRARY_PATH",
            "HOME",
            "TZ",
            "PIP_INDEX_URL",
            "AWS_ACCESS_KEY_ID",
            "JAVA_HOME",
            "CLASSPATH",
        ),
        *(
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT",
            "AIRFLOW__MINE__COLOUR",
            "AIRFLOW_CONN_MINE",
            "MWAA_MINE",
        ),
        *("AIRFLOW__CORE__EXECUTE_TASKS_NEW_PYTHON_INTERPRETER", "AIRFLOW__SECRETS__BACKEND"),
    ],
)
def test_names_that_a_script_may_set(name: str) -> None:
    assert not rules().refusal(name)


def test_precedence() -> None:
    known = rules(core__parallelism="7", mine__colour="blue")
    before = {
        "AIRFLOW__CORE__PARALLELISM": "7",
        "AIRFLOW__MINE__COLOUR": "blue",
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "1800.0",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "PWD": "/home",
    }
    exported = {
        "AIRFLOW__CORE__PARALLELISM": "9",
        "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "PWD": "/tmp",
        "SHLVL": "1",
        "_": "/usr/bin/env",
    }
    after, refused = merged(before, exported, known)
    assert after == {
        "AIRFLOW__CORE__PARALLELISM": "7",
        "AIRFLOW__MINE__COLOUR": "blue",
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
        "PWD": "/home",
    }
    assert refused.keys() == {
        "AIRFLOW__CORE__EXECUTOR",
        "AIRFLOW__CORE__PARALLELISM",
        "AIRFLOW__METRICS__STATSD_ON",
        "AIRFLOW__MINE__COLOUR",
    }
    assert "AirflowConfigurationOptions" in refused["AIRFLOW__MINE__COLOUR"]


def test_what_has_no_effect_is_said_once_per_name(tmp_path: Path) -> None:
    spec = a_spec(startup_script=SCRIPT, airflow_configuration_options=OPTIONS)
    told = startup_rules(spec, airflow_version(spec.airflow_version))
    started = ScriptedComponent(tmp_path).start(
        "export AIRFLOW__CORE__EXECUTOR=secret-value AIRFLOW__MINE__COLOUR=red; unset OPENMWAA_PROCESS PYTHONPATH\n"
        "export AIRFLOW__CORE__LAZY_LOAD_PLUGINS=False\n",
        OPENMWAA_PROCESS="marker",
        AIRFLOW__MINE__COLOUR="blue",
        **told,
    )
    assert started.environment["AIRFLOW__CORE__LAZY_LOAD_PLUGINS"] == "False"
    assert started.environment["AIRFLOW__MINE__COLOUR"] == "blue"
    assert started.environment["OPENMWAA_PROCESS"] == "marker"
    assert "AIRFLOW__CORE__EXECUTOR" not in started.environment
    ignored = [line for line in started.log.splitlines() if line.startswith("Ignored: ")]
    for name in ("AIRFLOW__CORE__EXECUTOR", "AIRFLOW__MINE__COLOUR", "OPENMWAA_PROCESS", "PYTHONPATH"):
        assert len([line for line in ignored if f" {name}," in line]) == 1
    assert len(ignored) == 4
    assert "secret-value" not in started.log


@pytest.mark.parametrize(
    ("size", "kinds"),
    [
        ("mw1.micro", {Kind.WEBSERVER: "webserver", Kind.WORKER: "hybrid", Kind.SCHEDULER: "hybrid"}),
        ("mw1.small", {Kind.WEBSERVER: "webserver", Kind.WORKER: "worker", Kind.TRIGGERER: "scheduler"}),
    ],
)
def test_components_know_what_mwaa_calls_them(size: str, kinds: dict[Kind, str]) -> None:
    manifest = manifest_of(a_spec(environment_class=size))
    for kind, name in kinds.items():
        variables = of_kind(manifest, kind).variables
        assert (variables["MWAA_AIRFLOW_COMPONENT"], variables["MWAA_COMMAND"]) == (name, name)


def test_a_component_with_a_script_may_take_longer_to_start() -> None:
    plain = of_kind(manifest_of(a_spec()), Kind.WORKER).start_timeout_s
    scripted = of_kind(manifest_of(a_spec(startup_script=SCRIPT)), Kind.WORKER).start_timeout_s
    assert scripted - plain >= startup.LIMIT_S
