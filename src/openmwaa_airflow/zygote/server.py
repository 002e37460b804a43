"""Waits for requests and forks a child for each; says when one has ended, and how.

Spoken over a SOCK_SEQPACKET unix socket, one connection per child:

1. We send `{"pid": n}` with a descriptor of the process. It waits.
2. The client sends `{"argv", "env", "cwd", "marker", "sandbox", "title"}` with the descriptors of standard
   input, output and error. Only the child reads that; a client that has gone by then gets no process.
3. The child may say `{"cold": why}`: it becomes a program of its own.
4. We send `{"status": n}` when it has ended: the exit code, or the signal's number below 0.

`openmwaa.supervise.forking` is the client.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import sys
from pathlib import Path

from openmwaa_airflow.zygote.preload import require_one_thread

_BACKLOG = 64
_CREDENTIALS = struct.Struct("3i")


class Server:
    """Forks for whoever may ask: our own user.

    Attributes:
        ended: How the partner has ended: exit code, or the signal's number below 0; empty as long as it runs.
    """

    def __init__(self, path: Path, *, partner: int | None = None) -> None:
        """Listen. The socket appears at its path when it can be asked.

        Args:
            path: Of the socket, mode 0600. What is left of a former server there is replaced.

            partner: A child without which we end.
        """
        self._partner = partner
        self.ended = ""
        draft = path.with_name(f".{os.getpid()}")  # no longer than a path may be
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        former = os.umask(0o177)
        try:
            self._listener.bind(str(draft))
        finally:
            os.umask(former)
        self._listener.listen(_BACKLOG)
        self._listener.setblocking(False)
        draft.rename(path)
        self._children: dict[int, socket.socket] = {}
        self._asked_to_end = False

    def serve(self) -> socket.socket | None:
        """Serve until SIGTERM, or until the partner has ended.

        Returns:
            In a child: the connection to whoever wants it, and nothing else of the server is open.
            In the server itself: None, when it was asked to end; its children run on.
        """
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._end())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        poll = select.poll()
        poll.register(woken, select.POLLIN)
        poll.register(self._listener, select.POLLIN)
        self._reap()  # whoever ended before SIGCHLD woke us
        while not self._asked_to_end:
            poll.poll()
            with contextlib.suppress(BlockingIOError):
                os.read(woken, 4096)
            self._reap()
            with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
                connection, _ = self._listener.accept()
                if self._fork(connection):
                    signal.set_wakeup_fd(-1)
                    for number in (woken, wake):
                        os.close(number)
                    return connection
        return None

    def _fork(self, connection: socket.socket) -> bool:
        """Answer one connection; true in the child."""
        if not _may_ask(connection):
            connection.close()
            return False
        require_one_thread()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._listener.close()
            for other in self._children.values():
                other.close()
            return True
        self._children[pid] = connection
        pidfd = os.pidfd_open(pid)  # ours, not reaped: it is the child
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", pidfd))]
        try:
            # Not a socket that does not block: the child shares that with us, and waits.
            connection.sendmsg([json.dumps({"pid": pid}).encode()], rights, socket.MSG_DONTWAIT)
        except OSError:
            pass  # the client went away; the child notices
        finally:
            os.close(pidfd)
        return False

    def _end(self) -> None:
        self._asked_to_end = True

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._partner:
                self.ended = str(os.waitstatus_to_exitcode(status))
                self._end()
            connection = self._children.pop(pid, None)
            if connection is not None:
                with contextlib.suppress(OSError), connection:
                    said = {"status": os.waitstatus_to_exitcode(status)}
                    connection.send(json.dumps(said).encode(), socket.MSG_DONTWAIT)


def _may_ask(connection: socket.socket) -> bool:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(raw)
    return uid == os.geteuid()
