"""How environments are kept apart on this host, and what the host does not let us do.

As root each environment runs as a Linux user of its own in a mount namespace of its own: it
sees its home at `/usr/local/airflow`, where MWAA has it, an empty `/tmp`, and no other
environment's files. Not root, everything runs as the service's user.
"""

from __future__ import annotations

import grp
import os
import pwd
import sys
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from openmwaa.backends.local.folders import LAYER_FOLDERS, EnvironmentFolders
from openmwaa.services.users import service_user
from openmwaa.settings import Settings
from openmwaa.settings.layout import FIRST_ORDINAL, LAST_ORDINAL, Layout
from openmwaa.supervise import Cover, Mounts, Sandbox
from openmwaa.supervise.sandbox import can_mount

MOUNTED_HOME = Path("/usr/local/airflow")
_MOUNTED_SOURCE = Path("/usr/local/airflow-source")
_USER = "airflow"
_EXCLUSIVE_UIDS = 700_000_000
"""User numbers from here on are derived from the port base, so no other home has them."""


@dataclass(frozen=True)
class Isolation:
    """What this host allows, for every environment of a home."""

    settings: Settings

    @cached_property
    def separate_users(self) -> bool:
        """Whether each environment has a Linux user of its own.

        That needs mounts of its own too: Python itself may be in a folder closed to others, and
        a user without a name cannot run Airflow.
        """
        return self.settings.isolation == "auto" and service_user(self.settings).switch and can_mount()

    @property
    def name(self) -> str:
        """For people and `Observed.isolation`."""
        return "user+mounts" if self.separate_users else "none"

    @property
    def missing(self) -> tuple[str, ...]:
        """What a reader should know is not enforced, one sentence each."""
        if self.separate_users:
            return ("Memory and CPU limits of the environment class are not enforced.",)
        if self.settings.isolation == "off":
            why = "isolation is switched off in the settings"
        elif os.geteuid() != 0:
            why = "the service does not run as root"
        else:
            why = "this host does not allow mount namespaces"
        return (
            f"DAG code runs as the service's own user and can read its keys: {why}.",
            "Memory and CPU limits of the environment class are not enforced.",
        )

    def user(self, ordinal: int) -> tuple[int, int]:
        """Return uid and gid of an environment."""
        if not self.separate_users:
            return os.geteuid(), os.getegid()
        first = service_user(self.settings).uid
        return first + ordinal, first + ordinal

    def owner(self, folders: EnvironmentFolders) -> int | None:
        """Return the Linux user that an environment alone has; None if it has none of its own."""
        try:
            uid = folders.airflow_home.lstat().st_uid
        except OSError:
            return None
        first = service_user(self.settings).uid
        if first < _EXCLUSIVE_UIDS:
            return None  # a container with few user numbers, which homes may share
        mine = range(first + FIRST_ORDINAL, first + LAST_ORDINAL + 1)
        return uid if self.separate_users and uid in mine else None

    def airflow_home(self, folders: EnvironmentFolders) -> Path:
        """Return AIRFLOW_HOME as the environment sees it."""
        return MOUNTED_HOME if self.separate_users else folders.airflow_home

    def dags_target(self, folders: EnvironmentFolders) -> Path:
        """Return where the DAG mirror's link is, as the environment sees it."""
        return (_MOUNTED_SOURCE if self.separate_users else folders.mirror) / "dags"

    def layer_folder(self, layout: Layout, folders: EnvironmentFolders, layer: str | None, name: str) -> Path:
        """Return where the environment sees one of the folders that a layer has.

        With mounts of its own, where MWAA has it; otherwise in the layer itself.

        Args:
            layout: Of the home.

            folders: The environment's.

            layer: Its layer; None: the folder in its own home.

            name: One of `LAYER_FOLDERS`.
        """
        if layer and not self.separate_users:
            return layout.layers / layer / name
        return self.airflow_home(folders) / name

    def sandbox(
        self,
        folders: EnvironmentFolders,
        ordinal: int,
        *,
        programs: tuple[Path, ...],
        layer: Path | None = None,
    ) -> Sandbox | None:
        """Return the sandbox of an environment's processes; None where there is none.

        Args:
            folders: The environment's.

            ordinal: Decides the user.

            programs: Folders and files that must be visible: runtimes, layers, plug-in, broker.

            layer: Folder of the layer, whose parts are shown where MWAA has them.
        """
        if not self.separate_users:
            return None
        uid, gid = self.user(ordinal)
        needed = tuple(str(path) for path in (Path(sys.base_prefix).resolve(), *programs))
        temporary = Path("/tmp")  # noqa: S108 - covered by a folder of the environment's own
        covers = [Cover(str(temporary), str(folders.temporary))]
        covers += [Cover(str(folder)) for folder in _closed_folders(needed)]
        # Others' layers hold what they alone may read: start-up scripts, addresses with passwords.
        covers.append(Cover(str(self.settings.layout.home)))
        return Sandbox(
            uid,
            gid,
            Mounts(
                covers=tuple(covers),
                keep=needed,
                binds=(
                    (str(folders.host_files / "passwd"), "/etc/passwd"),
                    (str(folders.host_files / "group"), "/etc/group"),
                    (str(folders.airflow_home), str(MOUNTED_HOME)),
                    (str(folders.mirror), str(_MOUNTED_SOURCE)),
                    *(
                        (str(layer / name), str(MOUNTED_HOME / name))
                        for name in (LAYER_FOLDERS if layer else ())
                        if layer and (layer / name).is_dir()
                    ),
                ),
            ),
        )

    def write_host_files(self, folders: EnvironmentFolders, ordinal: int) -> None:
        """Write the user database that the environment sees: the host's, and its own user by name."""
        if not self.separate_users:
            return
        uid, gid = self.user(ordinal)
        users = [
            f"{one.pw_name}:x:{one.pw_uid}:{one.pw_gid}::{one.pw_dir}:{one.pw_shell}"
            for one in pwd.getpwall()
            if one.pw_uid < 1000 and one.pw_name != _USER
        ]
        groups = [f"{one.gr_name}:x:{one.gr_gid}:" for one in grp.getgrall() if one.gr_gid < 1000]
        users.append(f"{_USER}:x:{uid}:{gid}::{MOUNTED_HOME}:/bin/bash")
        groups.append(f"{_USER}:x:{gid}:")
        for name, lines in (("passwd", users), ("group", groups)):
            path = folders.host_files / name
            text = "\n".join(lines) + "\n"
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
                path.chmod(0o644)


def _closed_folders(paths: tuple[str, ...]) -> list[Path]:
    """Return the topmost folders above these paths that other users cannot enter."""
    closed = set()
    for path in paths:
        for folder in reversed(Path(path).parents):
            if not folder.stat().st_mode & 0o001 and folder != Path(tempfile.gettempdir()):
                closed.add(folder)
                break
    return sorted(closed)
