"""The table of versions and its lock files."""

from __future__ import annotations

import re

import pytest

from openmwaa.airflow.versions import NEWEST, VERSIONS, AirflowVersion, packages_of, providers_of

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
    assert list(VERSIONS) == ["2.10.3", "2.11.2", "3.0.6", "3.2.1", "3.3.1"]


def test_providers_are_read_off_a_lock() -> None:
    text = (
        "# Airflow 9.9.9 == nothing\n"
        "aiohttp==3.9.1 \\\n    --hash=sha256:00\n"
        "apache-airflow==9.9.9 \\\n    --hash=sha256:00\n"
        "apache-airflow-providers-amazon==9.0.0 ; python_version < '4' \\\n    --hash=sha256:00\n"
        "apache-airflow-providers-common-sql==1.2.3 \\\n    --hash=sha256:00\n"
    )
    assert providers_of(text) == {
        "apache-airflow-providers-amazon": "9.0.0",
        "apache-airflow-providers-common-sql": "1.2.3",
    }
    assert packages_of(text)["aiohttp"] == "3.9.1"


@pytest.mark.parametrize(
    ("version", "pins"),
    [
        ("2.10.3", {"celery": "5.4.0", "kombu": "5.4.2", "billiard": "4.2.1", "sqlalchemy": "1.4.54"}),
        (
            "2.10.3",
            {"flask": "2.2.5", "flask-appbuilder": "4.5.2", "apache-airflow-providers-amazon": "9.0.0"},
        ),
        ("3.0.6", {"celery": "5.5.2", "sqlalchemy": "1.4.54", "apache-airflow-providers-fab": "2.4.1"}),
        ("3.2.1", {"apache-airflow-providers-amazon": "9.25.0", "apache-airflow-providers-fab": "3.6.1"}),
        ("3.3.1", {"celery": "5.6.3", "flask-appbuilder": "5.2.2", "apache-airflow-providers-fab": "3.8.0"}),
    ],
)
def test_the_locks_have_the_pins_of_mwaas_images(version: str, pins: dict[str, str]) -> None:
    """As mwaa.md 4 lists them."""
    locked = packages_of(VERSIONS[version].lock.read_text())
    assert {name: locked[name] for name in pins} == pins
