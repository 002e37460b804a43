"""Import everything that components import, and note what was read meanwhile.

Nothing may be started: no thread, no connection, no engine, no client. `airflow.settings` is
imported without being initialised; each child does that itself.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.abc
import importlib.machinery
import os
import sys
import urllib.parse
import warnings
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any

from openmwaa_airflow.zygote.child import find_generators
from openmwaa_airflow.zygote.journal import Journal
from openmwaa_airflow.zygote.loggers import forget_levels_once
from openmwaa_airflow.zygote.routes import make_routes
from openmwaa_airflow.zygote.sharing import make_loggers, settle
from openmwaa_airflow.zygote.takeover import remember_descriptions
from openmwaa_airflow.zygote.tasks import make_adapters

AS_LIBRARY = "_AIRFLOW__AS_LIBRARY"
"""Airflow's own switch: import without `settings.initialize()`."""

_PARSERS = {
    "airflow.configuration": "AirflowConfigParser",
    "airflow.sdk.configuration": "AirflowSDKConfigParser",
}
"""Module -> the class in it whose reads are noted."""

_WHO = ("getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid", "getgroups", "getlogin")
_EXECUTION_API = "airflow.api_fastapi.execution_api.app"


class NotPreloadedError(Exception):
    """This Airflow cannot be preloaded."""


def preload(
    of_workers: Iterable[str],
    of_others: Iterable[str],
    excluded: Container[str],
    loggers: Iterable[str] = (),
    *,
    divide: Callable[[], bool] = lambda: False,
) -> tuple[Journal, list[str]]:
    """Import modules, and make what components share beyond modules.

    Args:
        of_workers: Modules that workers and their tasks need, in order.

        of_others: Modules that only other components need, in order.

        excluded: Modules that must not be imported.

        loggers: Names of loggers that those modules make.

        divide: Called when the modules of workers are imported; true: leave it at these.

    Returns:
        What was read; and what could not be imported, a line each.

    Raises:
        NotPreloadedError: Something was started that must not be.
    """
    journal = Journal()
    gc.disable()
    make_loggers(loggers)
    os.environ[AS_LIBRARY] = "1"
    with (
        journal.recording_variables(),
        watching(journal, excluded) as watcher,
        asking_who() as asked,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # each child would be told of deprecations in others' code
        failed = _import_all(of_workers)
        find_generators()
        settle()
        if not divide():
            failed += _import_all(of_others)
        _map_tables()
        _build_execution_api()
        make_routes()
        make_adapters()
        remember_descriptions()
    forget_levels_once()
    del os.environ[AS_LIBRARY]
    urllib.parse.clear_cache()  # addresses that lead nowhere
    if went_on := watcher.went_on_without():
        raise NotPreloadedError(went_on)
    if asked:
        raise NotPreloadedError(f"{asked[0]} keeps the user that it is imported as")
    _end_idle_threads()
    require_one_thread()
    find_generators()
    settle()
    return journal, failed


def require_one_thread() -> None:
    """Make sure that a fork would copy this process whole.

    Raises:
        NotPreloadedError: It has more than one thread.
    """
    count = len(os.listdir("/proc/self/task"))
    if count != 1:
        raise NotPreloadedError(f"{count} threads run in the preloaded process")


def _end_idle_threads() -> None:
    """Fork once: numpy's OpenBLAS starts a thread at import, and ends it whenever its process forks."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _import_all(names: Iterable[str]) -> list[str]:
    failed = []
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - one module less: children import it themselves
            failed.append(f"{name}: {type(error).__name__}: {error}")
    return failed


def _map_tables() -> None:
    """Let SQLAlchemy connect the tables' classes, which costs each process 20 MB otherwise."""
    if "sqlalchemy.orm" in sys.modules:
        sys.modules["sqlalchemy.orm"].configure_mappers()


def _build_execution_api() -> None:
    """Build the API that tasks speak, whose versions take three seconds; the first user gets it."""
    module = sys.modules.get(_EXECUTION_API)
    if module is None:
        return
    original = module.create_task_execution_api_app
    app = original()
    app._cadwyn_initialize()
    built = [app]

    def create(*arguments: Any, **keywords: Any) -> Any:
        return built.pop() if built and not arguments and not keywords else original(*arguments, **keywords)

    module.create_task_execution_api_app = create
    for user in list(sys.modules.values()):
        if getattr(user, "create_task_execution_api_app", None) is original:
            user.create_task_execution_api_app = create


@contextlib.contextmanager
def watching(journal: Journal, excluded: Container[str]) -> Iterator[_Watcher]:
    """Watch imports: keep modules out, and note reads from the first one on."""
    watcher = _Watcher(journal, excluded)
    sys.meta_path.insert(0, watcher)
    try:
        yield watcher
    finally:
        sys.meta_path.remove(watcher)
        watcher.end()


@contextlib.contextmanager
def asking_who() -> Iterator[list[str]]:
    """Note which modules ask for the user or group of this process: every child has others."""
    asked: list[str] = []
    originals = {name: getattr(os, name) for name in _WHO}

    def noting(original: Callable[[], Any]) -> Callable[[], Any]:
        def ask() -> Any:
            asked.append(str(sys._getframe(1).f_globals.get("__name__")))
            return original()

        return ask

    for name, original in originals.items():
        setattr(os, name, noting(original))
    try:
        yield asked
    finally:
        for name, original in originals.items():
            setattr(os, name, original)


class _Watcher(importlib.abc.MetaPathFinder):
    """Refuses excluded modules; wraps the parsers' classes once their modules are executed."""

    def __init__(self, journal: Journal, excluded: Container[str]) -> None:
        self._journal = journal
        self._excluded = excluded
        self._ends: list[Callable[[], None]] = []
        self._refused: list[tuple[str, str]] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname in self._excluded:
            self._refused.append((fullname, _importer()))
            raise ModuleNotFoundError(f"{fullname} is not preloaded", name=fullname)
        if fullname not in _PARSERS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Executing(spec.loader, self._watch)
        return spec

    def went_on_without(self) -> str:
        """Return which module swallowed that another is not preloaded; empty if none did.

        It would be another than in a program of its own.
        """
        for name, importer in self._refused:
            if importer in sys.modules and importer not in (__name__, "importlib"):
                return f"{importer} went on without {name}"
        return ""

    def end(self) -> None:
        for end in self._ends:
            end()

    def _watch(self, module: ModuleType) -> None:
        kind = getattr(module, _PARSERS[module.__name__])
        self._ends.append(self._journal.record_options(module.__name__, kind))


def _importer() -> str:
    """Return the module that imports what is being looked for."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("importlib"):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "")) if frame else ""


class _Executing(importlib.abc.Loader):
    """Another loader, and something to do after it."""

    def __init__(self, loader: importlib.abc.Loader, after: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._after = after

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._after(module)
