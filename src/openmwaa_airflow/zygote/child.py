"""A forked child becomes a process like one that was started: session, descriptors, sandbox, variables.

The order matters: the marker first, because whoever looks for us looks for that; what needs root before
the sandbox takes it away; variables last, because nothing before may depend on them.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.util
import json
import mmap
import multiprocessing.process
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

SET_UP_FAILED = 120
"""Exit code of a child that could not become what it should."""

MARKER_VARIABLE = "OPENMWAA_PROCESS"
"""As `openmwaa.supervise.identity` looks for it."""

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_MM, _PR_SET_MM_MAP = 35, 14
_NOT_SHOWN = "this kernel does not let a forked process show its marker"
_NO_FILE = 0xFFFFFFFF
_CLONE_NEWNS = 0x00020000
_REQUEST_WITHIN_S = 30.0
_MOST_DESCRIPTORS = 3

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int, *(ctypes.c_ulong,) * 4]
_libc.sbrk.restype = ctypes.c_void_p

_kept: list[Any] = []
"""What must not be freed while this process runs."""


@dataclass(frozen=True)
class Request:
    """What a child is to become."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    marker: str
    sandbox: dict[str, Any] | None

    @classmethod
    def receive(cls, connection: socket.socket) -> tuple[Request, list[int]] | None:
        """Wait for the request and its three descriptors; None if the client has gone."""
        connection.settimeout(_REQUEST_WITHIN_S)
        size = len(connection.recv(1, socket.MSG_PEEK)) and _pending(connection)
        if not size:
            return None
        content, descriptors, _, _ = socket.recv_fds(connection, size, _MOST_DESCRIPTORS)
        connection.settimeout(None)
        return cls(**json.loads(content)), list(descriptors)


def begin(connection: socket.socket, *, host_mounts: int, launcher: ModuleType) -> tuple[Request, str]:
    """Wait for the request of a child and become what it says, up to the program itself.

    Ends this process if nobody wants it any more, or if it cannot become that.

    Returns:
        The request; and why it must be executed as a program of its own, empty if it need not.
    """
    try:
        received = Request.receive(connection)
        if received is None:
            os._exit(0)
        request, descriptors = received
        why = become(request, descriptors, connection, host_mounts=host_mounts, launcher=launcher)
    except Exception as error:  # noqa: BLE001 - said where its output goes, if it came so far
        print(f"cannot enter the sandbox: {error}", file=sys.stderr, flush=True)  # noqa: T201
        os._exit(SET_UP_FAILED)
    return request, why


def load_launcher(path: str) -> ModuleType:
    """Return `openmwaa.supervise.launcher`, which is no part of what Airflow can import."""
    spec = importlib.util.spec_from_file_location("openmwaa_launcher", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def become(
    request: Request,
    descriptors: list[int],
    connection: socket.socket,
    *,
    host_mounts: int,
    launcher: ModuleType,
) -> str:
    """Become what a request says, up to the program itself.

    Args:
        request: The request.

        descriptors: Standard input, output and error.

        connection: Stays open; everything else but those three is closed.

        host_mounts: Descriptor of the mount namespace that sandboxes are made in.

        launcher: `openmwaa.supervise.launcher`, which enters sandboxes for every other process too.

    Returns:
        Why it must be executed as a program of its own; empty if it need not.

    Raises:
        OSError: Something is not possible; the process must end.
    """
    os.setsid()
    _reset_signals()
    for target, source in enumerate(descriptors):
        os.dup2(source, target)
    why = "" if _show_only(f"{MARKER_VARIABLE}={request.marker}") else _NOT_SHOWN
    _close_all_but(connection.fileno(), host_mounts)
    if _libc.setns(host_mounts, _CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "setns")
    os.close(host_mounts)
    if request.sandbox is not None:
        launcher.enter(request.sandbox)
        _close_all_but(connection.fileno())  # what it held while it mounted
        _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)  # else /proc/self belongs to root
    os.chdir(request.cwd)
    set_variables(request.env)
    _renew_randomness()
    gc.unfreeze = lambda: None  # Airflow calls it, which would give each child a copy of everything
    gc.enable()
    _set_title(" ".join(request.argv))
    return why


def set_variables(variables: Mapping[str, str]) -> None:
    """Have these variables and no others."""
    os.environ.clear()
    os.environ.update(variables)
    time.tzset()


def find_title() -> None:
    """Let `setproctitle` find where titles are written; it no longer can once variables have changed."""
    with contextlib.suppress(ImportError):
        import setproctitle  # noqa: PLC0415 - a runtime may have none

        setproctitle.getproctitle()


def _set_title(title: str) -> None:
    with contextlib.suppress(ImportError):
        import setproctitle  # noqa: PLC0415

        setproctitle.setproctitle(title)


def _pending(connection: socket.socket) -> int:
    """Return how long the message is that waits."""
    return connection.recv_into(bytearray(1), 1, socket.MSG_PEEK | socket.MSG_TRUNC)


def _reset_signals() -> None:
    for number in signal.valid_signals():
        with contextlib.suppress(OSError, ValueError):  # of two that nobody may change
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("SIGPIPE", "SIGXFSZ"):  # as Python does when it starts
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _close_all_but(*kept: int) -> None:
    first = 3
    for descriptor in sorted(kept):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))


class _Map(ctypes.Structure):
    """`struct prctl_mm_map` of the kernel."""

    _names = (
        *("start_code", "end_code", "start_data", "end_data", "start_brk", "brk", "start_stack"),
        *("arg_start", "arg_end", "env_start", "env_end", "auxv"),
    )
    _fields_ = (
        *((name, ctypes.c_uint64) for name in _names),
        ("auxv_size", ctypes.c_uint32),
        ("exe_fd", ctypes.c_uint32),
    )


def _show_only(variable: str) -> bool:
    """Let /proc/PID/environ show one variable: ours, instead of those that the zygote was started with.

    Children of this process inherit that until they `exec`. What it shows is a page of its own,
    which no process title is written over.

    Returns:
        Whether the kernel lets us: it must be built with CONFIG_CHECKPOINT_RESTORE.
    """
    text = variable.encode() + b"\0"
    page = mmap.mmap(-1, max(len(text), mmap.PAGESIZE), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    page.write(text)
    start = ctypes.addressof(ctypes.c_char.from_buffer(page))
    with open("/proc/self/stat") as file:
        # The name is in parentheses and may contain anything. Numbers as proc(5) counts: the third follows.
        fields = ["", "", "", *file.read().rpartition(")")[2].split()]
    known = {
        name: int(fields[number])
        for name, number in {
            "start_code": 26,
            "end_code": 27,
            "start_stack": 28,
            "start_data": 45,
            "end_data": 46,
            "start_brk": 47,
            "arg_start": 48,
            "arg_end": 49,
        }.items()
    }
    wanted = _Map(
        **known, brk=_libc.sbrk(0), env_start=start, env_end=start + len(text), auxv_size=0, exe_fd=_NO_FILE
    )
    _kept.append(page)
    return not _libc.prctl(_PR_SET_MM, _PR_SET_MM_MAP, ctypes.addressof(wanted), ctypes.sizeof(wanted), 0)


def _renew_randomness() -> None:
    """Let no two children draw the same numbers, names or keys."""
    random.seed()
    for generator in _generators:
        generator.seed()
    tempfile.tempdir = None
    tempfile._name_sequence = None
    key = multiprocessing.process.AuthenticationString(os.urandom(32))
    multiprocessing.process.current_process()._config["authkey"] = key
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


_generators: list[random.Random] = []


def find_generators() -> None:
    """Remember every generator of random numbers that was made since memory was last settled.

    Not of what has settled: to look at an object is to touch its page.
    """
    _generators.extend(one for one in gc.get_objects() if type(one) is random.Random)


def end_with(parent: int) -> None:
    """Let this process be asked to end as soon as its parent has ended."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)
