"""The folders of one environment on this host.

`<id>/` belongs to us, so that nothing of the tenant can put a link in our way; only `airflow/`
belongs to the environment's user.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from openmwaa.settings.layout import Layout

LAYER_FOLDERS = ("plugins", "startup", "requirements")
"""Folders of a layer that an environment sees in its home, where MWAA has them (mwaa.md 5.6)."""

_MARK = 0o711  # others pass through, nobody looks around


@dataclass(frozen=True)
class EnvironmentFolders:
    """Paths as the host sees them."""

    root: Path

    @classmethod
    def of(cls, layout: Layout, environment_id: str) -> EnvironmentFolders:
        """Return the folders of an environment, made or not."""
        return cls(layout.environments / environment_id)

    @property
    def airflow_home(self) -> Path:
        return self.root / "airflow"

    @property
    def mirror(self) -> Path:
        """The DAG mirror; the environment reads it, only we write it."""
        return self.root / "mirror"

    @property
    def temporary(self) -> Path:
        """What the environment sees as /tmp where it has mounts of its own."""
        return self.root / "tmp"

    @property
    def logs(self) -> Path:
        """What components print, one file per replica."""
        return self.root / "logs"

    @property
    def host_files(self) -> Path:
        """`passwd` and `group` as the environment sees them."""
        return self.root / "etc"

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.json"

    @property
    def broker_socket(self) -> Path:
        return self.airflow_home / "run" / "broker.sock"

    def make(self, *, uid: int, gid: int, dags_target: str) -> None:
        """Make what is missing.

        Args:
            uid: Owner of the environment's own folders.

            gid: Its group, which may read the mirror.

            dags_target: Where `AIRFLOW_HOME/dags` points, as the environment sees it.
        """
        self.root.parent.mkdir(mode=_MARK, parents=True, exist_ok=True)
        self.root.mkdir(mode=_MARK, exist_ok=True)
        self.root.chmod(_MARK)
        self.logs.mkdir(mode=0o700, exist_ok=True)
        self.host_files.mkdir(mode=0o755, exist_ok=True)
        _own(self.mirror, os.geteuid(), gid, 0o750)
        # Ours and sticky, like /tmp itself: places that we mount on inside cannot be replaced by links.
        _own(self.temporary, os.geteuid(), os.getegid(), 0o1777)
        _hand_over(self.airflow_home, uid, gid)
        _own(self.airflow_home, uid, gid, 0o700)
        for name in ("run", "logs", *LAYER_FOLDERS):
            _own(self.airflow_home / name, uid, gid, 0o750)
        _point(self.airflow_home / "dags", dags_target)


def _own(folder: Path, uid: int, gid: int, mode: int) -> None:
    """Make a folder for somebody. Another user's that exists is left as that user wants it."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    try:
        # Held by descriptor: its parent may be the tenant's, who could put a link in its place.
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except (NotADirectoryError, FileNotFoundError):
        return  # the tenant's own choice
    try:
        if os.fstat(descriptor).st_uid != uid or uid == os.geteuid():
            os.fchown(descriptor, uid, gid)
            os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def _hand_over(folder: Path, uid: int, gid: int) -> None:
    """Give a folder that belongs to someone else to its user, with all its content; itself last.

    That is: isolation was switched on or off since, or the home has another port base.
    """
    if not folder.exists() or folder.lstat().st_uid == uid:
        return
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.lchown(Path(parent, name), uid, gid)
    os.lchown(folder, uid, gid)


def _point(link: Path, target: str) -> None:
    """Make a symbolic link point somewhere; anything else in its place is left alone."""
    if link.is_symlink() and str(link.readlink()) != target:
        link.unlink()
    if not os.path.lexists(link):
        link.symlink_to(target)
