"""`make bench`: the figures the README quotes, both sides interleaved in one run.

Each group runs on a service of its own in a temporary home. Prints a Markdown table, writes JSON.
Noise of a shared machine hits both sides alike because they take turns; trust the ratios.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from benchmarks.bench import Bench, progress
from benchmarks.groups import BY_DEFAULT, GROUPS
from benchmarks.report import table, write_json

VERSIONS = ("2.11.2", "3.0.6", "3.3.1")


def main() -> int:
    """Run what was asked for and print the table; 1 if anything could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, help="repetitions of each measurement (default 3)")
    parser.add_argument("--versions", nargs="+", default=VERSIONS, choices=VERSIONS)
    parser.add_argument(
        "--only",
        nargs="+",
        default=BY_DEFAULT,
        choices=GROUPS,
        metavar="GROUP",
        help=f"of {', '.join(GROUPS)} (default: all but first, which downloads)",
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file, after each group")
    options = parser.parse_args()
    # Whoever stops a run wants what it started to be stopped too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    bench = Bench(tuple(options.versions), options.repeat)
    for name in [name for name in GROUPS if name in options.only]:
        progress(f"{name} begins")
        with bench.attempt(name):
            GROUPS[name](bench)
        if options.json:
            write_json(bench, options.json)
    print(f"\n{table(bench)}")
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
