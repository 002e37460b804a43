"""`openmwaa demo`: from nothing to a pipeline that ran on real data, in one command."""

from __future__ import annotations

import csv
import io
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from openmwaa.airflow.versions import NEWEST
from openmwaa.cli import account
from openmwaa.cli.clients import Clients
from openmwaa.cli.env_create import DAGS_PREFIX, build_request, create
from openmwaa.cli.errors import CommandFailed
from openmwaa.cli.folder_sync import carry_out, local_files, plan_sync, remote_files
from openmwaa.cli.operator import Operator
from openmwaa.cli.output import age, table_lines
from openmwaa.cli.rest import FINISHED, Airflow
from openmwaa.cli.waiting import Progress, Waiter, require_available
from openmwaa.settings import Settings

_EXAMPLE: Final = Path(__file__).parents[3] / "examples" / "etl"
_ENVIRONMENT: Final = "demo"
_DAG: Final = "nyc_flights"
_RAW: Final = "raw/nyc_flights/"
_SUMMARY: Final = "summary/nyc_flights/daily.csv"
_RUN_DEADLINE_S: Final = 300
_POLL_S: Final = 0.5


@click.command("demo")
@click.option("--name", default=_ENVIRONMENT, show_default=True, help="Environment to create or use again.")
@click.option("--version", default=NEWEST, show_default=True, help="Airflow version of a new environment.")
@click.pass_obj
def command(settings: Settings, name: str, version: str) -> None:
    """Start the service, create an environment, run the ETL example, show what it found.

    Uses what is there already, so it can be repeated. Leaves everything running.
    """
    if not _EXAMPLE.is_dir():
        raise CommandFailed("The demo needs the source tree: examples/etl is not there.")
    progress = Progress()
    _ensure_running(settings, progress)
    clients, operator = Clients(settings), Operator(settings)
    bucket = account.bucket_name(settings.account_id, name)
    if account.ensure_bucket(clients.s3, bucket):
        progress.line(f"Bucket {bucket} was made, with versioning.")
    _upload(clients, bucket, DAGS_PREFIX, _EXAMPLE / "dags", progress)
    _upload(clients, bucket, _RAW, _EXAMPLE / "data", progress)
    _ensure_environment(settings, clients, operator, name, version, bucket, progress)
    run_id = f"demo__{datetime.now(UTC):%Y%m%dT%H%M%S}"
    state = _run(clients, name, bucket, run_id, progress)
    if state != "success":
        raise CommandFailed(f"The run {run_id} is {state}. See: openmwaa logs {name} --component task")
    for line in _report(clients, settings, name, bucket, run_id, time.monotonic() - progress.started):
        click.echo(line)


def _ensure_running(settings: Settings, progress: Progress) -> None:
    if Operator(settings).answers():
        progress.line(f"The service runs already, home {settings.home}.")
        return
    from openmwaa.processes.detach import start_detached  # noqa: PLC0415 - only where it has to be started

    start_detached(settings, timeout_s=120, say=progress.line)
    progress.line(f"The service runs, home {settings.home}.")


def _upload(clients: Clients, bucket: str, prefix: str, folder: Path, progress: Progress) -> None:
    files = {path: file for path, file in local_files(folder).items() if not path.endswith(".md")}
    plan = plan_sync(files, remote_files(clients.s3, bucket, prefix))
    carry_out(clients.s3, bucket, prefix, files, plan)
    changed = len(plan.added) + len(plan.changed)
    progress.line(f"s3://{bucket}/{prefix}: {changed} files uploaded, {plan.unchanged} there already.")


def _ensure_environment(
    settings: Settings,
    clients: Clients,
    operator: Operator,
    name: str,
    version: str,
    bucket: str,
    progress: Progress,
) -> None:
    try:
        environment = clients.mwaa.get_environment(Name=name)["Environment"]
    except clients.mwaa.exceptions.ResourceNotFoundException:
        request = build_request(settings, name, bucket=bucket, kind="mw1.micro", version=version)
        create(clients, operator, request, progress)
        return
    if environment["SourceBucketArn"] != account.bucket_arn(bucket):
        raise CommandFailed(f"{name} exists with another bucket. Choose another name with --name.")
    progress.line(
        f"The environment {name} exists: Airflow {environment['AirflowVersion']}, {environment['Status']}."
    )
    waiter = Waiter(clients, operator, name, progress)
    waiter.skip_events()
    require_available(waiter.until_settled())


def _run(clients: Clients, name: str, bucket: str, run_id: str, progress: Progress) -> str:
    """Start a run and follow its tasks; return its last state."""
    airflow = Airflow(clients, name)
    with progress.running():
        progress.now(f"Waiting until Airflow has parsed {_DAG}.", stage="parsing")
        airflow.wait_for_dag(_DAG)
        airflow.trigger(_DAG, run_id, {"bucket": bucket})
        progress.line(f"Run {run_id} of {_DAG} was started through InvokeRestApi.")
        seen: dict[str, str | None] = {}
        deadline = time.monotonic() + _RUN_DEADLINE_S
        while time.monotonic() < deadline:
            state = airflow.run_state(_DAG, run_id)
            tasks = airflow.task_states(_DAG, run_id)
            for task, now in tasks.items():
                if now != seen.get(task) and now in {"running", "success", "failed", "up_for_retry"}:
                    progress.line(f"  {task}: {now}")
            seen = tasks
            if state in FINISHED:
                progress.line(f"Run {run_id}: {state}.")
                return state
            progress.now(f"run {run_id} is {state}")
            time.sleep(_POLL_S)
    raise CommandFailed(f"The run {run_id} did not end within {_RUN_DEADLINE_S} s.")


def _report(
    clients: Clients, settings: Settings, name: str, bucket: str, run_id: str, seconds: float
) -> list[str]:
    """Return what the user should see at the end."""
    body = clients.s3.get_object(Bucket=bucket, Key=_SUMMARY)["Body"].read().decode()
    environment = clients.mwaa.get_environment(Name=name)["Environment"]
    report = clients.s3.get_object(Bucket=bucket, Key="quarantine/nyc_flights/report.json")["Body"].read()
    return [
        "",
        "Flights from New York, 4 to 10 February 2013 (a blizzard came on the 8th):",
        "",
        *summary_lines(body),
        "",
        f"Run          {run_id} of {_DAG}: success",
        f"Quality      {_quality(report)}",
        f"Results      s3://{bucket}/summary/nyc_flights/ and s3://{bucket}/curated/nyc_flights/",
        f"Environment  {name}, Airflow {environment['AirflowVersion']}, {environment['Status']}",
        f"Airflow UI   https://{environment['WebserverUrl']}",
        f"Log in       openmwaa env open {name}",
        f"Time taken   {age(seconds)}",
        "",
        "What to try next:",
        f"  openmwaa env show {name}",
        f"  openmwaa logs {name} --component task",
        f"  openmwaa env cli {name} -- dags list",
        '  eval "$(openmwaa aws-env)" && aws mwaa get-environment --name ' + name,
        f"  aws s3 cp s3://{bucket}/summary/nyc_flights/airlines.csv -",
        f"  edit examples/etl/dags, then: openmwaa dags deploy {name} examples/etl/dags --wait",
        "",
        "Everything keeps running. To stop it: openmwaa down",
        f"(openmwaa is .venv/bin/openmwaa; home {settings.home})",
    ]


def summary_lines(text: str) -> list[str]:
    """Return a CSV table of the pipeline as aligned columns."""
    header, *rows = list(csv.reader(io.StringIO(text)))
    return table_lines(
        [name.replace("_", " ") for name in header], [[_number(cell) for cell in row] for row in rows]
    )


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _quality(report: bytes) -> str:
    counts = json.loads(report)
    broken = [rule for rule in counts["rules"] if rule["rejected"]]
    why = "; ".join(f"{rule['rejected']} break the rule: {rule['meaning']}" for rule in broken)
    return (
        f"{counts['valid']:,} of {counts['rows']:,} rows are valid ({counts['cancelled']:,} cancelled flights),"
        f" {counts['rejected']} in quarantine" + (f" ({why})" if why else "")
    )
