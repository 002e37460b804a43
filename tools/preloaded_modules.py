"""Record which modules Airflow's components import, for `openmwaa_airflow/zygote/lists`.

`tools/preloaded_modules.py [VERSION…]` runs every component of a version without a preloaded process,
lets it work, and notes its modules, those of workers and their tasks apart. What is written is short: a module
is left out that another one of the list imports. With `--options`, modules stay as recorded, and what is noted is which
options they read when they are imported and which loggers they make. Runtimes are those of OPENMWAA_RUNTIMES_FOLDER.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import httpx

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "src")]

from openmwaa.airflow.versions import VERSIONS  # noqa: E402 - found by the line above
from openmwaa.artifacts.runtimes import Runtime, RuntimeStore  # noqa: E402
from openmwaa.settings import Settings  # noqa: E402
from openmwaa_airflow.zygote.modules import excluded_from  # noqa: E402
from tests.airflow import bare  # noqa: E402
from tests.support.specs import a_spec  # noqa: E402

LISTS = REPOSITORY / "src" / "openmwaa_airflow" / "zygote" / "lists"
PORT = 33790
WORK_S = 120

DAG = """
from datetime import datetime
import time
try:
    from airflow.sdk import DAG, Asset, Param, Variable, chain, dag, get_current_context, task, task_group
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.providers.standard.operators.python import PythonOperator
    from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync
except ImportError:
    from airflow import DAG
    from airflow.decorators import dag, task, task_group
    from airflow.models import Param, Variable
    from airflow.models.baseoperator import chain
    from airflow.operators.bash import BashOperator
    from airflow.operators.python import PythonOperator
    from airflow.sensors.date_time import DateTimeSensorAsync

with DAG("everyday", start_date=datetime(2024, 1, 1), schedule=None, is_paused_upon_creation=False):
    # They last until what they have imported is noted.
    @task
    def flow():
        time.sleep(3)
        return [1]

    (
        BashOperator(task_id="shell", bash_command="sleep 3; echo hello")
        >> PythonOperator(task_id="python", python_callable=lambda: time.sleep(3) or {"a": 1})
        >> flow()
        >> DateTimeSensorAsync(task_id="later", target_time="2024-01-01T00:00:00+00:00")
    )
"""

RECORDER = """
import atexit, os, sys, threading, time

def note():
    path = os.path.join(os.environ["OPENMWAA_RECORD"], f"{os.getpid()}")
    names = [name for name, module in list(sys.modules.items()) if getattr(module, "__spec__", None)]
    with open(path + ".part", "w") as file:
        file.write("\\n".join(names))
    os.rename(path + ".part", path)

def record():
    while True:
        time.sleep(1)
        note()

def begin():
    threading.Thread(target=record, daemon=True).start()
    atexit.register(note)

if "OPENMWAA_RECORD" in os.environ:
    os.register_at_fork(after_in_child=begin)
    begin()
"""

REDUCE = """
import importlib, sys
from openmwaa_airflow.zygote import preload
from openmwaa_airflow.zygote.journal import Journal
roots = []
with preload.watching(Journal(), sys.argv[1:]):
    for name in sys.stdin.read().split():
        if name not in sys.modules:
            try:
                importlib.import_module(name)
            except Exception as error:
                print(f"{name}: {error!r}"[:300], file=sys.stderr)
            else:
                roots.append(name)
print("\\n".join(["", "found:", *roots]))
"""

THEN_LOGGERS = "loggers:"
OPTIONS = """
import sys
from openmwaa_airflow.zygote.modules import excluded_from, modules_of
from openmwaa_airflow.zygote.preload import preload
version = sys.argv[1]
workers, others = modules_of(version)
journal, failed = preload(workers, others, excluded_from(version))
print(*failed, sep="\\n", file=sys.stderr)
read = sorted({".".join(one.option) for one in journal.options if one.option[1]})
import logging
plain = sorted(name for name, one in logging.root.manager.loggerDict.items() if type(one) is logging.Logger)
print("\\n".join(["", "found:", *read, LOGGERS, *plain]))
""".replace("LOGGERS", repr(THEN_LOGGERS))


def main() -> None:
    """Record each version in turn."""
    store = RuntimeStore(Settings(), {version: row.lock for version, row in VERSIONS.items()})
    modules_too = "--options" not in sys.argv
    for version in [one for one in sys.argv[1:] if not one.startswith("-")] or VERSIONS:
        runtime = asyncio.run(store.ensure(version))
        if modules_too:
            of_workers, names = recorded(version, runtime)
            roots = reduced(runtime, names)
            for file, what, wanted in (
                (f"{version}.workers.txt", "of workers", True),
                (f"{version}.txt", "of the rest", False),
            ):
                count = sum((name in of_workers) is wanted for name in names)
                chosen = [name for name in roots if (name in of_workers) is wanted]
                write(file, f"Airflow {version}: {count} modules {what}", chosen)
        noted = probed(runtime, OPTIONS, version)
        then = noted.index(THEN_LOGGERS)
        write(f"{version}.options.txt", f"Airflow {version}: options that imports read", noted[:then])
        write(f"{version}.loggers.txt", f"Airflow {version}: loggers that imports make", noted[then + 1 :])


def write(name: str, title: str, lines: list[str]) -> None:
    """Write one of the lists."""
    header = f"# {title}; tools/preloaded_modules.py\n"
    (LISTS / name).write_text(header + "".join(f"{line}\n" for line in lines))
    print(f"{name}: {len(lines)} listed")  # noqa: T201


def recorded(version: str, runtime: Runtime) -> tuple[set[str], list[str]]:
    """Run everything for a while; return the modules of workers, and all in an order that works."""
    with (
        tempfile.TemporaryDirectory() as folder,
        bare.postgres(PORT) as database,
        bare.environment(
            version,
            runtime,
            database,
            spec=a_spec(airflow_version=version),
            address="127.90.62.1",
            dags={"everyday.py": DAG},
        ) as running,
    ):
        records = Path(folder, "records")
        records.mkdir()
        Path(folder, "sitecustomize.py").write_text(RECORDER)
        running.migrate()
        variables = dict(running.manifest.variables)
        variables |= {
            "OPENMWAA_RECORD": str(records),
            "PYTHONPATH": f"{folder}:{variables['PYTHONPATH']}",
        }
        running.manifest = type(running.manifest)(**{**vars(running.manifest), "variables": variables})
        running.start_all()
        work(running)
        for command in (
            ("airflow", "dags", "list"),
            ("airflow", "version"),
            ("airflow", "variables", "list"),
        ):
            running.run(*command)
        time.sleep(3)
        processes = sorted((path.read_text().split() for path in records.iterdir()), key=_rank)
        return {name for one in processes if _is_worker(one) for name in one}, merged(processes)


def work(running: bare.Environment) -> None:
    """Use what users use: a run with all kinds of task, and the API."""
    body = {} if running.version.startswith("2.") else {"logical_date": None}
    deadline = time.monotonic() + WORK_S
    state = ""
    run = ""
    while time.monotonic() < deadline and state not in ("success", "failed"):
        try:
            if not run:
                run = running.call("POST", "/dags/everyday/dagRuns", json=body).json()["dag_run_id"]
            state = running.call("GET", f"/dags/everyday/dagRuns/{run}").json()["state"]
        except (KeyError, httpx.HTTPError):
            pass
        time.sleep(1)
    print(f"{running.version}: the run ended in {state or 'nothing'}")  # noqa: T201
    for path in ("/dags", "/variables", "/connections", "/pools", "/eventLogs", "/importErrors", "/config"):
        running.call("GET", path)
    running.call("GET", f"/dags/everyday/dagRuns/{run}/taskInstances/shell/logs/1")
    running.call("GET", f"/dags/everyday/dagRuns/{run}/taskInstances")


def merged(lists: Iterable[list[str]]) -> list[str]:
    """Put lists together: what an earlier one has not, after it."""
    names = dict.fromkeys(name for one in lists for name in one)
    return [name for name in names if _is_theirs(name)]


def reduced(runtime: Runtime, names: list[str]) -> list[str]:
    """Return those that must be named for all to be imported."""
    return probed(runtime, REDUCE, *excluded_from(runtime.version), text="\n".join(names))


def probed(runtime: Runtime, code: str, *arguments: str, text: str = "") -> list[str]:
    """Run code that imports Airflow; return the lines after its line "found:"."""
    with tempfile.TemporaryDirectory() as home:
        ended = subprocess.run(
            [str(runtime.path / "bin" / "python"), "-P", "-c", code, *arguments],
            input=text,
            env={
                "AIRFLOW_HOME": home,
                "HOME": home,
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(REPOSITORY / "src"),
                "LANG": "C.UTF-8",
                "_AIRFLOW__AS_LIBRARY": "1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
    sys.stderr.write(ended.stderr)
    ended.check_returncode()
    return ended.stdout.partition("\nfound:\n")[2].split()


def _is_theirs(name: str) -> bool:
    """Return whether a module is a library's, not of one process or one environment."""
    if name.startswith(("__", "unusual_prefix", "airflow.macros", "tests")):
        return False
    return name not in ("sitecustomize", "usercustomize", "everyday")


def _is_worker(names: list[str]) -> bool:
    """Return whether a process is a worker, one of its pool, or a task."""
    return "celery.worker.worker" in names


def _rank(names: list[str]) -> tuple[bool, int]:
    """Order processes: workers first, for which a smaller process is forked before the rest is imported."""
    return not _is_worker(names), -len(names)


if __name__ == "__main__":
    main()
