"""Only MWAA's commands run, and no option leads out of the DAG folder, however it is spelled."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from openmwaa.airflow.versions import airflow_version
from openmwaa.gateway.cli_arguments import CommandRefusedError, to_arguments
from openmwaa.gateway.cli_commands import COMMANDS, Command

OPTIONS: dict[str, dict[str, list[tuple[list[str], str]]]] = json.loads(
    Path(__file__).with_name("cli_options.json").read_text()
)
"""The options of each supported command, as the real Airflow's parser has them (tools/cli_options.py)."""

VERSIONS = sorted(OPTIONS)


def arguments(text: str, version: str = "3.3.1") -> list[str]:
    row = airflow_version(version)
    return list(to_arguments(text, generation=row.generation, numbers=row.numbers))


def refusal(text: str, version: str = "3.3.1") -> str:
    with pytest.raises(CommandRefusedError) as caught:
        arguments(text, version)
    return str(caught.value)


def commands(version: str) -> dict[str, Command]:
    row = airflow_version(version)
    return {
        command.name: command
        for command in COMMANDS[row.generation].values()
        if command.since <= row.numbers[:2] and command.name != "providers triggerer"
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_every_command_of_the_table_exists_in_airflow(version: str) -> None:
    assert set(commands(version)) == set(OPTIONS[version])


@pytest.mark.parametrize("version", VERSIONS)
def test_the_table_knows_the_flags_of_commands_with_restricted_options(version: str) -> None:
    for name, command in commands(version).items():
        if command.restricted:
            flags = {
                spelled[1]
                for names, kind in OPTIONS[version][name]
                if kind == "flag"
                for spelled in names
                if len(spelled) == 2
            }
            assert set(command.flags) >= flags, name


FILES = {"--subdir", "--dagfile-path", "--save", "--save-dagrun", "--imgcat", "--imgcat-dagrun", "--cfg-path"}
CODE = {"--env-vars", "--pickle", "--ship-dag", "--post-mortem"}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_option_that_reaches_too_far_is_restricted(version: str) -> None:
    for name, command in commands(version).items():
        restricted = {spelled for option in command.restricted for spelled in option.names}
        for names, _ in OPTIONS[version][name]:
            if set(names) & (FILES | CODE):
                assert set(names) <= restricted, (name, names)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise argparse.ArgumentError(None, message)


def parser_of(version: str, name: str) -> argparse.ArgumentParser:
    """Build the nested parser of one command with the options of the real Airflow."""
    top = _Parser(prog="airflow", add_help=False)
    parser: argparse.ArgumentParser = top
    for word in name.split():
        parser = parser.add_subparsers(parser_class=_Parser).add_parser(word, add_help=False)
    for index, (names, kind) in enumerate(OPTIONS[version][name]):
        keywords: dict[str, Any] = {
            "flag": {"action": "store_true"},
            "one": {},
            "many": {"nargs": "*"},
            "optional": {"nargs": "?"},
        }[kind]
        parser.add_argument(*(names or [f"positional{index}"]), **keywords)
    return top


PARSERS = {
    (version, name): parser_of(version, name)
    for version in VERSIONS
    for name, command in commands(version).items()
    if command.restricted
}
paths = st.sampled_from(
    [
        "/etc/passwd",
        "/tmp",
        "x.py",
        "../x",
        "~/x",
        "=/etc",
        "DAGS_FOLDER",
        "DAGS_FOLDER/a.py",
        "DAGS_FOLDER/../../etc",
        "DAGS_FOLDERx",
        "/usr/local/airflow/dags/a.py",
        "/usr/local/airflow/dags/../x",
        "/usr/local/airflow/dagsx",
        "",
        " ",
        '{"LD_PRELOAD": "x"}',
    ]
)


@given(key=st.sampled_from(sorted(PARSERS)), data=st.data())
def test_what_airflow_s_parser_understands_stays_inside(key: tuple[str, str], data: st.DataObject) -> None:
    """The oracle is argparse itself, with Airflow's own options: whatever it reads as a restricted option is held."""
    version, name = key
    command = commands(version)[name]
    spelled = [
        spelling
        for names, _ in OPTIONS[version][name]
        for full in names
        for spelling in (full, *(full[:length] for length in range(3, len(full)) if full.startswith("--")))
    ]
    letters = "".join(full[1] for names, _ in OPTIONS[version][name] for full in names if len(full) == 2)
    words = data.draw(
        st.lists(
            st.one_of(
                paths,
                st.sampled_from(spelled),
                st.builds("{}={}".format, st.sampled_from(spelled), paths),
                st.builds("-{}{}".format, st.text(letters, min_size=1, max_size=4), paths),
                st.sampled_from(["--", "etl", "extract", "2026-01-01"]),
            ),
            max_size=7,
        )
    )
    try:
        accepted = arguments(shlex.join([*name.split(), *words]), version)
    except CommandRefusedError:
        return
    try:
        parsed = vars(PARSERS[key].parse_args(accepted))
    except argparse.ArgumentError:
        return
    for option in command.restricted:
        member = option.names[-1].removeprefix("--").replace("-", "_")
        value = parsed.get(member)
        if option.refused is not None:
            assert value in (None, False), words
        elif value is not None:
            assert value == "DAGS_FOLDER" or value.startswith("DAGS_FOLDER/"), words
            assert ".." not in value.split("/"), words


def test_ordinary_commands() -> None:
    assert arguments("dags list -o json") == ["dags", "list", "-o", "json"]
    assert arguments("version") == ["version"]
    assert arguments("""dags trigger etl --conf '{"day": "2026-01-01"}'""")[-1] == '{"day": "2026-01-01"}'
    assert arguments('variables set key "a value; with $(shell) `signs` && more"')[-1] == (
        "a value; with $(shell) `signs` && more"
    )
    assert arguments("variables set 'a\nb' x") == ["variables", "set", "a\nb", "x"]
    assert arguments("dags\tlist\n") == ["dags", "list"]
    assert arguments("dags") == ["dags"]
    assert arguments("dags --help") == ["dags", "--help"]
    assert arguments("providers triggers") == ["providers", "triggers"]


def test_the_generations_differ() -> None:
    assert arguments("assets list")
    assert arguments("backfill create --dag-id x")
    assert "not supported" in refusal("assets list", "2.11.2")
    assert arguments("dags backfill etl", "2.11.2")
    assert "not supported" in refusal("dags backfill etl")
    assert arguments("tasks run etl extract 2026-01-01", "2.11.2")
    assert "not supported" in refusal("tasks run etl extract 2026-01-01")


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("dags backfill x", (2, 2)),
        ("dags reserialize", (2, 4)),
        ("db clean", (2, 4)),
        ("dags list-import-errors", (2, 6)),
        ("roles create x", (2, 6)),
        ("providers secrets", (2, 6)),
        ("providers triggerer", (2, 7)),
        ("providers notifications", (2, 8)),
    ],
)
def test_commands_of_later_versions(text: str, since: tuple[int, int]) -> None:
    assert to_arguments(text, generation=2, numbers=since)
    with pytest.raises(CommandRefusedError):
        to_arguments(text, generation=2, numbers=(2, since[1] - 1))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "text",
    [
        "users list",
        "users create -r Admin -u x -p x -e x -f x -l x",
        "pools list",
        "config list",
        "config get-value core fernet_key",
        "info",
        "kubernetes cleanup-pods",
        "celery worker",
        "jobs check",
        "plugins",
        "rotate-fernet-key",
        "sync-perm",
        "scheduler",
        "webserver",
        "api-server",
        "triggerer",
        "dag-processor",
        "standalone",
        "db shell",
        "db reset -y",
        "db migrate",
        "connections export -",
        "connections list",
        "connections get aws_default",
        "variables import /etc/passwd",
        "variables export -",
        "roles export x",
        "dags details etl",
        "--help",
        "-v dags list",
        "airflow dags list",
        "dags -v list",
        "dags  'list '",
        "DAGS list",
        "",
        "   ",
        "'",
        'dags trigger "etl',
        "dags list\\",
        "dags list \0",
        "; ls",
        "$(ls)",
        "../bin/sh",
    ],
)
def test_everything_else_is_refused(text: str, version: str) -> None:
    assert refusal(text, version)


@pytest.mark.parametrize(
    "text",
    [
        "dags list -S /",
        "dags list -S/",
        "dags list -S=/",
        "dags list -vS /",
        "dags list -vS/",
        "dags list --subdir /",
        "dags list --subdir=/",
        "dags list --sub /",
        "dags list --s=/",
        "dags list --subdir DAGS_FOLDER/../..",
        "dags list -S DAGS_FOLDER/DAGS_FOLDER",
        "dags list -S ~",
        "dags list -S dags",
        "dags show etl --save /tmp/x.dot",
        "dags show etl -s x.dot",
        "dags test etl 2026-01-01 --save-d x",
        "tasks test etl t 2026-01-01 --env-vars {}",
        "tasks test etl t 2026-01-01 --env={}",
        "tasks run etl t r --cfg-path /x",
        "tasks run etl t r -Ap1",
    ],
)
def test_options_that_reach_too_far(text: str) -> None:
    assert refusal(text, "2.11.2")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("dags list -S DAGS_FOLDER", "DAGS_FOLDER"),
        ("dags list -S /usr/local/airflow/dags", "DAGS_FOLDER"),
        ("dags list --subdir /usr/local/airflow/dags/team/etl.py", "DAGS_FOLDER/team/etl.py"),
        ("dags list --subdir=/usr/local/airflow/dags/a", "--subdir=DAGS_FOLDER/a"),
        ("dags list -vS/usr/local/airflow/dags", "-vSDAGS_FOLDER"),
    ],
)
def test_the_dag_folder_has_two_names(text: str, path: str) -> None:
    assert arguments(text, "2.11.2")[-1] == path


@given(text=st.text(max_size=80), version=st.sampled_from(VERSIONS))
def test_any_text_becomes_a_supported_command_or_a_reason(text: str, version: str) -> None:
    try:
        accepted = arguments(text, version)
    except CommandRefusedError as refused:
        reason = str(refused)
        accepted = []
    assert accepted or reason
    if accepted:
        assert accepted[0] in {name.split()[0] for name in commands(version)}


@given(st.lists(st.text(st.characters(exclude_characters="\0"), max_size=20), max_size=5))
def test_arguments_arrive_as_quoted(values: list[str]) -> None:
    assume(not any(value.startswith("-") for value in values))
    assert arguments(shlex.join(["variables", "set", *values])) == ["variables", "set", *values]
