"""Constraints: the user's own files, and what they cannot change."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from openmwaa.artifacts.layer_constraints import is_essential, read_constraints, usable_constraints
from openmwaa.artifacts.requirements_text import Constraint
from openmwaa.kit.errors import GiveUp, Retry

INSTALLED = {"flask": "2.2.5", "requests": "2.32.5", "pandas": "2.1.4"}
TEXT = "# from a release\nFlask==2.2.5\nrequests==2.31.0\npandas==2.1.4\nsnowflake_connector==3.0  # new\n--hash=x\n"
PUBLISHED = "https://example.org/apache/airflow/constraints-{}/constraints-3.11.txt"


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(int(self.path.strip("/")))
        self.end_headers()
        self.wfile.write(b"a==1\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answers) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def constraint(source: str) -> Constraint:
    return Constraint(3, f"-c {source}", source)


def test_a_users_own_file_counts_but_for_essential_packages() -> None:
    text, notes = usable_constraints(TEXT, {**INSTALLED, "flask": "9"}, "2.11.2", constraint("/x/own.txt"))
    assert text.split("\n") == [
        "requests==2.31.0",
        "pandas==2.1.4",
        "snowflake_connector==3.0  # new",
        "",
    ]
    assert notes == [
        "line 3: 1 constraints differ from what Airflow 2.11.2 runs with here, which stays: flask==2.2.5 (9)"
    ]


def test_published_constraints_of_this_version_speak_of_what_the_runtime_has_not() -> None:
    """The runtime's own lock is another resolution of the same Airflow, and the one that was tested."""
    text, notes = usable_constraints(TEXT, INSTALLED, "2.11.2", constraint(PUBLISHED.format("2.11.2")))
    assert text == "snowflake_connector==3.0  # new\n"
    assert "requests==2.31.0 (2.32.5)" in notes[0]


def test_published_constraints_of_another_version_are_taken_at_their_word() -> None:
    text, _ = usable_constraints(TEXT, INSTALLED, "2.11.2", constraint(PUBLISHED.format("2.10.1")))
    assert "requests==2.31.0" in text


@pytest.mark.parametrize(
    "name", ["apache-airflow", "flask", "flask-appbuilder", "sqlalchemy", "celery", "kombu"]
)
def test_essential_packages(name: str) -> None:
    assert is_essential(name)


@pytest.mark.parametrize("name", ["apache-airflow-providers-amazon", "requests", "pandas"])
def test_other_packages_are_not_essential(name: str) -> None:
    assert not is_essential(name)


async def test_files_are_read_from_paths_and_addresses(server: str, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text("b==2\n", encoding="utf-16")
    assert await read_constraints(constraint(str(own))) == "b==2\n"
    assert await read_constraints(constraint(f"{server}/200")) == "a==1\n"


async def test_what_is_not_there_is_refused_and_what_does_not_answer_tried_again(server: str) -> None:
    with pytest.raises(GiveUp, match=r"line 3: .* the server answers 404") as caught:
        await read_constraints(constraint(f"{server}/404"))
    assert caught.value.code == "REQUIREMENTS_NOT_FOUND"
    with pytest.raises(GiveUp, match="cannot be read"):
        await read_constraints(constraint("/nowhere/own.txt"))
    for address in (f"{server}/503", "http://127.0.0.1:9/own.txt"):
        with pytest.raises(Retry):
            await read_constraints(constraint(address))
