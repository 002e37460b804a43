"""What the backend's tests run instead of Airflow: `components.py web|worker|idle|crash …`.

Real processes with the manners of the real ones: a web server that answers, a worker that
touches a file and finishes its work when it is asked to leave. Standard library only.
"""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

HOME = Path(os.environ["AIRFLOW_HOME"])


def note(line: str) -> None:
    """Append a line to the environment's diary; lines of several processes do not mix."""
    with (HOME / "diary").open("a") as diary:
        diary.write(f"{line}\n")


def web(address: str, port: str) -> None:
    """Answer 200 for /health once `WEB_READY_AFTER_S` are over, 503 before."""
    ready_at = time.monotonic() + float(os.environ.get("WEB_READY_AFTER_S", "0"))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ready = self.path == "/health" and time.monotonic() >= ready_at
            self.send_response(200 if ready else 503)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    http.server.ThreadingHTTPServer((address, int(port)), Handler).serve_forever()


def worker(index: str) -> None:
    """Touch `run/worker-<index>.ready` until SIGTERM; then take `DRAIN_S` more seconds."""
    leaving = threading.Event()

    def leave(*_: object) -> None:
        if leaving.is_set():
            note(f"worker-{index} asked twice")
        leaving.set()

    signal.signal(signal.SIGTERM, leave)
    # As tasks do: a child in a session of its own, which must not get the signal.
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", "import time; time.sleep(3600)"], start_new_session=True
    )
    while not leaving.is_set():
        (HOME / "run" / f"worker-{index}.ready").touch()
        leaving.wait(0.2)
    assert child.poll() is None
    time.sleep(float(os.environ.get("DRAIN_S", "0")))
    note(f"worker-{index} drained")


def main() -> None:
    """Become the component."""
    kind, *arguments = sys.argv[1:]
    note(f"start {kind} {' '.join(arguments)}".strip())
    if os.environ.get("BREAK") == kind:
        sys.stderr.write(f"{kind} is broken\n")
        raise SystemExit(7)
    match kind:
        case "web":
            web(*arguments)
        case "worker":
            worker(*arguments)
        case "idle":
            time.sleep(3600)
        case _:
            raise SystemExit(f"unknown kind {kind}")


if __name__ == "__main__":
    main()
