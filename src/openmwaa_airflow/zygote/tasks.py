"""What Airflow 3 makes anew in the process of each task, made once.

A task's process is forked for it and lives for less than a second. A fifth of that it spent on
pydantic's models of messages, which are the same in all of them.
"""

from __future__ import annotations

import sys
from typing import Any

_USERS = ("airflow.sdk.execution_time.comms", "airflow.sdk.execution_time.task_runner")
"""Modules whose functions make adapters."""

_MESSAGES = ("ToTask", "StartupDetails", "JsonValue")
"""Names in those modules of what every task makes one for."""


def make_adapters() -> None:
    """Make them, and let those modules have them when they ask for one of the same type."""
    for name in _USERS:
        module = sys.modules.get(name)
        if module is None or not hasattr(module, "TypeAdapter"):
            continue
        adapters = _Adapters(vars(module)["TypeAdapter"])
        for message in _MESSAGES:
            if hasattr(module, message):
                adapters.make(vars(module)[message])
        vars(module)["TypeAdapter"] = adapters


class _Adapters:
    """Stands for the class `TypeAdapter`; gives what was made before, and asks the class for all else."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._made: dict[int, tuple[Any, Any]] = {}

    def make(self, of: Any) -> None:
        self._made[id(of)] = (of, self._kind(of))  # what is kept cannot give its identity to another

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if len(arguments) == 1 and not keywords and id(arguments[0]) in self._made:
            return self._made[id(arguments[0])][1]
        return self._kind(*arguments, **keywords)

    def __getitem__(self, parameter: Any) -> Any:
        return self._kind[parameter]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kind, name)
