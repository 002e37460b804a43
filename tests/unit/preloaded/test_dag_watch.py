"""What a new snapshot of the DAG folder changed, seen from inside the DAG processor."""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest

from openmwaa_airflow.dag_watch import Watch


class Snapshots:
    """A DAG folder as a mirror keeps it, reached over a further link."""

    def __init__(self, root: Path) -> None:
        self.mirror = root / "mirror"
        (self.mirror / "objects").mkdir(parents=True)
        self.count = 0
        self.dags = root / "dags"
        self.dags.symlink_to(self.mirror / "dags")

    def publish(self, files: dict[str, str]) -> None:
        self.count += 1
        snapshot = self.mirror / "snapshots" / str(self.count)
        for path, text in files.items():
            stored = self.mirror / "objects" / f"{path}-{text}".replace("/", "-")
            if not stored.exists():
                stored.write_text(text)
            target = snapshot / path
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(stored, target)
        draft = self.mirror / ".draft"
        draft.symlink_to(Path("snapshots", str(self.count)))
        draft.replace(self.mirror / "dags")


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    made = Snapshots(tmp_path)
    made.publish({"a.py": "1", "b/c.py": "1", "d.py": "1"})
    return made


@pytest.fixture
def watch(snapshots: Snapshots) -> Watch:
    made = Watch(snapshots.dags)
    assert not made.moved()
    return made


def idle(_path: str) -> bool:
    return False


def test_what_is_there_at_first_is_for_airflow_to_find(watch: Watch) -> None:
    assert not watch.moved()
    assert watch.due(idle) == []


def test_changed_and_new_files_are_due_once(snapshots: Snapshots, watch: Watch) -> None:
    snapshots.publish({"a.py": "1", "b/c.py": "2", "e.py": "1"})
    assert watch.moved()
    assert watch.due(idle) == ["b/c.py", "e.py"]
    assert not watch.moved()
    assert watch.due(idle) == []


def test_files_that_were_only_removed_are_a_move(snapshots: Snapshots, watch: Watch) -> None:
    snapshots.publish({"a.py": "1"})
    assert watch.moved()
    assert watch.due(idle) == []


def test_a_file_that_is_being_parsed_waits_until_that_ends(snapshots: Snapshots, watch: Watch) -> None:
    snapshots.publish({"a.py": "2", "b/c.py": "2", "d.py": "1"})
    assert watch.moved()
    assert watch.due(lambda path: path == "a.py") == ["b/c.py"]
    assert watch.due(lambda path: path == "a.py") == []
    assert watch.due(idle) == ["a.py"]


def test_a_file_that_was_removed_while_it_waited_is_forgotten(snapshots: Snapshots, watch: Watch) -> None:
    snapshots.publish({"a.py": "2"})
    assert watch.moved()
    snapshots.publish({"d.py": "1"})
    assert watch.moved()
    assert watch.due(idle) == ["d.py"]


def test_doubtful_files_come_after_changed_ones(snapshots: Snapshots, watch: Watch) -> None:
    snapshots.publish({"a.py": "1", "b/c.py": "1", "d.py": "2"})
    assert watch.moved()
    watch.doubt(["a.py", "d.py", "gone.py"])
    assert watch.due(idle) == ["d.py", "a.py"]


def test_the_descriptor_is_readable_after_a_move_and_not_for_long(snapshots: Snapshots, watch: Watch) -> None:
    assert watch.descriptor is not None
    assert select.select([watch.descriptor], [], [], 0)[0] == []
    snapshots.publish({"a.py": "2"})
    assert select.select([watch.descriptor], [], [], 1)[0] == [watch.descriptor]
    assert watch.moved()
    assert select.select([watch.descriptor], [], [], 0)[0] == []


def test_a_failure_is_said_and_is_the_last_one(watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    with watch.guarding():
        raise AttributeError("another version")
    assert watch.broken
    assert "intervals" in caplog.text
