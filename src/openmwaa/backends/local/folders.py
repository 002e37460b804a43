"""The folders of one environment on this host.

`<id>/` belongs to us, so that nothing of the tenant can put a link in our way; only `airflow/`
belongs to the environment's user.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from openmwaa.settings.layout import Layout

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
        _own(self.airflow_home, uid, gid, 0o700)
        for name in ("run", "logs", "plugins"):
            _own(self.airflow_home / name, uid, gid, 0o750)
        link = self.airflow_home / "dags"
        if not os.path.lexists(link):
            link.symlink_to(dags_target)


def _own(folder: Path, uid: int, gid: int, mode: int) -> None:
    """Make a folder for somebody. One that exists is left as its owner wants it."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return
    os.chown(folder, uid, gid, follow_symlinks=False)
    folder.chmod(mode)
