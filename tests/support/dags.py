"""DAG files that run unchanged on Airflow 2 and 3."""

IMPORTS = """
import time
try:
    from airflow.sdk import dag, task
except ImportError:
    from airflow.decorators import dag, task
"""

HELLO = (
    IMPORTS
    + """
@dag(dag_id="hello", schedule=None, catchup=False, is_paused_upon_creation=False)
def hello():
    @task
    def make():
        print("made by the first task")
        return 20

    @task
    def double(value):
        print(f"doubled to {value * 2}")
        return value * 2

    double(make())

hello()
"""
)

SLOW = (
    IMPORTS
    + """
@dag(dag_id="slow", schedule=None, catchup=False, is_paused_upon_creation=False)
def slow():
    @task(retries=1, retry_delay=1)
    def wait(seconds):
        for second in range(seconds):
            print(f"second {second}", flush=True)
            time.sleep(1)
        return seconds

    wait(60)

slow()
"""
)

TALKATIVE = SLOW.replace("slow", "talkative").replace("wait(60)", "wait(15)")


def numbered(dag_id: str) -> str:
    """Return a DAG file with this id and nothing to do."""
    return (
        IMPORTS
        + f"""
@dag(dag_id="{dag_id}", schedule=None, catchup=False)
def nothing():
    @task
    def rest():
        pass

    rest()

nothing()
"""
    )
