"""What was read at import, and whether other variables and options would have given the same."""

from __future__ import annotations

import os
import types
from typing import Any

import pytest

from openmwaa_airflow.zygote.journal import Journal
from openmwaa_airflow.zygote.modules import modules_of, versions
from openmwaa_airflow.zygote.traps import OPTIONS_OF


class Parser:
    """Knows options, as Airflow's parsers do."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def get(self, section: str, key: str, fallback: Any = None) -> Any:
        if key not in self.options and fallback is None:
            raise KeyError(key)
        return self.options.get(key, fallback)

    def has_option(self, section: str, key: str) -> bool:
        return key in self.options

    def getsection(self, section: str) -> dict[str, Any]:
        return self.options


def module(name: str, **names: Any) -> dict[str, Any]:
    made = types.ModuleType(name)
    vars(made).update(names)
    return vars(made)


def read(parser: Parser, code: str, name: str = "some.module") -> None:
    exec(code, module(name, conf=parser, os=os))


def recorded(parser: Parser, code: str, name: str = "some.module") -> Journal:
    journal = Journal()
    end = journal.record_options("core", Parser)
    try:
        with journal.recording_variables():
            read(parser, code, name)
    finally:
        end()
    return journal


def test_an_option_that_has_another_value_is_named() -> None:
    journal = recorded(Parser(examples=True, other=1), "conf.get('core', 'examples')")
    assert journal.difference({"core": Parser(examples=True, other=2)}, os.environ) == ""
    said = journal.difference({"core": Parser(examples="a secret")}, os.environ)
    assert said == "the option core.examples is read when some.module is imported"


def test_an_option_that_appears_or_disappears_is_a_difference() -> None:
    journal = recorded(Parser(), "conf.has_option('core', 'x'); conf.get('core', 'y', fallback='none')")
    assert journal.difference({"core": Parser()}, os.environ) == ""
    assert "core.x" in journal.difference({"core": Parser(x=1)}, os.environ)
    assert "core.y" in journal.difference({"core": Parser(y=1)}, os.environ)


def test_a_read_that_fails_must_fail_again() -> None:
    code = "try:\n    conf.get('core', 'x')\nexcept KeyError:\n    pass"
    journal = recorded(Parser(), code)
    assert journal.difference({"core": Parser()}, os.environ) == ""
    assert "core.x" in journal.difference({"core": Parser(x=1)}, os.environ)


def test_what_the_parser_reads_for_itself_does_not_count() -> None:
    """Every child makes a new one."""
    code = "def initialize_config():\n    conf.get('core', 'x')\ninitialize_config()"
    assert not recorded(Parser(x=1), code, "airflow.configuration").options


def test_of_an_address_only_the_part_counts_that_is_kept() -> None:
    code = "conf.get('database', 'sql_alchemy_conn')"
    journal = recorded(Parser(sql_alchemy_conn="postgresql://a/b"), code, "airflow.models.base")
    assert journal.difference({"core": Parser(sql_alchemy_conn="postgresql://c/d")}, os.environ) == ""
    assert journal.difference({"core": Parser(sql_alchemy_conn="mysql://c/d")}, os.environ) != ""
    elsewhere = recorded(Parser(sql_alchemy_conn="postgresql://a/b"), code, "another.module")
    assert elsewhere.difference({"core": Parser(sql_alchemy_conn="postgresql://c/d")}, os.environ) != ""


def test_recording_leaves_nothing_behind() -> None:
    methods = {name: vars(Parser)[name] for name in ("get", "has_option", "getsection")}
    kind = type(os.environ)
    lookups = kind.__getitem__, kind.__iter__
    recorded(Parser(x=1), "conf.get('core', 'x'); os.environ.get('HOME')")
    assert {name: vars(Parser)[name] for name in methods} == methods
    assert (kind.__getitem__, kind.__iter__) == lookups


def test_a_variable_that_was_read_must_be_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_LOADER", "one")
    code = "os.environ.get('CELERY_LOADER'); os.getenv('NOT_THERE'); 'MSGPACK' in os.environ"
    journal = recorded(Parser(), code)
    assert journal.difference({}, os.environ) == ""
    for change in ({"CELERY_LOADER": "two"}, {"NOT_THERE": ""}, {"MSGPACK": "1"}):
        said = journal.difference({}, {**os.environ, **change})
        assert said == f"the variable {next(iter(change))} is read when Airflow is imported"
    assert journal.difference({}, {**os.environ, "NEVER_READ": "1"}) == ""


@pytest.mark.parametrize(
    "name", ["PYTHONWARNINGS", "LD_LIBRARY_PATH", "LC_ALL", "OPENSSL_CONF", "FSSPEC_S3", "OMP_NUM_THREADS"]
)
def test_what_libraries_read_without_our_notice_must_be_the_same(name: str) -> None:
    journal = recorded(Parser(), "pass")
    assert name in journal.difference({}, {**os.environ, name: "other"})


def test_who_looks_at_all_variables_is_noted() -> None:
    journal = recorded(Parser(), "list(os.environ)", "a.walker")
    assert "a.walker" in journal.walkers


def test_exceptions_name_a_module_a_section_and_a_key() -> None:
    assert all(len(entry) == 3 and entry[1:] == (entry[1].lower(), entry[2].lower()) for entry in OPTIONS_OF)


@pytest.mark.parametrize("version", versions())
def test_lists_have_no_name_twice(version: str) -> None:
    of_workers, of_others = modules_of(version)
    for names in (of_workers, of_others):
        assert any(name.startswith("airflow.") for name in names)
    names = [*of_workers, *of_others]
    assert len(names) == len(set(names))
