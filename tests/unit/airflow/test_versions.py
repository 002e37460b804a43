"""The table of versions and its lock files."""

from __future__ import annotations

import re

import pytest

from openmwaa.airflow.versions import NEWEST, VERSIONS, AirflowVersion

each = pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)


@each
def test_the_lock_holds_what_was_asked_for(version: AirflowVersion) -> None:
    """Every pinned requirement is in the lock with that version; every other with some version."""
    locked = dict(re.findall(r"^([a-z0-9][a-z0-9.-]*)==(\S+) \\$", version.lock.read_text(), re.MULTILINE))
    for requirement in version.requirements:
        name, _, pin = re.sub(r"\[[^]]*\]", "", requirement).partition("==")
        name = re.split(r"[<>]", name)[0]
        assert name in locked, requirement
        assert not pin or locked[name] == pin, requirement


@each
def test_the_lock_has_hashes_and_names_no_place(version: AirflowVersion) -> None:
    """Each package has hashes; neither an index nor a path of a machine is in the file."""
    text = version.lock.read_text()
    packages = re.findall(
        r"^[a-z0-9].*==.*\\\n(?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", text, re.MULTILINE
    )
    assert len(packages) == text.count("==")
    assert "://" not in text
    assert "index-url" not in text
    assert text.count("/") == text.splitlines()[0].count("/")


def test_the_newest_version_is_the_default() -> None:
    assert NEWEST == "3.3.1"
    assert list(VERSIONS) == ["2.11.2", "3.0.6", "3.3.1"]
