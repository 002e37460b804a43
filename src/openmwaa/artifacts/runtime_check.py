"""Does an installed runtime work? More than that it imports: a broken set of packages often does.

Run in the runtime's own Python. Seen in sets that installed and imported (airflow.md 9): the
Celery executor could not be imported; the API had 13 routes instead of 125; no DAG ran.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Final

from openmwaa.artifacts.runtimes import Runtime
from openmwaa.kit.errors import GiveUp

_TIMEOUT_S: Final = 180.0
_SCRIPT: Final = """
import os, pathlib
home = pathlib.Path(os.environ["AIRFLOW_HOME"])
(home / "dags").mkdir()
(home / "dags" / "probe.py").write_text('''
import datetime
try:
    from airflow.sdk import dag, task
except ImportError:
    from airflow.decorators import dag, task

@dag(schedule=None, start_date=datetime.datetime(2024, 1, 1))
def probe():
    @task
    def one():
        return 1
    one()

probe()
''')
import airflow.providers.celery.executors.celery_executor
import airflow.providers.fab.auth_manager.fab_auth_manager
import airflow.providers.amazon.aws.hooks.base_aws
try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:
    from airflow.models.dagbag import DagBag
bag = DagBag(dag_folder=str(home / "dags"))
assert list(bag.dags) == ["probe"], bag.import_errors
import airflow
if not airflow.__version__.startswith("2."):
    from airflow.api_fastapi.core_api.app import init_views
    from airflow.api_fastapi.execution_api.app import create_task_execution_api_app
    from fastapi import FastAPI
    app = FastAPI()
    init_views(app)
    assert len(app.routes) > 50, f"the API has {len(app.routes)} routes"
    create_task_execution_api_app()
else:
    import airflow.www.app
"""


async def check_runtime(runtime: Runtime) -> None:
    """Return if executor, sign-on, AWS hooks, DAG parsing and the API can be used.

    Raises:
        GiveUp: One of them cannot; its last line is the evidence.
    """
    with tempfile.TemporaryDirectory() as home:
        process = await asyncio.create_subprocess_exec(
            str(runtime.path / "bin" / "python"),
            *("-I", "-c", _SCRIPT),
            env={
                "PATH": f"{runtime.path}/bin:/usr/bin:/bin",
                "AIRFLOW_HOME": home,
                "HOME": home,
                "LANG": "C.UTF-8",
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            },
            cwd=Path(home),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                _, said = await process.communicate()
        except TimeoutError:
            said = b"it took too long"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if process.returncode != 0:
        lines = said.decode(errors="replace").strip().splitlines()
        raise GiveUp(
            f"The runtime {runtime.id} is installed but does not work",
            code="RUNTIME_BROKEN",
            component="runtime",
            evidence=lines[-1][:500] if lines else "",
        )
