"""The week the blizzard came: from a raw file of flights to answers, in four steps.

find_raw → check → curate → summarise. Everything is read from and written to one S3 bucket:

    raw/nyc_flights/           what arrived, as it arrived
    quarantine/nyc_flights/    rows that break a rule, and a report of all rules
    staged/nyc_flights/        rows that passed
    curated/nyc_flights/       typed Parquet, one file per day
    summary/nyc_flights/       the answers, as CSV and JSON

A run reads one pinned version of each raw file and writes the same keys as the run before, so it can be
repeated at any time. The file runs unchanged on Airflow 2 and 3, and on Amazon MWAA.
"""

import csv
import io
import os
from datetime import datetime, timedelta

try:
    from airflow.sdk import Param, dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task
    from airflow.models.param import Param

RAW = {name: f"raw/nyc_flights/{name}.csv" for name in ("flights", "weather", "airlines")}


def default_bucket():
    """Return the bucket that `openmwaa env create` makes for this environment."""
    account, name = os.environ.get("CUSTOMER_ACCOUNT_ID", ""), os.environ.get("AIRFLOW_ENV_NAME", "")
    return f"openmwaa-{account}-{name}".lower().replace("_", "-")


@dag(
    dag_id="nyc_flights",
    schedule=None,
    start_date=datetime(2013, 2, 4),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args={"retries": 1, "retry_delay": timedelta(seconds=5)},
    params={"bucket": Param(default_bucket(), type="string", title="Bucket with the raw files")},
    tags=["example", "etl"],
    doc_md=__doc__,
)
def nyc_flights():
    """Define the pipeline."""

    @task
    def find_raw(bucket):
        """Fail early if a raw file is missing; pin the version of each."""
        from flights_etl.storage import Bucket

        store = Bucket(bucket)
        versions = {name: store.version(key) for name, key in RAW.items()}
        for name, version in versions.items():
            print(f"s3://{bucket}/{RAW[name]} version {version}")
        return versions

    @task
    def check(bucket, versions):
        """Put rows that break a rule into quarantine and stage the others."""
        from flights_etl.rules import validate
        from flights_etl.storage import Bucket

        store = Bucket(bucket)
        carriers = {row["carrier"] for row in read_rows(store, "airlines", versions)}
        valid, rejected, report = validate(read_rows(store, "flights", versions), carriers)
        store.write("quarantine/nyc_flights/flights.csv", to_csv(rejected), "text/csv")
        store.write_json("quarantine/nyc_flights/report.json", report)
        staged = store.write("staged/nyc_flights/flights.csv", to_csv(valid), "text/csv")
        for rule in report["rules"]:
            print(f"{rule['rejected']:>6} rows rejected: {rule['meaning']}")
        print(f"{report['valid']} of {report['rows']} rows are valid, staged at {staged}")
        if not valid:
            raise ValueError("no valid row is left")
        return {key: report[key] for key in ("rows", "valid", "rejected", "cancelled")}

    @task
    def curate(bucket, versions, report):
        """Give every column its type, join airline and weather, write one Parquet file per day."""
        from flights_etl import transform
        from flights_etl.storage import Bucket

        store = Bucket(bucket)
        table = transform.curate(
            transform.read_text(store.read("staged/nyc_flights/flights.csv")),
            transform.read_text(store.read(RAW["weather"], versions["weather"])),
            transform.read_text(store.read(RAW["airlines"], versions["airlines"])),
        )
        if len(table) != report["valid"]:
            raise ValueError(f"{report['valid']} rows went in and {len(table)} came out")
        written = []
        for day, rows in table.groupby("date"):
            key = f"curated/nyc_flights/date={day}/flights.parquet"
            print(f"{len(rows):>6} rows: {store.write(key, transform.to_parquet(rows))}")
            written.append(key)
        return written

    @task
    def summarise(bucket, keys):
        """Read the curated files back and write the answers."""
        import pandas as pd
        from flights_etl import transform
        from flights_etl.storage import Bucket

        store = Bucket(bucket)
        table = pd.concat([transform.read_parquet(store.read(key)) for key in keys], ignore_index=True)
        uris = []
        for name, summary in (
            ("daily", transform.summarise_days(table)),
            ("airlines", transform.summarise_airlines(table)),
        ):
            print(summary.to_string(index=False))
            data = summary.to_csv(index=False).encode()
            uris.append(store.write(f"summary/nyc_flights/{name}.csv", data, "text/csv"))
            store.write(
                f"summary/nyc_flights/{name}.json",
                summary.to_json(orient="records", indent=2).encode() + b"\n",
                "application/json",
            )
        return uris

    bucket = "{{ params.bucket }}"
    versions = find_raw(bucket)
    report = check(bucket, versions)
    summarise(bucket, curate(bucket, versions, report))


def read_rows(store, name, versions):
    """Return a raw file's rows as dictionaries of texts."""
    text = store.read(RAW[name], versions[name]).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def to_csv(rows):
    """Return rows as a CSV file; without a row, an empty file."""
    text = io.StringIO(newline="")
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue().encode()


nyc_flights()
