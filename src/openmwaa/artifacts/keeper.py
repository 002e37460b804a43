"""Runs a program and leaves nothing of it behind: `keeper.py PARENT-PID UID PROGRAM ARGUMENT…`.

Run as a script with `python -I -S`; imports the standard library only. What a build starts may
leave its session, its parent and its variables behind, but not its adopter: as a subreaper the
keeper becomes the parent of every orphan, and it ends only when it has no child left. It kills
them all when the program ends, when it is asked to end, and when its own parent dies.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
FILE_BYTES = 4 * 1024**3
PROCESSES = 2048


class Asked(BaseException):
    """Somebody wants the keeper to end."""


def on_signal(number: int, _frame: object) -> None:
    """Leave the wait."""
    raise Asked(number)


def limit(uid: int) -> None:
    """Bound what one program can do to the host."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    if uid:  # counted per user: only one that is the build's own can be held to it
        resource.setrlimit(resource.RLIMIT_NPROC, (PROCESSES, PROCESSES))


def start(argv: list[str], uid: int) -> int:
    """Start the program in a session of its own."""
    pid = os.fork()
    if pid:
        return pid
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        limit(uid)
        os.closerange(3, 4096)  # our locks are not the program's to release
        os.execve(argv[0], argv, os.environ)  # noqa: S606 - becoming the program is the purpose
    except OSError as error:
        os.write(2, f"cannot start {argv[0]}: {error}\n".encode())
    finally:
        os._exit(127)


def descendants() -> list[int]:
    """Return everything below us, the deepest last."""
    parents: dict[int, int] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry.name}/stat") as stat:
                parents[int(entry.name)] = int(stat.read().rpartition(")")[2].split()[1])
    found = [os.getpid()]
    for above in found:
        found += [pid for pid, parent in parents.items() if parent == above and pid not in found]
    return found[1:]


def kill_user(uid: int) -> None:
    """Kill all processes of a user in one step, which no fork can outrun."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setresuid(uid, uid, uid)
            os.kill(-1, signal.SIGKILL)
        finally:
            os._exit(0)


def clear(uid: int) -> None:
    """Kill until we have no child left."""
    while True:
        if uid:
            kill_user(uid)
        for pid in descendants():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.01)


def main() -> int:
    """Run the program; return its exit code, 128 + signal if one ended it."""
    parent, uid, argv = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, on_signal)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        return 143  # it died before we asked to be told
    code = 143
    child = 0
    try:
        child = start(argv, uid)
        while True:
            pid, status = os.wait()
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                break
    except Asked:
        pass
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    clear(uid)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
