"""DAG files that are measured with. They run unchanged on Airflow 2 and 3."""

from __future__ import annotations

from tests.support.dags import IMPORTS

_HEAD = f"{IMPORTS}\nfrom datetime import datetime\n"


def wide(dag_id: str, tasks: int) -> str:
    """Return a DAG with one run of so many trivial tasks that do not wait for each other. Paused."""
    return (
        _HEAD
        + f"""
@dag(dag_id="{dag_id}", schedule="@once", start_date=datetime(2024, 1, 1), catchup=False)
def tasks():
    @task
    def one():
        return 1

    for number in range({tasks}):
        one.override(task_id=f"task_{{number:03}}")()

tasks()
"""
    )


def chains(dag_id: str, runs: int, tasks: int) -> str:
    """Return a DAG with so many runs (31 at most) at once, each a chain of trivial tasks. Paused."""
    return (
        _HEAD
        + f"""
@dag(dag_id="{dag_id}", schedule="@daily", start_date=datetime(2024, 1, 1), end_date=datetime(2024, 1, {runs}),
     catchup=True, max_active_runs={runs})
def tasks():
    @task
    def one(before=None):
        return 1

    last = None
    for number in range({tasks}):
        last = one.override(task_id=f"task_{{number:03}}")(last)

tasks()
"""
    )


def long(dag_id: str, tasks: int) -> str:
    """Return a DAG with one run of so many tasks that only wait, for half an hour. Paused."""
    return (
        _HEAD
        + f"""
@dag(dag_id="{dag_id}", schedule="@once", start_date=datetime(2024, 1, 1), catchup=False)
def tasks():
    @task
    def wait():
        time.sleep(1800)

    for number in range({tasks}):
        wait.override(task_id=f"task_{{number:03}}")()

tasks()
"""
    )


def telling(dag_id: str, text: str) -> str:
    """Return a DAG to be triggered, with one task that returns a text. Not paused."""
    return (
        _HEAD
        + f"""
@dag(dag_id="{dag_id}", schedule=None, catchup=False, is_paused_upon_creation=False, max_active_runs=16)
def tasks():
    @task
    def tell():
        return "{text}"

    tell()

tasks()
"""
    )
