"""The ETL example gives the same answers on every supported version."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tests.support.environment import Environment
from tests.support.runs import trigger, wait_for_dag, wait_for_run
from tests.support.service import Service

EXAMPLE = Path(__file__).parents[2] / "examples" / "etl"
DAILY = """\
date,flights,cancelled,cancelled_percent,late_percent,mean_delay_min,lowest_visibility_miles,strongest_wind_mph
2013-02-04,928,10,1.1,22.0,10.8,10.0,22.0
2013-02-05,893,16,1.8,16.9,5.3,3.0,14.0
2013-02-06,900,8,0.9,13.5,5.5,4.0,23.0
2013-02-07,929,4,0.4,14.9,6.4,10.0,12.0
2013-02-08,927,472,50.9,27.3,14.9,0.5,29.0
2013-02-09,684,393,57.5,31.6,18.5,10.0,29.0
2013-02-10,827,26,3.1,26.7,15.2,10.0,9.0
"""

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize(
    "version",
    # The demo runs it on the newest.
    ["2.11.2", *(pytest.param(version, marks=pytest.mark.thorough) for version in ("3.0.6", "3.3.1"))],
)
def test_raw_files_become_answers(
    service: Service, environments: dict[str, Environment], version: str
) -> None:
    """The DAG runs unchanged, reads and writes S3 with the environment's own key, and repeats itself exactly."""
    environment = environments[version]
    s3 = service.client("s3")
    for path in (EXAMPLE / "dags").rglob("*.*"):
        if path.suffix == ".py" or path.name == ".airflowignore":
            key = f"dags/{path.relative_to(EXAMPLE / 'dags').as_posix()}"
            s3.put_object(Bucket=environment.bucket, Key=key, Body=path.read_bytes())
    for path in (EXAMPLE / "data").glob("*.csv"):
        s3.put_object(Bucket=environment.bucket, Key=f"raw/nyc_flights/{path.name}", Body=path.read_bytes())
    wait_for_dag(service, environment.name, "nyc_flights")
    answers = []
    for _ in range(2):
        run_id = trigger(service, environment.name, "nyc_flights", conf={"bucket": environment.bucket})
        assert wait_for_run(service, environment.name, "nyc_flights", run_id) == "success"
        answers.append(read(service, environment, "summary/nyc_flights/daily.csv").decode())
    assert answers == [DAILY, DAILY]
    report = json.loads(read(service, environment, "quarantine/nyc_flights/report.json"))
    assert (report["rows"], report["valid"], report["rejected"]) == (6104, 6088, 16)
    quarantined = list(
        csv.DictReader(io.StringIO(read(service, environment, "quarantine/nyc_flights/flights.csv").decode()))
    )
    assert {row["reason"] for row in quarantined} == {"arrival"}
    parquet = read(service, environment, "curated/nyc_flights/date=2013-02-08/flights.parquet")
    assert parquet[:4] == parquet[-4:] == b"PAR1"


def read(service: Service, environment: Environment, key: str) -> bytes:
    """Return an object of the environment's bucket."""
    return bytes(service.client("s3").get_object(Bucket=environment.bucket, Key=key)["Body"].read())
