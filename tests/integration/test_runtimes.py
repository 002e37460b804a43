"""Runtimes are installed once, whoever asks and whatever was killed before. Real packages, real uv."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from openmwaa.airflow.versions import VERSIONS
from openmwaa.artifacts.runtimes import RuntimeProgress, RuntimeStore, Stage
from openmwaa.kit.errors import GiveUp, Retry
from openmwaa.settings import Settings
from tests.support.eventually import eventually
from tests.support.service import RUNTIMES_FOLDER, a_home

pytestmark = [pytest.mark.timeout(900), pytest.mark.thorough]

VERSION = "2.11.2"
LOCKS = {VERSION: VERSIONS[VERSION].lock}
_INSTALL = f"""
import asyncio, sys
from pathlib import Path
from openmwaa.artifacts.runtimes import RuntimeStore
from openmwaa.settings import Settings
store = RuntimeStore(Settings(home=Path(sys.argv[1])), {{{VERSION!r}: Path({str(LOCKS[VERSION])!r})}})
print(asyncio.run(store.ensure({VERSION!r})).path)
"""


@pytest.fixture(scope="module", autouse=True)
def folder_of_their_own() -> Iterator[None]:
    """These tests break what they install."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(RUNTIMES_FOLDER, raising=False)
        yield


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with a_home() as path:
        yield path


def store(home: Path) -> RuntimeStore:
    return RuntimeStore(Settings(home=home), LOCKS)


def installer(home: Path, *, umask: int = 0o077) -> subprocess.Popen[str]:
    """Start another process that wants the same runtime, under a strict umask."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _INSTALL, str(home)],
        stdout=subprocess.PIPE,
        text=True,
        umask=umask,
    )


def test_a_killed_build_is_done_again_and_two_at_once_do_it_once(home: Path) -> None:
    """After `kill -9` half-way, two processes and a task at once end with one whole runtime."""
    path = store(home).locate(VERSION).path
    victim = installer(home)
    eventually(
        lambda: sum(1 for _ in path.glob("lib/python*/site-packages/*")) > 20,
        within_s=300,
        every_s=0.02,
        what="build half done",
    )
    os.kill(victim.pid, signal.SIGKILL)
    victim.communicate()
    assert not store(home).is_installed(VERSION)

    others = [installer(home), installer(home)]
    seen: list[RuntimeProgress] = []
    runtime = asyncio.run(store(home).ensure(VERSION, seen.append))
    for other in others:
        stdout, _ = other.communicate(timeout=300)
        assert stdout.split()[-1] == str(path)
    assert runtime.path == path
    assert seen[-1].stage is Stage.DONE
    assert store(home).is_installed(VERSION)


def test_an_installed_runtime_is_there_at_once(home: Path) -> None:
    """The second call reads one file."""
    started = time.monotonic()
    asyncio.run(store(home).ensure(VERSION))
    assert time.monotonic() - started < 1


def test_every_user_can_read_it_and_byte_code_is_compiled(home: Path) -> None:
    """Environments run as users of their own and can write nothing there."""
    path = store(home).locate(VERSION).path
    for entry in (path, *path.rglob("*")):
        mode = entry.stat().st_mode
        assert mode & stat.S_IROTH, entry
        assert not mode & (stat.S_IWOTH | stat.S_IWGRP), entry
        assert mode & stat.S_IXOTH or not entry.is_dir(), entry
    assert len(list(path.glob("lib/python*/site-packages/airflow/__pycache__/*.pyc"))) > 10


def test_the_list_tells_sizes(home: Path) -> None:
    """What is installed is listed with its size, what is not without."""
    locks = LOCKS | {"3.3.1": VERSIONS["3.3.1"].lock}
    listed = {one.version: one for one in RuntimeStore(Settings(home=home), locks).list()}
    assert listed[VERSION].installed
    assert 300 * 1024**2 < listed[VERSION].size_bytes < 2 * 1024**3
    assert not listed["3.3.1"].installed


def test_an_older_runtime_is_still_listed(home: Path) -> None:
    """A runtime of an older lock may be in use: it is shown as not current."""
    listed = RuntimeStore(Settings(home=home), {}).list()
    assert [(one.version, one.current) for one in listed] == [(VERSION, False)]


def test_an_unknown_version_is_given_up(home: Path) -> None:
    with pytest.raises(GiveUp, match=r"Airflow 1\.0 is not supported"):
        asyncio.run(store(home).ensure("1.0"))


def test_packages_that_are_not_what_was_locked_are_given_up(tmp_path: Path) -> None:
    """A file with another hash is refused, and nothing counts as installed."""
    lock = tmp_path / "1.0.txt"
    lock.write_text(f"certifi==2025.8.3 \\\n    --hash=sha256:{'0' * 64}\n")
    bad = RuntimeStore(Settings(home=tmp_path), {"1.0": lock})
    with pytest.raises(GiveUp, match="could not be installed") as caught:
        asyncio.run(bad.ensure("1.0"))
    assert "hash" in caught.value.evidence.lower()
    assert not bad.is_installed("1.0")


def test_an_index_that_does_not_answer_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No network is not the user's fault: the caller tries later."""
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    lock = tmp_path / "1.0.txt"
    lock.write_text(f"certifi==2025.8.3 \\\n    --hash=sha256:{'0' * 64}\n")
    with pytest.raises(Retry, match="did not answer"):
        asyncio.run(RuntimeStore(Settings(home=tmp_path), {"1.0": lock}).ensure("1.0"))


def test_a_full_disk_is_said_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little space is found before anything is downloaded."""
    monkeypatch.setattr("openmwaa.artifacts.runtimes._SPACE_BYTES", 1 << 60)
    with pytest.raises(GiveUp, match="free space") as caught:
        asyncio.run(RuntimeStore(Settings(home=tmp_path), LOCKS).ensure(VERSION))
    assert caught.value.code == "DISK_FULL"


def test_a_user_without_a_home_can_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """uv's cache then lies beside the runtimes; only a wrong package makes this one fail."""
    for name in ("HOME", "XDG_CACHE_HOME", "UV_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    lock = tmp_path / "1.0.txt"
    lock.write_text(f"certifi==2025.8.3 \\\n    --hash=sha256:{'0' * 64}\n")
    with pytest.raises(GiveUp):
        asyncio.run(RuntimeStore(Settings(home=tmp_path), {"1.0": lock}).ensure("1.0"))
    assert (tmp_path / "runtimes" / ".uv-cache").is_dir()
