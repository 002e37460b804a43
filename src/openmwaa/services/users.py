"""The Linux user of the embedded services, and who owns their folders.

As root, the services run as one number of their own without an entry in the user database,
because PostgreSQL refuses to run as root and nothing else needs to. Not root, everything runs
as the user who started it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from openmwaa.kit.errors import OperatorError
from openmwaa.settings import Settings

_FIRST_UID = 700_000_000
_UIDS_PER_PORT = 300
"""More than the 250 environments of a home, whose users are counted from the same number."""


class UnusableHomeError(OperatorError):
    """The home cannot hold what it must; the text says why and what to do."""


@dataclass(frozen=True)
class ServiceUser:
    """Whom the embedded services run as. `switch` is false when that is who we are already."""

    uid: int
    gid: int
    switch: bool

    def make_folder(self, path: Path, *, mode: int = 0o700) -> Path:
        """Make a folder that belongs to the services, with exactly this mode.

        One that belongs to someone else changes hands with all its content: the home was used
        with another port base, or by another user, before.
        """
        path.mkdir(mode=0o700, parents=False, exist_ok=True)
        if self.switch and path.stat().st_uid != self.uid:
            self.take(path)
        path.chmod(mode)
        return path

    def write(self, path: Path, data: bytes | str, *, mode: int = 0o600) -> None:
        """Replace a file that only the services may read, seen whole or not at all.

        The file belongs to the services before its name appears.
        """
        content = data.encode() if isinstance(data, str) else data
        draft = path.with_name(f".{path.name}.draft")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as file:
            if self.switch:
                os.fchown(file.fileno(), self.uid, self.gid)
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    def take(self, path: Path) -> None:
        """Give a folder and all below it to the services; the folder itself last, as the sign that all is done."""
        if not self.switch:
            return
        for folder, _, files in os.walk(path, topdown=False):
            for name in files:
                os.lchown(Path(folder, name), self.uid, self.gid)
            os.lchown(folder, self.uid, self.gid)

    def can_enter(self, path: Path) -> bool:
        """Return whether the services' user may pass through every folder from the root to `path`."""
        if not self.switch:
            return True
        return all(_others_may_enter(folder) for folder in (path, *path.parents))


def service_user(settings: Settings) -> ServiceUser:
    """Return whom the embedded services of this home run as. Pure apart from asking who we are."""
    if os.geteuid() != 0:
        return ServiceUser(os.geteuid(), os.getegid(), switch=False)
    number = _FIRST_UID + settings.port_base * _UIDS_PER_PORT
    if _is_mapped(number):
        return ServiceUser(number, number, switch=True)
    # A container with few user numbers: the last ones that it has, with room for the environments.
    number = _last_mapped() - 2 * _UIDS_PER_PORT
    return ServiceUser(number, number, switch=True)


def prepare_home(settings: Settings) -> None:
    """Make the folders of a home, so that other users can pass through but not look around.

    Raises:
        UnusableHomeError: Below a folder that the services' user cannot enter, or not writable.
    """
    layout = settings.layout
    try:
        layout.home.mkdir(parents=True, exist_ok=True)
        for folder, mode in (
            (layout.home, 0o711),
            (layout.master_key.parent, 0o700),
            (layout.run, 0o711),
            (layout.services, 0o711),
            (layout.logs, 0o700),
            (layout.ca_bundle.parent, 0o755),
        ):
            folder.mkdir(mode=mode, exist_ok=True)
            folder.chmod(mode)
    except OSError as error:
        raise UnusableHomeError(f"{layout.home} cannot be used: {error.strerror}") from error
    user = service_user(settings)
    if not user.can_enter(layout.home):
        blocking = next(
            folder
            for folder in reversed((layout.home, *layout.home.parents))
            if not _others_may_enter(folder)
        )
        raise UnusableHomeError(
            f"{layout.home} cannot be used by root: the services run as a user of their own, "
            f"who cannot enter {blocking}; choose a --home elsewhere, e.g. /var/lib/openmwaa"
        )


def _others_may_enter(folder: Path) -> bool:
    return bool(folder.stat().st_mode & 0o001)


def _is_mapped(uid: int) -> bool:
    """Return whether the user namespace has this number (`man 7 user_namespaces`)."""
    return all(any(uid in numbers for numbers in _mapped(kind)) for kind in ("uid_map", "gid_map"))


def _last_mapped() -> int:
    return min(max(numbers.stop for numbers in _mapped(kind)) for kind in ("uid_map", "gid_map")) - 1


def _mapped(kind: str) -> list[range]:
    lines = [line.split() for line in Path("/proc/self", kind).read_text().splitlines()]
    return [range(int(first), int(first) + int(count)) for first, _, count in lines]
