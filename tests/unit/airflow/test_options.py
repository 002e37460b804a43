"""Which configuration wins."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from openmwaa.airflow.options import is_protected, malformed, overridden, settings_of, variable
from openmwaa.airflow.versions import VERSIONS, airflow_version
from openmwaa.environments.manifest import Placement
from tests.support.specs import a_spec

PLACEMENT = Placement(
    address=IPv4Address("127.34.46.1"),
    airflow_home=Path("/srv/e/home"),
    dags_folder=Path("/srv/e/dags"),
    broker_url="redis+socket:///srv/e/valkey.sock?virtual_host=0",
    runtime_path=Path("/srv/runtimes/r"),
    plug_in_path=Path("/srv/plug-in/p"),
    plugins_folder=Path("/srv/e/home/plugins"),
    startup_script=Path("/srv/e/home/startup/startup.sh"),
)


def settings(version: str, **options: str) -> dict[str, str]:
    spec = a_spec(
        airflow_version=version,
        airflow_configuration_options={key.replace("__", "."): value for key, value in options.items()},
    )
    return settings_of(spec, airflow_version(version), PLACEMENT, web_url="https://127.34.46.1:8750")


def test_an_option_becomes_a_variable() -> None:
    assert variable("core.parallelism") == "AIRFLOW__CORE__PARALLELISM"
    assert variable("my_section.some_key") == "AIRFLOW__MY_SECTION__SOME_KEY"
    with pytest.raises(ValueError, match="no section"):
        variable("parallelism")


def test_options_without_a_section_are_malformed() -> None:
    assert malformed({"core.x": "1", "parallelism": "2", ".x": "3", "x.": "4"}) == [".x", "parallelism", "x."]


@pytest.mark.parametrize("version", VERSIONS)
def test_an_option_beats_a_default_and_unknown_sections_are_allowed(version: str) -> None:
    chosen = settings(version, core__parallelism="7", mine__colour="blue")
    assert chosen["core.parallelism"] == "7"
    assert chosen["mine.colour"] == "blue"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_protected_setting_beats_an_option(version: str) -> None:
    chosen = settings(
        version,
        core__executor="LocalExecutor",
        core__load_examples="True",
        celery__broker_url="redis://elsewhere",
        metrics__statsd_host="elsewhere",
        core__fernet_key="mine",
    )
    assert chosen["core.executor"] == "CeleryExecutor"
    assert chosen["core.load_examples"] == "False"
    assert chosen["celery.broker_url"] == PLACEMENT.broker_url
    assert "metrics.statsd_host" not in chosen
    assert "core.fernet_key" not in chosen


def test_what_has_no_effect_is_told() -> None:
    options = {
        "core.executor": "X",
        "core.parallelism": "7",
        "metrics.statsd_on": "True",
        "api_auth.jwt_kid": "k",
    }
    assert overridden(options, airflow_version("3.3.1")) == [
        "api_auth.jwt_kid",
        "core.executor",
        "metrics.statsd_on",
    ]


@pytest.mark.parametrize(
    "option",
    [
        "CORE.EXECUTOR",
        "core.fernet_key_cmd",
        "database.sql_alchemy_conn_secret",
        "metrics.statsd_allow_list",
        "celery_broker_transport_options.visibility_timeout",
    ],
)
def test_there_is_no_way_around_protection(option: str) -> None:
    assert is_protected(option, airflow_version("2.11.2"))
    assert is_protected(option, airflow_version("3.3.1"))


def test_protection_follows_the_version() -> None:
    assert is_protected("webserver.config_file", airflow_version("2.11.2"))
    assert not is_protected("webserver.config_file", airflow_version("3.0.6"))
    assert is_protected("fab.auth_role_public", airflow_version("3.3.1"))


def test_defaults_use_the_versions_spelling() -> None:
    two, three = settings("2.11.2"), settings("3.0.6")
    assert two["scheduler.scheduler_zombie_task_threshold"] == "50"
    assert three["scheduler.task_instance_heartbeat_timeout"] == "50"
    assert two["scheduler.dag_dir_list_interval"] == "5"
    assert "scheduler.dag_dir_list_interval" not in three
    assert "webserver.workers" in two
    assert "api.workers" in three


def test_the_class_decides_sizes() -> None:
    spec = a_spec(environment_class="mw1.xlarge", schedulers=2)
    chosen = settings_of(spec, airflow_version("3.3.1"), PLACEMENT, web_url="https://x")
    assert chosen["celery.worker_autoscale"] == "40,40"
    assert chosen["dag_processor.parsing_processes"] == "15"
