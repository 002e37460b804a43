"""Enters a sandbox, then becomes the program: `launcher.py INSTRUCTIONS PROGRAM ARGUMENT…`.

Run as a script with `python -I -S`; imports the standard library only. Starts as root and
ends as the sandbox's user, without a way back.
"""

import ctypes
import json
import os
import sys

CLONE_NEWNS = 0x00020000
MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE = 0x1000, 0x2000, 0x4000, 0x40000
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


def bind(source: str, target: str) -> None:
    """Show `source` at `target` too, which exists."""
    mount(source, target, "", MS_BIND | MS_REC)


def make_place(target: str, *, folder: bool) -> None:
    """Make an empty folder or file to mount on."""
    os.makedirs(target if folder else os.path.dirname(target), mode=0o755, exist_ok=True)
    if not folder and not os.path.exists(target):
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))


def cover(target: str, source: str | None, keep: list[str], stage: str) -> None:
    """Hide `target`, but not what is in `keep` below it."""
    kept = [path for path in keep if path.startswith(target.rstrip("/") + "/")]
    mount("tmpfs", stage, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=64m")
    for number, path in enumerate(kept):
        place = f"{stage}/{number}"
        make_place(place, folder=os.path.isdir(path))
        bind(path, place)
    if source is None:
        mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=64m")
        for number, path in enumerate(kept):
            make_place(path, folder=os.path.isdir(f"{stage}/{number}"))
            mount(f"{stage}/{number}", path, "", MS_MOVE)
    else:
        # The places for what is kept are made in the source: empty folders beside its own content.
        for number, path in enumerate(kept):
            inside = source + path[len(target.rstrip("/")) :]
            make_place(inside, folder=os.path.isdir(f"{stage}/{number}"))
        bind(source, target)
        for number, path in enumerate(kept):
            mount(f"{stage}/{number}", path, "", MS_MOVE)
    checked(libc.umount2(stage.encode(), 2), f"umount {stage}")  # MNT_DETACH


def add_entry(target: str, source: str, stage: str) -> None:
    """Show `source` at `target`, which does not exist, by rebuilding the folder around it."""
    parent, name = os.path.split(target)
    mount("tmpfs", stage, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m")
    for entry in os.scandir(parent):
        place = f"{stage}/{entry.name}"
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), place)
        else:
            make_place(place, folder=entry.is_dir())
            bind(entry.path, place)
    make_place(f"{stage}/{name}", folder=os.path.isdir(source))
    bind(source, f"{stage}/{name}")
    mount(stage, parent, "", MS_MOVE)


def enter_namespace() -> None:
    """Leave the host's mounts: what is mounted from now on, only we see."""
    checked(libc.unshare(CLONE_NEWNS), "unshare")
    mount("none", "/", "", MS_REC | MS_PRIVATE)


def main() -> None:
    """Follow the instructions and become the program."""
    if sys.argv[1] == "probe":
        enter_namespace()
        return
    sandbox = json.loads(sys.argv[1])
    mounts = sandbox["mounts"]
    if mounts:
        stage = mounts["stage"]
        enter_namespace()
        sources = [source for source, _target in mounts["binds"]]
        keep = [*mounts["keep"], *sources]
        for one in mounts["covers"]:
            cover(one["target"], one["source"], keep, stage)
        for source, target in mounts["binds"]:
            if os.path.exists(target):
                bind(source, target)
            else:
                add_entry(target, source, stage)
    os.setgroups([])
    os.setresgid(sandbox["gid"], sandbox["gid"], sandbox["gid"])
    os.setresuid(sandbox["uid"], sandbox["uid"], sandbox["uid"])
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    os.umask(UMASK)
    os.chdir(sandbox["cwd"])
    os.execve(sys.argv[2], sys.argv[2:], os.environ)  # noqa: S606 - becoming the program is the purpose


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"cannot enter the sandbox: {error}")
