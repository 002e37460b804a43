"""How a run is reported: a Markdown table for the README, JSON with every value."""

from __future__ import annotations

import json
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks.bench import Bench
from benchmarks.thresholds import verdicts


def table(bench: Bench) -> str:
    """Return machine, date and every figure as Markdown, then what failed, then what was wanted."""
    rows = [figure.row() for figure in bench.figures if figure.ours or figure.theirs]
    failed = [
        f"| {what} | failed: {reason.replace('|', '/')} | | | |" for what, reason in bench.failures.items()
    ]
    wanted = [f"- {line}" for line in verdicts(bench.figures)]
    return "\n".join(
        [
            f"{machine()}; median (least to most).",
            "",
            "| | OpenMWAA | by hand | ratio | Amazon MWAA says |",
            "|---|---|---|---|---|",
            *rows,
            *failed,
            *(["", "Wanted:", "", *wanted] if wanted else []),
        ]
    )


def write_json(bench: Bench, path: Path) -> None:
    """Write every value, and what failed."""
    content = {
        "machine": machine(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": bench.versions,
        "repeat": bench.repeat,
        "figures": [figure.to_json() for figure in bench.figures],
        "failures": bench.failures,
        "wanted": list(verdicts(bench.figures)),
    }
    path.write_text(json.dumps(content, indent=2) + "\n")


def machine() -> str:
    """Return the date, the machine and what was measured, as one line."""
    asked = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    commit = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    gibibytes = psutil.virtual_memory().total / 2**30
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {psutil.cpu_count()} cores, {gibibytes:.0f} GiB, {platform.machine()},"
        f" Python {platform.python_version()}, commit {commit or 'unknown'}"
    )
