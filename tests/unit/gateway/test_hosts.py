"""A host means one environment at most, and the host given out leads back to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmwaa.environments.errors import EnvironmentNotFoundError
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.gateway.directory import EnvironmentDirectory
from openmwaa.gateway.hosts import (
    ByLabel,
    ByOrdinal,
    hostname_of,
    label_of,
    parse_host,
)
from openmwaa.settings import Settings
from tests.support.specs import a_record, a_spec

PLAIN = Settings(home=Path("/nowhere"), port_base=8750)
NAMED = PLAIN.model_copy(update={"domain": "mwaa.example.com"})
names = st.from_regex(r"[a-zA-Z][0-9a-zA-Z_-]{0,79}", fullmatch=True)
ids = st.from_regex(r"[a-z][a-z0-9]{11}", fullmatch=True)


def test_addresses() -> None:
    record = a_record(ordinal=7)
    assert hostname_of(PLAIN, record) == "127.34.46.7:8750"
    assert parse_host(PLAIN, "127.34.46.7:8750") == ByOrdinal(7)
    assert parse_host(PLAIN, "127.34.46.7") == ByOrdinal(7)
    assert parse_host(NAMED, "127.34.46.7:8750") == ByOrdinal(7)


def test_the_port_is_left_out_when_it_is_the_scheme_s_own() -> None:
    on_443 = NAMED.model_copy(update={"port_base": 443})
    assert hostname_of(on_443, a_record()) == "alpha.mwaa.example.com"
    assert hostname_of(NAMED, a_record()) == "alpha.mwaa.example.com:8750"


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":",
        ":8750",
        "127.0.0.1:8750",
        "127.34.46.0:8750",
        "127.34.46.251:8750",
        "127.34.47.1:8750",
        "127.034.46.1",
        "2130706433",
        "127.34.46.1.",
        "127.34.46.1:8750:1",
        "127.34.46.1:http",
        "[::1]:8750",
        "localhost",
        "alpha.mwaa.example.com",
        "127.34.46.1@evil.example",
        "127.34.46.1/",
        "127.34.46.1 ",
    ],
)
def test_other_hosts_mean_no_environment(host: str) -> None:
    if host.rstrip(" .") == "127.34.46.1":
        assert parse_host(PLAIN, host) == ByOrdinal(1)  # white space and the root dot mean nothing
    else:
        assert parse_host(PLAIN, host) is None


@pytest.mark.parametrize(
    "host",
    [
        "mwaa.example.com",
        ".mwaa.example.com",
        "api.mwaa.example.com",
        "env.mwaa.example.com",
        "a.b.mwaa.example.com",
        "-a.mwaa.example.com",
        "alpha.mwaa.example.com.evil.example",
        "alphamwaa.example.com",
        "al/pha.mwaa.example.com",
        "a" * 64 + ".mwaa.example.com",
    ],
)
def test_names_that_no_environment_has(host: str) -> None:
    assert parse_host(NAMED, host) is None


def test_names_ignore_case_as_dns_does() -> None:
    assert parse_host(NAMED, "Alpha.MWAA.example.COM:8750") == ByLabel("alpha")


@given(name=names, environment_id=ids, ordinal=st.integers(1, 250))
def test_the_host_given_out_leads_back(name: str, environment_id: str, ordinal: int) -> None:
    record = a_record(a_spec(name), id=environment_id, ordinal=ordinal)
    assert parse_host(PLAIN, hostname_of(PLAIN, record)) == ByOrdinal(ordinal)
    assert parse_host(NAMED, hostname_of(NAMED, record)) == ByLabel(label_of(record))


@given(st.text(max_size=80))
def test_any_text_is_a_host_or_none(text: str) -> None:
    parse_host(PLAIN, text)
    parse_host(NAMED, text)


def test_the_api_has_names_of_its_own() -> None:
    assert label_of(a_record(a_spec("api"))) == "abcdefghijkl"


class Rows:
    """Environments in memory, with the store's interface."""

    def __init__(self, *records: EnvironmentRecord) -> None:
        self.records = list(records)
        self.asked = 0

    def _one(self, found: list[EnvironmentRecord]) -> EnvironmentRecord:
        self.asked += 1
        if not found:
            raise EnvironmentNotFoundError("none")
        return found[0]

    async def get(self, name: str) -> EnvironmentRecord:
        return self._one([record for record in self.records if record.name == name])

    async def get_by_id(self, environment_id: str) -> EnvironmentRecord:
        return self._one([record for record in self.records if record.id == environment_id])

    async def get_by_ordinal(self, ordinal: int) -> EnvironmentRecord:
        return self._one([record for record in self.records if record.ordinal == ordinal])


@given(st.lists(st.tuples(names, ids), unique_by=(lambda e: e[0], lambda e: e[1]), min_size=1, max_size=5))
async def test_every_environment_is_found_at_its_own_host(entries: list[tuple[str, str]]) -> None:
    """Also where names differ in case only, or one is named like another's id."""
    entries.append((entries[0][1], "zzzzzzzzzzzz"))  # an environment named like the first one's id
    records = [
        a_record(a_spec(name), id=environment_id, ordinal=index + 1)
        for index, (name, environment_id) in enumerate(dict(entries).items())
    ]
    directory = EnvironmentDirectory(NAMED, Rows(*records))
    owner_of_label = {label_of(record): record for record in reversed(records)}
    for record in records:
        found = await directory.find(hostname_of(NAMED, record))
        assert label_of(found) == label_of(record)
        if label_of(record) == record.id:
            assert found.id == record.id  # nobody takes over the host of an id
        assert owner_of_label


async def test_what_was_found_is_remembered_for_a_moment() -> None:
    now = [0.0]
    rows = Rows(a_record())
    directory = EnvironmentDirectory(PLAIN, rows, clock=lambda: now[0])
    for _ in range(5):
        assert (await directory.find("127.34.46.1:8750")).name == "alpha"
    assert rows.asked == 1
    rows.records.clear()
    now[0] = 1.5
    with pytest.raises(EnvironmentNotFoundError):
        await directory.find("127.34.46.1:8750")
    rows.records.append(a_record())
    assert await directory.find("127.34.46.1:8750")
