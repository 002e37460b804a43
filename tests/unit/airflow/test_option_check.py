"""Which options are refused, by what words, and which never are."""

from __future__ import annotations

import time
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from openmwaa.airflow import options as rules
from openmwaa.airflow.known_options import DATA, known_options
from openmwaa.airflow.option_check import MAX_MESSAGE, check_options
from openmwaa.airflow.option_names import edits, misspelt_section
from openmwaa.airflow.options import is_protected, settings_of
from openmwaa.airflow.protection import HANDED_ON, why_protected
from openmwaa.airflow.versions import NEWEST, VERSIONS, airflow_version
from openmwaa.environments.errors import InvalidRequestError
from openmwaa.environments.manifest import Placement
from tests.support.specs import a_spec

LETTERS = "abcdefghijklmnopqrstuvwxyz_"


def dotted(options: dict[str, str]) -> dict[str, str]:
    return {name if "." in name else name.replace("__", ".", 1): value for name, value in options.items()}


def refusal(version: str, **options: str) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        check_options(dotted(options), version)
    return str(caught.value)


def accepted(version: str, **options: str) -> list[str]:
    return check_options(dotted(options), version)


def test_every_version_has_its_file() -> None:
    assert set(VERSIONS) <= {file.stem for file in DATA.glob("*.json")}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_option_passes_with_its_own_default(version: str) -> None:
    row, known = airflow_version(version), known_options(version)
    mine = {
        name: option.default
        for name, option in known.options.items()
        if option.default is not None and not is_protected(name, row)
    }
    assert len(mine) > 200
    for name, default in mine.items():
        assert not [text for text in check_options({name: default}, version) if "deprecated" not in text]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_protected_option_is_refused_with_a_reason(version: str) -> None:
    row, known = airflow_version(version), known_options(version)
    names = [name for name in known.options if is_protected(name, row)]
    names += [old for old in known.deprecated if is_protected(old, row)]
    fixed = rules._FIXED | (rules._FIXED_2 if row.generation == 2 else rules._FIXED_3)
    for name in {*names, *fixed, *rules._PROTECTED_ELSEWHERE}:
        if known.current(name) in HANDED_ON:
            continue
        message = refusal(version, **{name: "1"})
        assert message.startswith(f"AirflowConfigurationOptions: {name} is set by the service: ")
        assert why_protected(known.current(name)) != why_protected("some.other"), name


@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_service_sets_itself_is_known(version: str) -> None:
    """A default of ours that a version does not read would silently do nothing."""
    placement = Placement(
        IPv4Address("127.0.0.1"),
        Path("/h"),
        Path("/d"),
        "redis://b",
        Path("/r"),
        Path("/p"),
        Path("/l"),
        Path("/s"),
    )
    chosen = settings_of(
        a_spec(airflow_version=version), airflow_version(version), placement, web_url="https://w"
    )
    known = known_options(version)
    unread = {name for name in chosen if known.find(name) is None}
    # Read by the oldest and the newest versions only.
    sometimes = {"usage_data_collection.enabled", "workers.execution_api_timeout"}
    assert {name for name in unread if not is_protected(name, airflow_version(version))} <= sometimes
    for name, value in chosen.items():
        if not is_protected(name, airflow_version(version)) and name not in unread:
            check_options({name: value}, version)


@pytest.mark.parametrize("version", VERSIONS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_misspelt_key_is_refused_and_the_right_one_named(version: str, data: st.DataObject) -> None:
    row, known = airflow_version(version), known_options(version)
    plain = sorted(
        name
        for name in known.options
        if not is_protected(name, row)
        and name.partition(".")[0] not in known.open_sections
        and len(name.partition(".")[2]) >= 6
    )
    name = data.draw(st.sampled_from(plain))
    section, _, key = name.partition(".")
    place = data.draw(st.integers(1, len(key) - 2))
    letter = data.draw(st.sampled_from(LETTERS))
    typo = data.draw(
        st.sampled_from(
            [
                key[:place] + key[place + 1 :],
                key[:place] + letter + key[place:],
                key[:place] + letter + key[place + 1 :],
                key[:place] + key[place + 1] + key[place] + key[place + 2 :],
            ]
        )
    )
    wrong = f"{section}.{typo}"
    assume(known.find(wrong) is None and not is_protected(wrong, row))
    assert known.current(name) in refusal(version, **{wrong: "1"})


@given(options=st.dictionaries(st.from_regex(r"[a-z][a-z_]{0,8}\.[a-z_]{1,12}", fullmatch=True), st.text()))
@settings(max_examples=100, deadline=None)
def test_any_options_are_answered_and_in_the_same_words_again(options: dict[str, str]) -> None:
    def answer(order: dict[str, str]) -> str:
        try:
            return repr(check_options(order, NEWEST))
        except InvalidRequestError as error:
            return str(error)

    assert len(answer(options)) <= MAX_MESSAGE or answer(options).startswith("[")
    assert answer(options) == answer(dict(reversed(options.items())))


@pytest.mark.parametrize(
    ("version", "option", "named"),
    [
        ("3.3.1", "webserver.instance_name", None),  # deprecated: still read
        ("3.3.1", "webserver.page_size", "use api.fallback_page_limit"),  # renamed twice: not read
        ("3.3.1", "scheduler.scheduler_zombie_task_threshold", "scheduler.task_instance_heartbeat_timeout"),
        ("2.11.2", "scheduler.task_instance_heartbeat_timeout", "scheduler.scheduler_zombie_task_threshold"),
        ("2.11.2", "api.workers", "webserver.workers"),
        ("3.0.6", "core.sql_alchemy_pool_size", "database.sql_alchemy_pool_size"),
        ("2.11.2", "dag_processor.refresh_interval", "scheduler.dag_dir_list_interval"),
        ("3.3.1", "webserver.navbar_colour", "navbar_color"),
        ("3.3.1", "core.parallelizm", "core.parallelism"),
        ("3.3.1", "shceduler.catchup_by_default", "scheduler.catchup_by_default"),
        ("3.3.1", "core.check_slas", "removed"),
        ("3.3.1", "webserver.dag_default_view", "does not read webserver.dag_default_view"),
        ("3.3.1", "webserver.default_ui_timezone", "removed"),
    ],
)
def test_what_is_said_of_names_of_another_version_and_of_typos(
    version: str, option: str, named: str | None
) -> None:
    if named is None:
        assert "deprecated" in accepted(version, **{option: "1"})[0]
    else:
        assert named in refusal(version, **{option: "1"})


def test_all_problems_come_together_in_a_stable_order_and_no_value_is_shown() -> None:
    message = refusal(
        "3.3.1",
        core__parallelism="hunter2",
        core__executor="hunter2",
        mwaa__triggerer_enabled="hunter2",
        metrics__statsd_host="hunter2",
    )
    assert message == (
        "AirflowConfigurationOptions: core.executor is set by the service: tasks run on Celery workers. "
        "core.parallelism must be an integer, for example 10. "
        "metrics.statsd_host is set by the service: only statsd_on, metrics_allow_list and metrics_block_list"
        " can be set there. mwaa.triggerer_enabled must be true or false."
    )


def test_a_long_message_is_cut_and_costs_little_time() -> None:
    started = time.monotonic()
    message = refusal("3.3.1", **{f"core.paralellism{number}": "1" for number in range(300)})
    assert len(message) <= MAX_MESSAGE
    assert message.endswith("? There are more.")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("version", VERSIONS)
def test_sections_of_a_plugin_stay_possible(version: str) -> None:
    assert accepted(version, my_plugin__colour="blue", openlineage__transport="{}", app__workers="3") == []
    assert accepted(version, sentry__anything_at_all="1") == []
    assert "section cores is not Airflow's" in accepted(version, cores__colour="blue")[0]


def test_a_package_may_bring_options_of_its_provider() -> None:
    assert "aws.brand_new_thing" in refusal("3.3.1", aws__brand_new_thing="1")
    told = check_options({"aws.brand_new_thing": "1"}, "3.3.1", more_packages=True)
    assert told == [
        "Airflow 3.3.1 does not read aws.brand_new_thing unless a package of requirements.txt does."
    ]
    with pytest.raises(InvalidRequestError, match=r"celery\.worker_autoscale"):
        check_options({"celery.worker_autoscal": "5,5"}, "3.3.1", more_packages=True)
    with pytest.raises(InvalidRequestError, match=r"core\.parallelism"):
        check_options({"core.paralellism": "5"}, "3.3.1", more_packages=True)


@pytest.mark.parametrize("value", ["True", "FALSE", " t", "f", "1", "0", "true # because", "$SWITCH"])
def test_what_airflow_reads_as_a_boolean_is_accepted(value: str) -> None:
    assert accepted("3.3.1", core__dags_are_paused_at_creation=value) == []


@pytest.mark.parametrize("value", ["yes", "on", "2", "", "truth"])
def test_what_airflow_cannot_read_as_a_boolean_is_refused(value: str) -> None:
    assert "must be true or false" in refusal("2.11.2", core__dags_are_paused_at_creation=value)


def test_numbers_are_read_as_the_version_reads_them() -> None:
    assert accepted("3.3.1", core__parallelism="5.0") == []
    assert accepted("3.3.1", core__parallelism=" 1_000 ") == []
    assert accepted("3.3.1", scheduler__task_queued_timeout="0.5") == []
    assert "an integer" in refusal("2.11.2", core__parallelism="5.0")
    assert "an integer" in refusal("3.3.1", core__parallelism="5.5")
    assert "an integer" in refusal("3.3.1", core__parallelism="inf")
    assert "a number" in refusal("3.3.1", scheduler__task_queued_timeout="soon")
    assert "JSON" in refusal("3.3.1", celery__extra_celery_config="{'a': 1}")


def test_a_closed_set_of_values_is_named() -> None:
    assert "one of CRITICAL, FATAL, ERROR" in refusal("3.3.1", logging__logging_level="info")
    assert accepted("3.3.1", logging__logging_level="INFO") == []


def test_mwaa_s_own_options() -> None:
    assert accepted("2.11.2", mwaa__triggerer_enabled="False") == []
    assert accepted("2.11.2", mwaa__worker_replacement_threshold_seconds="0") == []
    assert "seconds" in refusal("2.11.2", mwaa__worker_replacement_threshold_seconds="-1")
    assert "mwaa.triggerer_enabled" in refusal("2.11.2", mwaa__triggerer="1")


@pytest.mark.parametrize("name", sorted(HANDED_ON))
def test_what_filters_measurements_is_accepted_and_told(name: str) -> None:
    [told] = accepted("3.3.1", **{name: "True"})
    assert name in told


def test_case_and_dots_do_not_get_around_anything() -> None:
    assert "CORE" not in refusal("3.3.1", CORE__Load_examples="True")
    assert "set by the service" in refusal("3.3.1", **{"core.load.examples": "True"})
    assert is_protected("core.load.examples", airflow_version("3.3.1"))
    assert is_protected("core.fernet.key", airflow_version("3.3.1"))
    assert is_protected("core.sql_alchemy_conn", airflow_version("2.11.2"))
    assert accepted("3.3.1", **{"common.io.xcom_objectstorage_threshold": "5"}) == []
    assert (
        rules.variable("common.io.xcom_objectstorage_path") == "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH"
    )


def test_an_option_under_its_old_name_has_its_effect() -> None:
    """Airflow prefers the new name, under which the service has a default."""
    placement = Placement(
        IPv4Address("127.0.0.1"),
        Path("/h"),
        Path("/d"),
        "redis://b",
        Path("/r"),
        Path("/p"),
        Path("/l"),
        Path("/s"),
    )

    def chosen(**options: str) -> dict[str, str]:
        spec = a_spec(airflow_configuration_options=dotted(options))
        return settings_of(spec, airflow_version("3.3.1"), placement, web_url="https://w")

    assert chosen(triggerer__default_capacity="7")["triggerer.capacity"] == "7"
    both = chosen(triggerer__default_capacity="7", triggerer__capacity="8")
    assert both["triggerer.capacity"] == "8"
    [told] = accepted("3.3.1", triggerer__default_capacity="7", triggerer__capacity="8")
    assert told.endswith("its name is triggerer.capacity, whose value is used.")


@given(st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_edits_are_a_distance(one: str, other: str) -> None:
    assert edits(one, other) == edits(other, one)
    assert (edits(one, other) == 0) == (one == other)
    assert edits(one, other) <= max(len(one), len(other))


def test_short_sections_are_never_taken_for_misspelt_ones() -> None:
    assert misspelt_section("app", ["api"]) is None
    assert misspelt_section("core", ["core"]) is None
    assert misspelt_section("scheduelr", ["scheduler"]) == "scheduler"
