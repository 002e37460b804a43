"""The other side of the comparison: the same Airflow, started by hand as its documentation says.

A plain script: a database, a broker, `airflow db migrate`, then each component with the command
from Airflow's documentation, CeleryExecutor, byte-code compiled (we use the same installed runtime),
all components started at once. It is measured to the same point: Airflow's own health endpoint
says that everything is healthy and the worker answers that it is ready.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx


@dataclass(frozen=True)
class ByHand:
    """One set-up by hand.

    Attributes:
        runtime: Virtual environment with Airflow.

        home: Empty folder for AIRFLOW_HOME.

        database_url: `postgresql://…` of an empty database.

        broker: Path of the Valkey server's binary.

        port: For the web server; the next two are for the servers of task logs.

        generation: Airflow's major version, 2 or 3.

        slots: Tasks at once on the worker; None: Airflow's default, 16.

        dags: Files of the DAG folder by name; there before anything starts.

        pids: The processes that were started, while it runs.
    """

    runtime: Path
    home: Path
    database_url: str
    broker: Path
    port: int
    generation: int
    slots: int | None
    dags: Mapping[str, str] = field(default_factory=dict)
    pids: list[int] = field(default_factory=list)

    @contextlib.contextmanager
    def running(self) -> Iterator[float]:
        """Start everything, wait until healthy, give the seconds it took, and stop it again.

        Raises:
            RuntimeError: The runtime has no byte-code: by hand would take two to three times as long.
        """
        if not any(self.runtime.glob("lib/python*/site-packages/airflow/__pycache__/*.pyc")):
            raise RuntimeError(f"{self.runtime} is not byte-code compiled")
        self.home.mkdir(parents=True)
        (self.home / "dags").mkdir()
        for name, content in self.dags.items():
            (self.home / "dags" / name).write_text(content)
        started = time.monotonic()
        processes: list[subprocess.Popen[bytes]] = []
        try:
            processes.append(self._start("broker", self._broker_argv()))
            self._migrate()
            processes.extend(self._start(name, argv) for name, argv in self._components().items())
            self._wait_until_healthy(deadline=time.monotonic() + 300)
            self.pids.extend(process.pid for process in processes)
            yield time.monotonic() - started
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + 20
            for process in processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.1, deadline - time.monotonic()))
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _environment(self) -> dict[str, str]:
        url = self.database_url.replace("postgresql://", "postgresql+psycopg2://", 1)
        settings = {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__FERNET_KEY": "x" * 43 + "=",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url,
            "AIRFLOW__CELERY__RESULT_BACKEND": self.database_url.replace(
                "postgresql://", "db+postgresql://", 1
            ),
            "AIRFLOW__CELERY__BROKER_URL": f"redis+socket://{self.home}/vk.sock?virtual_host=0",
            "AIRFLOW__SCHEDULER__STANDALONE_DAG_PROCESSOR": "True",
            # Several set-ups on one host would meet at the default ports.
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(self.port + 1),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(self.port + 2),
        }
        if self.slots is not None:
            settings["AIRFLOW__CELERY__WORKER_CONCURRENCY"] = str(self.slots)
        if self.generation == 2:
            settings["AIRFLOW__WEBSERVER__SECRET_KEY"] = "bench-secret-of-this-run"
        else:
            settings |= {
                "AIRFLOW__API__SECRET_KEY": "bench-secret-of-this-run",
                "AIRFLOW__API_AUTH__JWT_SECRET": "bench-secret-of-this-run-" * 3,
                "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self.port}/execution/",
                "AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
            }
        return {
            "PATH": f"{self.runtime}/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "AIRFLOW_HOME": str(self.home),
            "C_FORCE_ROOT": "1",
            **settings,
        }

    def _components(self) -> dict[str, tuple[str, ...]]:
        airflow = f"{self.runtime}/bin/airflow"
        web = ("webserver", "--workers", "1") if self.generation == 2 else ("api-server", "--workers", "1")
        return {
            "scheduler": (airflow, "scheduler"),
            "dag-processor": (airflow, "dag-processor"),
            "triggerer": (airflow, "triggerer"),
            "web": (airflow, *web, "--port", str(self.port)),
            "worker": (airflow, "celery", "worker"),
        }

    def _broker_argv(self) -> tuple[str, ...]:
        return (
            str(self.broker), "--port", "0", "--unixsocket", f"{self.home}/vk.sock",
            "--dir", str(self.home), "--appendonly", "yes", "--save", "",
        )  # fmt: skip

    def _start(self, name: str, argv: tuple[str, ...]) -> subprocess.Popen[bytes]:
        with (self.home / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                argv,
                env=self._environment(),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _migrate(self) -> None:
        commands = [("db", "migrate")]
        if self.generation == 3:
            commands.append(("fab-db", "migrate"))
        for command in commands:
            subprocess.run(
                (f"{self.runtime}/bin/airflow", *command),
                env=self._environment(),
                cwd=self.home,
                check=True,
                capture_output=True,
            )

    def _wait_until_healthy(self, *, deadline: float) -> None:
        path = "/health" if self.generation == 2 else "/api/v2/monitor/health"
        worker_log = self.home / "worker.log"
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError, ValueError):
                report = httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=2).json()
                parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
                healthy = all(report[part]["status"] == "healthy" for part in parts)
                if healthy and b" ready." in worker_log.read_bytes():
                    return
            time.sleep(0.1)
        raise TimeoutError(f"not healthy by hand: {'; '.join(self._last_lines())}")

    def _last_lines(self) -> Iterator[str]:
        """Yield the last line of each log: the logs themselves do not outlive the run."""
        for path in sorted(self.home.glob("*.log")):
            lines = path.read_text(errors="replace").split("\n")
            yield f"{path.stem} says {next((line for line in reversed(lines) if line.strip()), 'nothing')[:100]}"
