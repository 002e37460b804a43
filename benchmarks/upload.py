"""How soon an uploaded DAG file counts: in a small folder, and in one of a thousand files."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final

from botocore.exceptions import ClientError

from benchmarks.bench import Bench, an_environment, install, own_service, progress
from benchmarks.dag_files import telling
from benchmarks.metadata import Metadata, metadata_of
from tests.support.dags import numbered
from tests.support.eventually import eventually
from tests.support.service import Service

ON_MWAA: Final = "30 to 300 s"
FILES: Final = 1000
_WITHIN_S: Final = 300.0
_AGAIN_S: Final = 1.0
"""Between two triggers while a changed file is not seen yet: as many runs a second as any version keeps up with."""


def upload(bench: Bench) -> None:
    """Measure each version."""
    with own_service() as service:
        for version in bench.versions:
            with bench.attempt(f"upload {version}"):
                _one_version(bench, service, version)


def _one_version(bench: Bench, service: Service, version: str) -> None:
    install(service, version)
    name = f"bench-upload-{version.replace('.', '-')}"
    bucket = service.bucket({"first.py": numbered("first")})
    with (
        an_environment(service, name, version, bucket=bucket),
        metadata_of(service, name) as metadata,
    ):
        folder = Folder(service, metadata, name, bucket, generation=int(version[0]))
        metadata.wait_for_dags(["first"])
        _new_and_changed(bench, folder, version, "small", "")
        progress(f"upload {version}: {FILES} files")
        folder.fill()
        _new_and_changed(bench, folder, version, "large", f", {FILES} files")


def _new_and_changed(bench: Bench, folder: Folder, version: str, prefix: str, suffix: str) -> None:
    new = bench.figure(
        f"upload new{suffix} {version}",
        f"{version}: new DAG file until its first task runs{suffix}",
        mwaa=ON_MWAA,
    )
    changed = bench.figure(
        f"upload changed{suffix} {version}",
        f"{version}: changed file until a task runs it{suffix}",
        mwaa=ON_MWAA,
    )
    for turn in range(bench.repeat):
        progress(f"upload{suffix} {version}: turn {turn + 1} of {bench.repeat}")
        dag_id = f"{prefix}_{turn}"
        new.ours.append(folder.new(dag_id))
        changed.ours.append(folder.changed(dag_id))
        progress(f"  new file {new.ours[-1]:.2f} s, changed file {changed.ours[-1]:.2f} s")


class Folder:
    """The DAG folder of an environment, seen by whoever uploads."""

    def __init__(
        self, service: Service, metadata: Metadata, name: str, bucket: str, *, generation: int
    ) -> None:
        self._metadata = metadata
        self._name = name
        self._bucket = bucket
        self._generation = generation
        # Once: to make a client takes a tenth of a second, which would count.
        self._s3, self._mwaa = service.client("s3"), service.client("mwaa")

    def new(self, dag_id: str) -> float:
        """Return the seconds from PutObject's answer until the first task of a new DAG runs.

        The DAG is triggered as soon as that is accepted.
        """
        uploaded = self._put(f"{dag_id}.py", telling(dag_id, "old"))
        run_id = eventually(
            lambda: self._trigger(dag_id),
            within_s=_WITHIN_S,
            errors=(ClientError,),
            what=f"{dag_id} can be triggered",
        )
        started = eventually(lambda: self._started(dag_id, run_id), within_s=_WITHIN_S, what=f"{run_id} runs")
        eventually(lambda: self._told(dag_id, "old"), within_s=60, what=f"{run_id} has told")
        assert started is not None
        return started - uploaded

    def changed(self, dag_id: str) -> float:
        """Return the seconds from PutObject's answer until a task begins that turns out to run the new code.

        A run is triggered at once, and another each second until then.
        """
        uploaded = self._put(f"{dag_id}.py", telling(dag_id, "changed"))
        deadline = time.monotonic() + _WITHIN_S
        while time.monotonic() < deadline:
            self._trigger(dag_id)
            if started := _within(_AGAIN_S, lambda: self._told(dag_id, "changed")):
                return started - uploaded
        raise TimeoutError(f"{dag_id}: the old code ran for {_WITHIN_S:.0f} s")

    def fill(self) -> None:
        """Bring the folder to a thousand files, each a DAG, and wait until all are parsed."""
        dag_ids = [f"filler_{number:04}" for number in range(FILES)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda dag_id: self._put(f"{dag_id}.py", numbered(dag_id)), dag_ids))
        began = time.monotonic()
        self._metadata.wait_for_dags(dag_ids, within_s=1800)
        progress(f"  all parsed {time.monotonic() - began:.0f} s after the last upload")

    def _put(self, path: str, content: str) -> float:
        """Upload a file; return when, in seconds since the epoch."""
        self._s3.put_object(Bucket=self._bucket, Key=f"dags/{path}", Body=content.encode())
        return time.time()

    def _trigger(self, dag_id: str) -> str:
        """Start a run by InvokeRestApi; return its id."""
        body = {} if self._generation == 2 else {"logical_date": datetime.now(UTC).isoformat()}
        answer = self._mwaa.invoke_rest_api(
            Name=self._name, Method="POST", Path=f"/dags/{dag_id}/dagRuns", Body=body
        )
        return str(answer["RestApiResponse"]["dag_run_id"])

    def _started(self, dag_id: str, run_id: str) -> float | None:
        rows = self._metadata.rows(
            "SELECT start_date FROM task_instance WHERE dag_id = %s AND run_id = %s AND start_date IS NOT NULL",
            dag_id,
            run_id,
        )
        return float(rows[0][0].timestamp()) if rows else None

    def _told(self, dag_id: str, text: str) -> float | None:
        """Return when the first task began that returned a text; None: there is none yet."""
        rows = self._metadata.rows(
            "SELECT start_date, value FROM xcom JOIN task_instance USING (dag_id, task_id, run_id, map_index)"
            " WHERE dag_id = %s ORDER BY start_date",
            dag_id,
        )
        # JSON in a column of bytes or of JSON, as the version has it.
        return next((float(start.timestamp()) for start, value in rows if text in str(value)), None)


def _within(seconds: float, probe: Callable[[], float | None]) -> float | None:
    """Return what a probe gives as soon as it gives something; None if it does not in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := probe():
            return found
        time.sleep(0.1)
    return None
