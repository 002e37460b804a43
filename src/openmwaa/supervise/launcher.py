"""Enters a sandbox, then becomes the program: `launcher.py INSTRUCTIONS PROGRAM ARGUMENT…`.

Run as a script with `python -I -S`; imports the standard library only. Starts as root and
ends as the sandbox's user, without a way back. A process that is forked and not started calls `enter`.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import stat
import sys

TYPE_CHECKING = False  # `typing` takes longer to import than all the rest
if TYPE_CHECKING:
    from typing import Any

CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MS_NOSUID, MS_NODEV = 0x2, 0x4
PR_SET_NO_NEW_PRIVS = 38
UMASK = 0o027

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> None:
    """Turn a failed call into an OSError."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """Make the system call, or raise OSError with the target's name."""
    arguments = (source.encode(), target.encode(), kind.encode(), flags, data.encode())
    checked(libc.mount(*arguments), f"mount {target}")


def hold(path: str) -> str:
    """Return a name for what is at `path` now that stays good when the path is covered."""
    return f"/proc/self/fd/{os.open(path, os.O_PATH)}"


def bind(held: str, target: str) -> None:
    """Show what is held at `target` too, which exists.

    Its last part is not followed if it is a link: in a folder of the environment's user, that could
    lead anywhere.
    """
    place = os.open(target, os.O_PATH | os.O_NOFOLLOW)
    if stat.S_ISLNK(os.fstat(place).st_mode):
        if os.stat(target).st_uid or os.lstat(target).st_uid:
            raise OSError(errno.ELOOP, f"{target} is a link that somebody else made")
        os.close(place)
        place = os.open(target, os.O_PATH)
    mount(held, f"/proc/self/fd/{place}", "", MS_BIND | MS_REC)


def make_place(target: str, *, folder: bool) -> None:
    """Make an empty folder or file to mount on."""
    os.makedirs(target if folder else os.path.dirname(target), mode=0o755, exist_ok=True)
    if not folder and not os.path.exists(target):
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))


def mount_empty(target: str) -> None:
    """Cover a folder with an empty one."""
    mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m")


def cover(target: str, held_source: str | None, held: dict[str, str]) -> None:
    """Hide `target`, but not what is held below it."""
    if held_source is None:
        mount_empty(target)
    else:
        bind(held_source, target)
    for path, kept in held.items():
        if path.startswith(target.rstrip("/") + "/"):
            make_place(path, folder=os.path.isdir(kept))
            bind(kept, path)


def add_entry(target: str, held_source: str) -> None:
    """Show something at `target`, which does not exist, by rebuilding the folder around it."""
    parent = os.path.dirname(target)
    entries = [
        (entry.path, os.readlink(entry.path), None)
        if entry.is_symlink()
        else (entry.path, "", hold(entry.path))
        for entry in os.scandir(parent)
    ]
    mount_empty(parent)
    for path, link, kept in entries:
        if kept is None:
            os.symlink(link, path)
        else:
            make_place(path, folder=os.path.isdir(kept))
            bind(kept, path)
    make_place(target, folder=os.path.isdir(held_source))
    bind(held_source, target)


def enter_namespace() -> None:
    """Leave the host's mounts: what is mounted from now on, only we see."""
    checked(libc.unshare(CLONE_NEWNS), "unshare")
    mount("none", "/", "", MS_REC | MS_PRIVATE)


def show(held_source: str, target: str) -> None:
    """Show what is held at `target` too, whether that exists or not."""
    if os.path.exists(target):
        bind(held_source, target)
    else:
        add_entry(target, held_source)


def enter(sandbox: dict[str, Any]) -> None:
    """Become the sandbox's user in its mounts. Leaves descriptors open that `exec` closes."""
    mounts = sandbox["mounts"]
    if mounts:
        enter_namespace()
        # Held before anything is covered.
        held = {path: hold(path) for path in mounts["keep"]}
        covers = [(one["target"], one["source"] and hold(one["source"])) for one in mounts["covers"]]
        binds = [(hold(source), target) for source, target in mounts["binds"]]
        for target, held_source in covers:
            cover(target, held_source, held)
        for held_source, target in binds:
            show(held_source, target)
    os.setgroups([])
    os.setresgid(sandbox["gid"], sandbox["gid"], sandbox["gid"])
    os.setresuid(sandbox["uid"], sandbox["uid"], sandbox["uid"])
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    os.umask(UMASK)
    os.chdir(sandbox["cwd"])


def main() -> None:
    """Follow the instructions and become the program."""
    if sys.argv[1] == "probe":
        enter_namespace()
        return
    enter(json.loads(sys.argv[1]))
    os.execve(sys.argv[2], sys.argv[2:], os.environ)  # noqa: S606 - becoming the program is the purpose


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"cannot enter the sandbox: {error}")
