"""Each version's DAG processor parses what a new snapshot changed, at once and nothing else.

Its own intervals are ten minutes here, and it does not look at times of files: all that is seen
within seconds is what `openmwaa_airflow.dag_watch` told it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from openmwaa.airflow.secrets import METADATA_URL
from openmwaa.airflow.versions import VERSIONS
from openmwaa.artifacts.runtimes import RuntimeStore
from openmwaa.environments.manifest import Kind
from openmwaa.kit.secret import Secret
from tests.airflow import bare
from tests.support.eventually import eventually
from tests.support.specs import a_spec

pytestmark = pytest.mark.timeout(600)

SOON_S = 20.0
"""Long for a machine that does nothing else, short beside ten minutes."""

NEVER = "600"
OPTIONS = {
    2: {
        "scheduler.dag_dir_list_interval": NEVER,
        "scheduler.min_file_process_interval": NEVER,
        "scheduler.file_parsing_sort_mode": "alphabetical",
    },
    3: {
        "dag_processor.refresh_interval": NEVER,
        "dag_processor.bundle_refresh_check_interval": NEVER,
        "dag_processor.min_file_process_interval": NEVER,
        "dag_processor.file_parsing_sort_mode": "alphabetical",
    },
}
DAG = """
import os
try:
    from airflow.sdk import DAG
except ImportError:
    from airflow import DAG
{extra}
with open(os.environ["AIRFLOW_HOME"] + "/parsed", "a") as file:
    file.write("{name}\\n")
dag = DAG("{name}", schedule=None, description="{text}")
"""


class Folder:
    """The DAG folder, as links to snapshots of hard links."""

    def __init__(self, environment: bare.Environment) -> None:
        self.mirror = environment.home.parent / "mirror"
        (self.mirror / "objects").mkdir(parents=True)
        environment.placement.dags_folder.rmdir()
        environment.placement.dags_folder.symlink_to(self.mirror / "dags")
        self.files: dict[str, str] = {}
        self.count = 0

    def publish(self, **changes: str | None) -> None:
        """Change files by name without ending; None removes one. All at once."""
        self.files = {name: text for name, text in (self.files | changes).items() if text is not None}
        self.count += 1
        snapshot = self.mirror / "snapshots" / str(self.count)
        snapshot.mkdir(parents=True)
        for name, text in self.files.items():
            stored = self.mirror / "objects" / f"{name}-{hash(text)}"
            if not stored.exists():
                stored.write_text(text)
            os.link(stored, snapshot / f"{name}.py")
        draft = self.mirror / ".draft"
        draft.symlink_to(Path("snapshots", str(self.count)))
        draft.replace(self.mirror / "dags")


def dag(name: str, text: str, extra: str = "") -> str:
    return DAG.format(name=name, text=text, extra=extra)


ALL = [
    pytest.param(version, marks=() if version in {"2.11.2", "3.3.1"} else pytest.mark.thorough)
    for version in VERSIONS
]


@pytest.fixture(scope="module", params=ALL)
def environment(
    request: pytest.FixtureRequest, runtimes: RuntimeStore, database: Secret
) -> Iterator[bare.Environment]:
    version = request.param
    spec = a_spec(airflow_version=version, airflow_configuration_options=OPTIONS[int(version[0])])
    with bare.environment(
        version,
        asyncio.run(runtimes.ensure(version)),
        database,
        spec=spec,
        address=f"127.90.62.{1 + list(VERSIONS).index(version)}",
        dags={},
    ) as made:
        made.migrate()
        yield made


def descriptions(environment: bare.Environment) -> dict[str, Any]:
    """Return description by DAG, of those that are active."""
    url = environment.secrets[METADATA_URL].reveal().replace("+psycopg2", "")
    active = "is_active" if environment.version.startswith("2.") else "NOT is_stale"
    with psycopg.connect(url) as connection:
        return dict(
            connection.execute(f"SELECT dag_id, description FROM dag WHERE {active}".encode()).fetchall()
        )


def broken(environment: bare.Environment) -> int:
    url = environment.secrets[METADATA_URL].reveal().replace("+psycopg2", "")
    with psycopg.connect(url) as connection:
        return len(connection.execute("SELECT 1 FROM import_error").fetchall())


def test_changed_new_removed_and_mended_files_are_seen_at_once(environment: bare.Environment) -> None:
    folder = Folder(environment)
    folder.publish(a=dag("a", "1"), b=dag("b", "1"), c=dag("c", "1"))
    environment.start(Kind.DAG_PROCESSOR)

    def becomes(wanted: dict[str, str], *, within_s: float = SOON_S) -> None:
        began = time.monotonic()
        eventually(
            lambda: descriptions(environment) == wanted,
            within_s=within_s,
            every_s=0.05,
            what=f"{wanted}; {environment.tail('dag-processor-0')}",
        )
        print(f"{environment.version}: after {time.monotonic() - began:.2f} s {wanted}")  # noqa: T201

    def parsed() -> list[str]:
        return (environment.home / "parsed").read_text().split()

    becomes({"a": "1", "b": "1", "c": "1"}, within_s=120)
    assert sorted(parsed()) == ["a", "b", "c"]

    folder.publish(b=dag("b", "2"))
    becomes({"a": "1", "b": "2", "c": "1"})

    folder.publish(b=dag("b", "3"))  # within the half minute in which Airflow's default drops it
    becomes({"a": "1", "b": "3", "c": "1"})

    folder.publish(d=dag("d", "1"))
    becomes({"a": "1", "b": "3", "c": "1", "d": "1"})

    folder.publish(c=None)
    becomes({"a": "1", "b": "3", "d": "1"})

    folder.publish(e=dag("e", "1", "import of_e"))  # what it imports is not there yet
    eventually(lambda: broken(environment) == 1, within_s=SOON_S, what="e is broken")
    folder.publish(of_e="VALUE = 1\n")
    becomes({"a": "1", "b": "3", "d": "1", "e": "1"})
    eventually(lambda: broken(environment) == 0, within_s=SOON_S, what="e is mended")

    assert parsed().count("a") == 1, "what did not change is not parsed again"
