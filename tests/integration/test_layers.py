"""Layers on a real runtime: what is built, what is refused and why, and what strangers' code cannot do.

All packages are made here and come from plugins.zip; no test needs an index.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from openmwaa.airflow.versions import VERSIONS
from openmwaa.artifacts.layers import Layer, LayerInputs, LayerProgress, LayerStage, LayerStore
from openmwaa.artifacts.runtimes import Runtime, RuntimeStore
from openmwaa.kit.errors import GiveUp, Retry
from openmwaa.services.users import prepare_home, service_user
from openmwaa.settings import Settings
from tests.support.eventually import eventually
from tests.support.packages import plugins_zip, sdist, wheel
from tests.support.service import KEPT_HOME, a_home, clean_environment

pytestmark = pytest.mark.timeout(600)

VERSION = "3.3.1"
PORT_BASE = 31750
LOCAL = "--no-index\n--find-links /usr/local/airflow/plugins\n"
OVERRIDABLE = "tabulate"
"""A package that the runtime has and that is not essential."""

PROVIDER = {"airflow/__init__.py": "WRONG = 1\n", "airflow/providers/acme/__init__.py": "NAME = 'acme'\n"}
_BUILD = """
import asyncio, sys
from pathlib import Path
from openmwaa.artifacts.layers import LayerInputs, LayerStore
from openmwaa.artifacts.runtimes import Runtime
from openmwaa.services.users import service_user
from openmwaa.settings import Settings
home, runtime, plugins = map(Path, sys.argv[1:4])
settings = Settings(home=home, port_base=int(sys.argv[4]))
user = service_user(settings)
store = LayerStore(settings, first_uid=user.uid if user.switch else None)
inputs = LayerInputs(Runtime(runtime.name, sys.argv[5], runtime), sys.argv[6].encode(), plugins)
print(asyncio.run(store.ensure(inputs)).path)
"""


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with a_home() as path:
        prepare_home(Settings(home=path, port_base=PORT_BASE))
        yield path


@pytest.fixture(scope="module")
def runtime(home: Path) -> Runtime:
    """One runtime for all tests here; from the kept home if there is one."""
    where = Settings(home=Path(KEPT_HOME) if KEPT_HOME else home)
    return asyncio.run(RuntimeStore(where, {VERSION: VERSIONS[VERSION].lock}).ensure(VERSION))


@pytest.fixture
def store(home: Path) -> LayerStore:
    return a_store(home)


def a_store(home: Path, *, limit_s: float = 120) -> LayerStore:
    settings = Settings(home=home, port_base=PORT_BASE)
    user = service_user(settings)
    return LayerStore(settings, first_uid=user.uid if user.switch else None, limit_s=limit_s)


def inputs(
    runtime: Runtime, folder: Path, requirements: str, *packages: tuple[str, bytes], **files: str
) -> LayerInputs:
    """Return inputs whose packages are in plugins.zip."""
    plugins = plugins_zip(folder / "plugins.zip", *packages, **files)
    return LayerInputs(runtime, (LOCAL + requirements).encode(), plugins)


async def refused(store: LayerStore, wanted: LayerInputs) -> GiveUp:
    with pytest.raises(GiveUp) as caught:
        await store.ensure(wanted)
    assert not store.locate(wanted.id).exists()
    assert not left_over(store)
    return caught.value


def left_over(store: LayerStore) -> list[str]:
    return [path.name for path in store._builds.iterdir() if path.is_dir() and path.name != "cache"]


def run(layer: Layer, code: str, *flags: str) -> str:
    """Run Python code in the layer."""
    return subprocess.run(
        [layer.venv / "bin" / "python", *flags, "-c", code],
        env={**clean_environment(), "AIRFLOW_HOME": str(layer.path.parent)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


async def test_added_packages_work_beside_those_of_the_runtime(
    store: LayerStore, runtime: Runtime, tmp_path: Path
) -> None:
    """A library, a provider and a plugin: imported, listed, on the path, readable by everybody."""
    wanted = inputs(
        runtime,
        tmp_path,
        "acme_tools==1.2\nairflow-provider-acme\n",
        wheel("acme_tools", "1.2", scripts={"acme": "acme_tools:main"}),
        wheel("airflow_provider_acme", "3.0", PROVIDER, requires=["requests"]),
        my_plugin="from acme_tools import VERSION\n",
    )
    seen: list[LayerProgress] = []
    layer = await store.ensure(wanted, seen.append)
    assert layer.facts["added"] == {"acme-tools": "1.2", "airflow-provider-acme": "3.0"}
    assert not layer.facts["overrides"]
    assert layer.warnings == ()
    assert seen[-1].stage is LayerStage.DONE
    assert {one.stage for one in seen} >= {LayerStage.RESOLVING, LayerStage.VERIFYING}

    code = (
        "import acme_tools, airflow, airflow.version, requests, subprocess, sys\n"
        "from airflow.providers import acme\n"
        "from importlib.metadata import version\n"
        "child = subprocess.run([sys.executable, '-c', 'import acme_tools; print(acme_tools.VERSION)'],"
        " capture_output=True, text=True).stdout.strip()\n"
        "print(acme_tools.VERSION, acme.NAME, hasattr(airflow, 'WRONG'), version('acme-tools'), child,"
        " airflow.version.version)"
    )
    assert run(layer, code) == f"1.2 acme False 1.2 1.2 {VERSION}"
    assert (layer.venv / "bin" / "acme").exists()
    first = (layer.venv / "bin" / "airflow").read_bytes().partition(b"\n")[0]
    assert str(layer.venv) in first.decode() or first == b"#!/bin/sh"
    version = subprocess.run(
        [layer.venv / "bin" / "airflow", "version"],
        env={"AIRFLOW_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert version.stdout.split()[-1] == VERSION

    assert (layer.path / "plugins" / "my_plugin.py").exists()
    assert (layer.path / "requirements" / "requirements.txt").read_bytes() == wanted.requirements
    assert list((layer.path / "plugins" / "__pycache__").glob("my_plugin.*.pyc"))
    for entry in (layer.path, *layer.path.rglob("*")):
        found = entry.lstat()
        assert found.st_uid == os.geteuid(), entry
        if not stat.S_ISLNK(found.st_mode):
            assert found.st_mode & stat.S_IROTH, entry
            assert not found.st_mode & (stat.S_IWOTH | stat.S_IWGRP | stat.S_ISUID), entry
            assert found.st_mode & stat.S_IXOTH or not entry.is_dir(), entry


async def test_the_same_files_are_built_once(store: LayerStore, runtime: Runtime, tmp_path: Path) -> None:
    """The second call, and one by id alone, read one file."""
    wanted = inputs(runtime, tmp_path, "once\n", wheel("once", "1"))
    first = await store.ensure(wanted)
    built = (first.path / "layer.json").stat().st_mtime_ns
    started = time.monotonic()
    again = await store.ensure(inputs(runtime, tmp_path, "once\n", wheel("once", "1")))
    by_id = await store.use(first.id)
    assert time.monotonic() - started < 1
    assert by_id == again == first
    assert (again.path / "layer.json").stat().st_mtime_ns == built
    assert await store.use(f"{runtime.id}-000000000000") is None


async def test_a_package_of_the_runtime_is_replaced_only_by_opting_out(
    store: LayerStore, runtime: Runtime, tmp_path: Path
) -> None:
    """`# -c …` takes the runtime's pins away (mwaa.md 5.3); the layer's version wins, the runtime keeps its own."""
    packages = (wheel(OVERRIDABLE, "99.0"),)
    refusal = await refused(store, inputs(runtime, tmp_path, f"{OVERRIDABLE}==99.0\n", *packages))
    assert refusal.code == "REQUIREMENTS_CONFLICT"
    assert f"line 3: {OVERRIDABLE}==99.0 conflicts with {OVERRIDABLE}==" in refusal.reason
    assert f"which Airflow {VERSION}'s own lock pins" in refusal.reason

    wanted = inputs(runtime, tmp_path, f"# -c none\n{OVERRIDABLE}==99.0\n", *packages)
    assert wanted.requirements is not None
    resolution = await store.resolve(runtime, wanted.requirements, wanted.plugins)
    before = resolution.changed[OVERRIDABLE][0]
    assert dict(resolution.changed) == {OVERRIDABLE: (before, "99.0")}
    assert resolution.overrides
    assert resolution.packages[OVERRIDABLE] == "99.0"
    assert not left_over(store)

    layer = await store.ensure(wanted)
    assert layer.facts["changed"] == {OVERRIDABLE: [before, "99.0"]}
    code = f"import {OVERRIDABLE} as t; from importlib.metadata import version; print(t.VERSION, version({OVERRIDABLE!r}))"
    assert run(layer, code) == "99.0 99.0"
    untouched = subprocess.run(
        [
            runtime.path / "bin" / "python",
            "-c",
            f"from importlib.metadata import version; print(version({OVERRIDABLE!r}))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert untouched.stdout.strip() == before


async def test_what_the_runtime_needs_in_another_version_is_a_warning(
    store: LayerStore, runtime: Runtime, tmp_path: Path
) -> None:
    """Opting out is the user's choice; which packages may suffer is said before anything is built."""
    resolution = await store.resolve(
        runtime,
        f"# -c none\n{LOCAL}httpx==0.1\n".encode(),
        plugins_zip(tmp_path / "plugins.zip", wheel("httpx", "0.1")),
    )
    assert any("needs httpx" in warning and "the layer has 0.1" in warning for warning in resolution.warnings)


async def test_essential_packages_are_never_replaced(
    store: LayerStore, runtime: Runtime, tmp_path: Path
) -> None:
    """Also not by opting out (mwaa.md 5.3)."""
    refusal = await refused(
        store, inputs(runtime, tmp_path, "# -c none\nSQLAlchemy==99\n", wheel("sqlalchemy", "99"))
    )
    assert refusal.code == "REQUIREMENTS_CONFLICT"
    assert "line 4: SQLAlchemy==99 conflicts with sqlalchemy==" in refusal.reason


@pytest.mark.parametrize(
    ("requirements", "packages", "reason"),
    [
        (
            "needy\n",
            [wheel("needy", "1.0", requires=[f"{OVERRIDABLE}<0.1"])],
            rf"line 3: needy needs {OVERRIDABLE}<0\.1, which conflicts with {OVERRIDABLE}==[\d.]+, which Airflow",
        ),
        (
            "thing==1.0\n# a comment\nthing==2.0\n",
            [wheel("thing", "1.0"), wheel("thing", "2.0")],
            r"line 3: thing==1\.0 conflicts with line 5: thing==2\.0",
        ),
        (
            "user==1.0\nthing==1.0\n",
            [wheel("user", "1.0", requires=["thing>=2"]), wheel("thing", "1.0"), wheel("thing", "2.0")],
            r"line 3: user==1\.0 needs thing>=2, which conflicts with line 4: thing==1\.0",
        ),
    ],
    ids=["with the runtime", "two lines", "behind a line"],
)
async def test_a_conflict_names_both_sides(
    store: LayerStore,
    runtime: Runtime,
    tmp_path: Path,
    requirements: str,
    packages: list[tuple[str, bytes]],
    reason: str,
) -> None:
    started = time.monotonic()
    refusal = await refused(store, inputs(runtime, tmp_path, requirements, *packages))
    assert time.monotonic() - started < 60
    assert refusal.code == "REQUIREMENTS_CONFLICT"
    assert re.match(reason, refusal.reason), refusal.reason
    assert refusal.fix


@pytest.mark.parametrize(
    ("requirements", "packages", "code", "reason"),
    [
        (
            "no-such-package==1\n",
            [],
            "REQUIREMENTS_NOT_FOUND",
            "line 3: no-such-package==1: no-such-package does not",
        ),
        (
            "thing==9\n",
            [wheel("thing", "1")],
            "REQUIREMENTS_NOT_FOUND",
            "line 3: thing==9: thing has no such version",
        ),
        (
            "\nthing=1\n",
            [],
            "REQUIREMENTS_SYNTAX",
            "line 4: thing=1 is not valid: no such comparison operator",
        ),
        ("thing one\n", [], "REQUIREMENTS_SYNTAX", "line 3: thing one is not valid: Expected one of"),
        ("--no-such-option\n", [], "REQUIREMENTS_SYNTAX", "line 3: --no-such-option is not valid"),
        ("-e .\n", [], "REQUIREMENTS_UNSUPPORTED", "line 3: -e . cannot be used"),
        (
            "broken\n",
            [("broken-1.0-py3-none-any.whl", b"PK\x03\x04 cut off")],
            "REQUIREMENTS_BUILD_FAILED",
            "line 3: broken",
        ),
        (
            "failing\n",
            [sdist("failing", "1.0", code="raise RuntimeError('no compiler here')")],
            "REQUIREMENTS_BUILD_FAILED",
            "line 3: failing: failing==1.0 cannot be built or unpacked: RuntimeError: no compiler here",
        ),
        (
            "unusable\n",
            [wheel("unusable", "1.0", {"unusable.py": "import not_there_at_all\n"})],
            "LAYER_IMPORT_FAILED",
            "line 3: unusable installs, but import unusable fails: ModuleNotFoundError",
        ),
        (
            "crashing\n",
            [wheel("crashing", "1.0", {"crashing.py": "import os; os.abort()\n"})],
            "LAYER_IMPORT_FAILED",
            "line 3: crashing installs, but import crashing fails: the process ended with signal 6",
        ),
    ],
    ids=lambda value: value.strip().split("\n")[0] if isinstance(value, str) else "",
)
async def test_what_cannot_work_is_refused_with_its_cause(
    store: LayerStore,
    runtime: Runtime,
    tmp_path: Path,
    requirements: str,
    packages: list[tuple[str, bytes]],
    code: str,
    reason: str,
) -> None:
    refusal = await refused(store, inputs(runtime, tmp_path, requirements, *packages))
    assert (refusal.code, refusal.reason[: len(reason)]) == (code, reason)
    assert str(store._builds) not in refusal.reason + refusal.evidence


async def test_side_modules_that_do_not_import_are_warnings(
    store: LayerStore, runtime: Runtime, tmp_path: Path
) -> None:
    """Nobody asked for them by name, and much of what is published does not import everywhere."""
    layer = await store.ensure(
        inputs(
            runtime,
            tmp_path,
            "wanted\n",
            wheel("wanted", "1.0", requires=["behind"]),
            wheel("behind", "1.0", {"behind.py": "import os; os.abort()\n"}),
        )
    )
    assert any(
        "import behind (behind) fails: the process ended with signal 6" in one for one in layer.warnings
    )


async def test_a_source_distribution_is_built_and_used(
    store: LayerStore, runtime: Runtime, tmp_path: Path
) -> None:
    layer = await store.ensure(
        inputs(runtime, tmp_path, "sourced\n", sdist("sourced", "1.0", module="VALUE = 42\n"))
    )
    assert layer.facts["built_from_source"]
    assert run(layer, "import sourced; print(sourced.VALUE)") == "42"


async def test_an_endless_build_is_killed_with_all_it_started(
    home: Path, runtime: Runtime, tmp_path: Path
) -> None:
    """Also a grandchild in a session of its own, orphaned and without our variables."""
    code = (
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        os.execve('/bin/sleep', ['sleep', '31750.5'], {})\n"
        "    os._exit(0)\n"
        "time.sleep(10000)\n"
    )
    store = a_store(home, limit_s=40)
    wanted = inputs(runtime, tmp_path, "endless\n", sdist("endless", "1.0", code=code))
    build = asyncio.create_task(store.ensure(wanted))
    await asyncio.to_thread(eventually, sleepers, within_s=39, what="build under way")
    with pytest.raises(GiveUp, match="not ready after 40 s") as caught:
        await build
    assert caught.value.code == "REQUIREMENTS_TIMEOUT"
    assert not sleepers()
    assert not store.locate(wanted.id).exists()


def sleepers() -> list[int]:
    return [
        one.pid for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", "31750.5"]
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="separate users need root")
async def test_code_of_packages_sees_and_writes_nothing_of_ours(
    store: LayerStore, home: Path, runtime: Runtime, tmp_path: Path
) -> None:
    """While it is built and while it is imported."""
    settings = Settings(home=home, port_base=PORT_BASE)
    key = settings.layout.master_key
    key.write_bytes(b"k" * 32)
    key.chmod(0o600)
    other = await store.ensure(inputs(runtime, tmp_path, "victim\n", wheel("victim", "1.0")))
    (home / "open-to-all").write_text("still hidden")
    read = [str(key), str(home / "open-to-all"), str(other.path / "layer.json"), "/etc/shadow"]
    write = [
        str(home / "x"),
        str(other.path / "plugins" / "x"),
        str(runtime.path / "x"),
        str(settings.layout.layer_builds / "cache" / "x"),
        *("/tmp/../var/tmp/x", "/dev/shm/x", "/run/lock/x", "/etc/x"),
    ]
    code = (
        "import os\nfound = [f'uid {os.getuid()}' if os.getuid() == 0 else '']\n"
        f"for path in {read!r}:\n"
        "    try: found.append('read ' + path + open(path).read()[:9])\n"
        "    except OSError: pass\n"
        f"for path in {write!r}:\n"
        "    try: open(path, 'w').close(); found.append('wrote ' + path)\n"
        "    except OSError: pass\n"
        "try: os.kill(os.getppid(), 0) if os.getppid() == 1 else None; os.kill(1, 0); found.append('kill')\n"
        "except OSError: pass\n"
    )
    module = code + "FOUND = found\nif any(found): raise ImportError(repr(found))\n"
    wanted = inputs(
        runtime,
        tmp_path,
        "nosy\n",
        sdist("nosy", "1.0", code=code + "if any(found): raise RuntimeError(repr(found))\n", module=module),
    )
    layer = await store.ensure(wanted)
    assert layer.facts["isolation"] == "user+mounts"
    assert not Path("/var/tmp/x").exists()


async def test_plugins_that_lead_out_are_refused_whole(
    store: LayerStore, runtime: Runtime, tmp_path: Path
) -> None:
    plugins = plugins_zip(tmp_path / "plugins.zip", ("../../evil.py", b""))
    refusal = await refused(store, LayerInputs(runtime, None, plugins))
    assert refusal.code == "PLUGINS_INVALID"
    assert "leads out of the folder" in refusal.reason


async def test_plugins_and_a_script_alone_make_a_layer(
    store: LayerStore, runtime: Runtime, tmp_path: Path
) -> None:
    """Without requirements: Airflow starts from the layer as from the runtime."""
    layer = await store.ensure(
        LayerInputs(runtime, None, plugins_zip(tmp_path / "p.zip", mine="X = 1\n"), b"export A=1\n")
    )
    assert (layer.path / "startup" / "startup.sh").read_text() == "export A=1\n"
    assert run(layer, "import airflow.version as v; print(v.version)") == VERSION


async def test_an_index_that_does_not_answer_is_tried_again(
    store: LayerStore, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No network is not the user's fault."""
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(Retry, match="did not answer"):
        await store.ensure(LayerInputs(runtime, b"--index-url http://127.0.0.1:9/simple\nanything\n"))
    assert not left_over(store)


async def test_a_killed_builder_leaves_nothing_that_the_next_one_minds(
    store: LayerStore, home: Path, runtime: Runtime, tmp_path: Path
) -> None:
    """`kill -9` of the process in the middle of a build; then two at once build it once."""
    code = "time.sleep(4)\n"
    wanted = inputs(runtime, tmp_path, "slow\n", sdist("slow", "1.0", code=code))
    command = [
        *(sys.executable, "-W", "ignore", "-c", _BUILD, str(home), str(runtime.path), str(wanted.plugins)),
        *(str(PORT_BASE), VERSION, (wanted.requirements or b"").decode()),
    ]
    victim = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    await asyncio.to_thread(eventually, lambda: build_running(wanted.id), within_s=60, what="build under way")
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    layer = await store.ensure(wanted)
    stdout, _ = await asyncio.to_thread(other.communicate, timeout=120)
    assert stdout.split()[-1] == str(layer.path)
    assert layer.facts["packages"] == {"slow": "1.0"}
    assert not left_over(store)


def build_running(layer_id: str) -> bool:
    """Whether a build of a source distribution of this layer runs."""
    for process in psutil.process_iter(["environ", "cmdline"]):
        environment = process.info["environ"] or {}
        marker = environment.get("OPENMWAA_PROCESS", "")
        if layer_id in marker and "UV_INTERNAL__BUILD_DIR" in environment:
            return True
    return False


async def test_only_unused_layers_are_removed(store: LayerStore, runtime: Runtime, tmp_path: Path) -> None:
    """One in use never; one used a moment ago not yet; what killed builds left always."""
    layers = [await store.ensure(inputs(runtime, tmp_path, f"g{n}\n", wheel(f"g{n}", "1"))) for n in range(3)]
    for layer in layers[:2]:
        os.utime(store._stamp(layer.id), (1, 1))
    (store._builds / "resolve-of-a-killed-one").mkdir()
    removed = await store.collect_garbage({layers[0].id}, unused_for_s=3600)
    assert layers[1].id in removed
    assert [store.is_built(layer.id) for layer in layers] == [True, False, True]
    assert not layers[1].path.exists()
    assert not left_over(store)
    assert (await store.ensure(inputs(runtime, tmp_path, "g1\n", wheel("g1", "1")))).id == layers[1].id
    assert json.loads((layers[1].path / "layer.json").read_text())["packages"] == {"g1": "1"}
