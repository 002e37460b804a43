"""Puts the packages of a layer before those that are preloaded, as its virtual environment does.

Only for layers that add: what is imported cannot be replaced.
"""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path

from openmwaa_airflow.zygote.takeover import UnfitError, forget_distributions


def stand_on(prefix: Path, program: Path) -> None:
    """Make a layer's virtual environment this process's.

    Args:
        prefix: Of the layer's virtual environment.

        program: Its interpreter.

    Raises:
        UnfitError: It has something that the runtime has too.
    """
    runtime = Path(sys.prefix)
    below = Path(site.getsitepackages([str(runtime)])[0]).relative_to(runtime)
    packages, of_runtime = prefix / below, runtime / below
    if not packages.is_dir():
        raise UnfitError(f"{packages} is no folder of packages")
    for name in sorted(os.listdir(packages)):
        if hides_something(packages / name, of_runtime / name):
            raise UnfitError(f"the layer's {name} stands before the runtime's")
    sys.prefix = sys.exec_prefix = str(prefix)
    sys.executable = str(program)
    _put_before(str(packages), str(of_runtime))
    _extend_packages()
    forget_distributions()


def hides_something(mine: Path, other: Path) -> bool:
    """Return whether importing what is at `mine` would keep what is at `other` from being imported."""
    if mine.suffix in (".dist-info", ".pth") or mine.name == "__pycache__":
        return False
    if not other.exists() and not other.with_suffix(".py").exists():
        return False
    if mine.is_dir() and other.is_dir() and not (mine / "__init__.py").exists():
        # A part of a package that more than one distribution has a part of.
        return any(hides_something(mine / name, other / name) for name in os.listdir(mine))
    return True


def _put_before(packages: str, of_runtime: str) -> None:
    former = list(sys.path)
    site.addsitedir(packages)  # its .pth files too
    added = [entry for entry in sys.path if entry not in former]
    place = former.index(of_runtime) if of_runtime in former else len(former)
    sys.path[:] = [*former[:place], *added, *former[place:]]


def _extend_packages() -> None:
    """Let packages that are imported already see what was added to them."""
    for name in sorted(name for name, module in sys.modules.items() if hasattr(module, "__path__")):
        path = sys.modules[name].__path__
        if isinstance(path, list):
            parent = name.rpartition(".")[0]
            # Under a second name (`requests.packages.urllib3`) a package may be below a plain module.
            below = getattr(sys.modules[parent], "__path__", ()) if parent in sys.modules else sys.path
            sys.modules[name].__path__ = _extended(path, name.rpartition(".")[2], list(below))


def _extended(path: list[str], name: str, below: list[str]) -> list[str]:
    extra = [os.path.join(folder, name) for folder in below]
    return [*path, *(one for one in extra if one not in path and os.path.isdir(one))]
