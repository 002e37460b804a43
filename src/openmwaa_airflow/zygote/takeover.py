"""Airflow as it was imported becomes this environment's: configuration, copies of it, settings.

In the order in which a program of its own would do it. Nothing here undoes what imports have read:
the journal says whether that is the same.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from inspect import signature
from types import ModuleType
from typing import Any

from openmwaa_airflow.zygote.journal import Journal
from openmwaa_airflow.zygote.traps import COPIES

_CONFIGURATION = "airflow.configuration"
_OF_THE_TASKS = "airflow.sdk.configuration"
_PROVIDER_MANAGERS = (
    ("airflow.providers_manager", "ProvidersManager"),
    ("airflow.sdk.providers_manager_runtime", "ProvidersManagerTaskRuntime"),
)
_ENTRY_POINTS = (
    "airflow.utils.entry_points",
    "airflow._shared.module_loading",
    "airflow.sdk._shared.module_loading",
)
"""Modules that remember which distributions are installed."""

_Described = dict[str, dict[str, Any]]
"""Section -> its description and options, as in Airflow's `config.yml`."""


class UnfitError(Exception):
    """What is preloaded does not fit this environment; the text says why."""


def take_over(journal: Journal) -> None:
    """Make what is preloaded this environment's.

    Raises:
        UnfitError: It would not be what a program of its own has. Airflow must not be used.
    """
    time.tzset()  # a start-up script may have set another zone
    parsers = _read_configuration()
    if difference := journal.difference(parsers, os.environ):
        raise UnfitError(difference)
    _renew_copies(parsers[_CONFIGURATION])
    sys.modules["airflow.settings"].initialize()


def _read_configuration() -> dict[str, Any]:
    """Read files and variables anew. In place: everybody holds on to the object."""
    module = sys.modules[_CONFIGURATION]
    _forget_providers_part()
    module.AIRFLOW_HOME = module.get_airflow_home()
    module.AIRFLOW_CONFIG = module.get_airflow_config(module.AIRFLOW_HOME)
    module.TEST_DAGS_FOLDER = os.path.join(module.AIRFLOW_HOME, "dags")
    module.TEST_PLUGINS_FOLDER = os.path.join(module.AIRFLOW_HOME, "plugins")
    module.SECRET_KEY = b64encode(os.urandom(16)).decode()  # each process has one of its own
    _replace(module)
    parsers = {_CONFIGURATION: module.conf}
    module.secrets_backend_list[:] = module.initialize_secrets_backends()
    module.conf.validate()
    of_the_tasks = sys.modules.get(_OF_THE_TASKS)
    if of_the_tasks is not None and "conf" in vars(of_the_tasks):
        _replace(of_the_tasks)
        parsers[_OF_THE_TASKS] = of_the_tasks.conf
    return parsers


def remember_descriptions() -> None:
    """Read once what is the same for every child: the descriptions of options, the list of providers.

    The former is YAML, 0.1 s and 15 MB for each process. To be called when everything is imported.
    """
    for name in (_CONFIGURATION, _OF_THE_TASKS):
        module = sys.modules.get(name)
        original = getattr(module, "retrieve_configuration_description", None)
        if module is not None and original is not None:
            vars(module)["retrieve_configuration_description"] = _remembering(original)
    for manager in _provider_managers():
        if hasattr(manager, "initialize_providers_list"):
            manager().initialize_providers_list()


def _remembering(original: Callable[..., _Described]) -> Callable[..., _Described]:
    """Return a function that reads Airflow's own description once; with providers', it asks as ever."""
    arguments = {"include_providers": False} if "include_providers" in signature(original).parameters else {}
    remembered = original(**arguments)

    def retrieve(*others: Any, **keywords: Any) -> _Described:
        if others or keywords != arguments:
            return original(*others, **keywords)
        # Airflow adds sections to it and changes defaults in it.
        return {
            section: {
                **facts,
                "options": {key: dict(option) for key, option in (facts.get("options") or {}).items()},
            }
            for section, facts in remembered.items()
        }

    return retrieve


def _replace(module: ModuleType) -> None:
    fresh = module.initialize_config()
    module.conf.__dict__.clear()
    module.conf.__dict__.update(fresh.__dict__)


def _forget_providers_part() -> None:
    """Let providers' options be added to the configuration again: the fresh one has none."""
    for manager in _provider_managers():
        instance = _instance_of(manager)
        if instance is not None:
            instance._initialized_cache.pop("config", None)


def _provider_managers() -> list[Any]:
    found = (getattr(sys.modules.get(name), kind, None) for name, kind in _PROVIDER_MANAGERS)
    return [manager for manager in found if manager is not None]


def _instance_of(manager: Any) -> Any:
    """Return the one instance of a class; Airflow has had two ways of keeping it."""
    return getattr(manager, "_instance", None) or getattr(type(manager), "_instances", {}).get(manager)


def _renew_copies(parser: Any) -> None:
    for name, variable, section, key in COPIES:
        module = sys.modules.get(name)
        if module is not None:
            value = parser.get(section, key, fallback="")
            setattr(module, variable, value if value.endswith("/") else f"{value}/")


def forget_distributions() -> None:
    """Let packages be found that were added to what was preloaded."""
    importlib.invalidate_caches()
    for manager in _provider_managers():
        if hasattr(manager, "_instance"):
            manager._instance = None
        getattr(type(manager), "_instances", {}).pop(manager, None)
        manager._initialized = False
    for name in _ENTRY_POINTS:
        # Not by `getattr`: a former name of the module may answer, with a warning.
        cached = vars(sys.modules[name]).get("_get_grouped_entry_points") if name in sys.modules else None
        if cached is not None:
            cached.cache_clear()
