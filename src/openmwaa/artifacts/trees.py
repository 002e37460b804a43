"""Folder trees of runtimes and layers: removed whole, readable by everybody."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path


def remove_tree(path: Path) -> None:
    """Remove a folder and all below it, without following links; nothing to do if there is none."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def open_to_everyone(path: Path) -> int:
    """Let every user read the tree, whatever umask it was made under.

    Returns:
        Its size on disk in bytes.
    """
    size = 0
    for folder, _folders, files in os.walk(path):
        _add_mode(Path(folder), 0o755)
        for name in files:
            file = Path(folder) / name
            found = file.lstat()
            size += found.st_blocks * 512
            if stat.S_ISREG(found.st_mode):
                _add_mode(file, 0o755 if found.st_mode & stat.S_IXUSR else 0o644)
    return size


def give(path: Path, uid: int, gid: int) -> None:
    """Change the owner of a folder and all below it; links themselves, not what they point to.

    No process of a former owner may run: it could exchange a file for a link in between.
    """
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            os.lchown(Path(folder) / name, uid, gid)
    os.lchown(path, uid, gid)


def close_to_writers(path: Path) -> None:
    """Take away what lets others write, or become the owner, anywhere in the tree."""
    for folder, _folders, files in os.walk(path):
        for entry in (Path(folder), *(Path(folder) / name for name in files)):
            mode = entry.lstat().st_mode
            if not stat.S_ISLNK(mode) and mode & 0o7022:
                entry.chmod(stat.S_IMODE(mode) & 0o755)


def _add_mode(path: Path, bits: int) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode | bits != mode:
        path.chmod(mode | bits)
