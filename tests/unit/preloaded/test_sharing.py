"""What a preloaded process does to its memory, seen from within one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import openmwaa_airflow

SETTLED = """
import logging, os, sys
from openmwaa_airflow.zygote import sharing

sharing.make_loggers(["one.two", "three"])
assert sorted(logging.root.manager.loggerDict) == ["one", "one.two", "three"]
kept = [[number, str(number), bytes(number % 2000)] for number in range(60_000)]
kept = kept[::3]  # two of three are holes now
before = sharing._own_memory()
sharing.settle()

child = os.fork()
if child == 0:
    made = [bytes(size) for size in (1, 30, 100, 400) for _ in range(2000)]
    made += [object() for _ in range(2000)] + [float(number) for number in range(2000)]
    old = sum(any(begin <= id(one) < end for begin, end in before) for one in made)
    print(old, len(made), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert all(row[1] == str(row[0]) and len(row[2]) == row[0] % 2000 for row in kept)
"""


def test_what_a_child_makes_is_not_put_between_what_it_shares() -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-c", SETTLED],
        env={"PYTHONPATH": str(Path(openmwaa_airflow.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    old, made = map(int, ended.stdout.split())
    assert old < made * 0.05
