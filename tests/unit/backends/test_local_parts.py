"""The parts of the local backend that need no processes: folders, probes, names."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from openmwaa.backends.local.backend import without_password
from openmwaa.backends.local.folders import EnvironmentFolders
from openmwaa.backends.local.probes import Prober
from openmwaa.backends.local.replicas import Replica, base_variables, kind_and_index
from openmwaa.environments.manifest import Component, FileProbe, Kind
from openmwaa.settings.layout import Layout

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users")
UID = 712_345_678


@pytest.fixture
def folders(tmp_path: Path) -> EnvironmentFolders:
    return EnvironmentFolders.of(Layout(tmp_path), "abc")


def test_places_in_a_command_are_filled_in() -> None:
    component = Component(
        Kind.WEBSERVER, 2, ("python", "{address}:{port}", "{index}", "{other}", "$HOME"), port=8080
    )
    argv = Replica(component, 1, "hash").argv(address="127.1.2.3", runtime=Path("/r"))
    assert argv == ("/r/bin/python", "127.1.2.3:8081", "1", "{other}", "$HOME")


def test_names_of_replicas_are_told_from_other_names() -> None:
    assert kind_and_index("dag-processor-12") == (Kind.DAG_PROCESSOR, 12)
    assert [kind_and_index(name) for name in ("broker", "run-abc", "worker", "worker-x")] == [None] * 4


def test_next_to_nothing_is_inherited_from_the_agent() -> None:
    host = {"TZ": "UTC", "AWS_SECRET_ACCESS_KEY": "x", "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/root"}
    assert base_variables(host) == {"TZ": "UTC"}


async def test_a_touched_file_is_ready_unless_old_or_a_predecessors(tmp_path: Path) -> None:
    prober = Prober()
    file = tmp_path / "worker-3.ready"

    async def ready(*, since: datetime) -> bool:
        probe = FileProbe("worker-{index}.ready", 10.0)
        return await prober.is_ready(probe, index=3, home=tmp_path, address="", port=None, since=since)

    earlier = datetime.now(UTC) - timedelta(seconds=60)
    assert not await ready(since=earlier)
    file.touch()
    assert await ready(since=earlier)
    assert not await ready(since=datetime.now(UTC) + timedelta(seconds=1))
    os.utime(file, (time.time() - 11, time.time() - 11))
    assert not await ready(since=earlier)
    await prober.close()


@as_root
def test_each_folder_has_its_owner_and_nobody_else_looks_in(folders: EnvironmentFolders) -> None:
    for _ in range(2):
        folders.make(uid=UID, gid=UID, dags_target="/somewhere")
    seen = {
        path.name: (path.stat().st_uid, path.stat().st_gid, oct(path.stat().st_mode & 0o7777))
        for path in (folders.root, folders.airflow_home, folders.mirror, folders.temporary, folders.logs)
    }
    assert seen == {
        "abc": (0, 0, "0o711"),
        "airflow": (UID, UID, "0o700"),
        "mirror": (0, UID, "0o750"),
        "tmp": (0, 0, "0o1777"),
        "logs": (0, 0, "0o700"),
    }
    assert os.readlink(folders.airflow_home / "dags") == "/somewhere"


@as_root
def test_an_interrupted_start_is_completed(folders: EnvironmentFolders) -> None:
    """Killed between making a folder and giving it away."""
    folders.airflow_home.mkdir(parents=True)
    (folders.airflow_home / "run").mkdir()
    folders.make(uid=UID, gid=UID, dags_target="/x")
    assert {path.lstat().st_uid for path in folders.airflow_home.iterdir()} == {UID, 0}  # 0: the link
    assert (folders.airflow_home / "run").stat().st_uid == UID


@as_root
def test_another_user_gets_the_content_too(folders: EnvironmentFolders) -> None:
    """Isolation was switched on, or the port base changed."""
    folders.make(uid=UID, gid=UID, dags_target="/x")
    (folders.airflow_home / "logs" / "kept").write_text("kept")
    folders.make(uid=UID + 1, gid=UID + 1, dags_target="/y")
    assert (folders.airflow_home / "logs" / "kept").stat().st_uid == UID + 1
    assert (folders.airflow_home / "logs" / "kept").read_text() == "kept"
    assert os.readlink(folders.airflow_home / "dags") == "/y"


@as_root
def test_a_link_that_a_tenant_put_in_the_way_is_not_followed(
    folders: EnvironmentFolders, tmp_path: Path
) -> None:
    folders.make(uid=UID, gid=UID, dags_target="/x")
    mine = tmp_path / "mine"
    mine.mkdir(mode=0o700)
    (folders.airflow_home / "plugins").rmdir()
    (folders.airflow_home / "plugins").symlink_to(mine)
    folders.make(uid=UID, gid=UID, dags_target="/x")
    assert (mine.stat().st_uid, mine.stat().st_mode & 0o777) == (0, 0o700)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:p%40ss@broker.example:6380/2", "redis://broker.example:6380/2"),
        ("rediss://:secret@broker.example", "rediss://broker.example"),
        ("redis://broker.example:6379/0", "redis://broker.example:6379/0"),
    ],
)
def test_a_brokers_address_is_shown_without_its_password(url: str, shown: str) -> None:
    """The manifest is kept in a file; the whole address reaches components sealed."""
    assert without_password(url) == shown
