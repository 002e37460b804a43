"""Environment classes: sizes and limits of MWAA, as data (mwaa.md 3)."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True)
class Size:
    """Limits of one container."""

    vcpu: int
    memory_gib: int


@dataclass(frozen=True)
class Range:
    """Accepted counts, both ends included."""

    low: int
    high: int

    def __contains__(self, value: int) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class EnvironmentClass:
    """One environment class."""

    name: str
    webserver: Size
    worker: Size
    scheduler: Size
    tasks_per_worker: int
    triggerer_capacity: int
    schedulers: Range
    default_schedulers: int
    webservers: Range
    default_webservers: int
    workers: Range
    default_max_workers: int


def _class(name: str, web: Size, worker: Size, tasks: int, triggers: int) -> EnvironmentClass:
    micro = name == "mw1.micro"
    return EnvironmentClass(
        name=name,
        webserver=web,
        worker=worker,
        scheduler=worker,
        tasks_per_worker=tasks,
        triggerer_capacity=triggers,
        schedulers=Range(1, 1) if micro else Range(2, 5),
        default_schedulers=1 if micro else 2,
        webservers=Range(1, 1) if micro else Range(2, 5),
        default_webservers=1 if micro else 2,
        workers=Range(1, 1) if micro else Range(1, 25),
        default_max_workers=1 if micro else 10,
    )


CLASSES: Final = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            _class("mw1.micro", Size(1, 3), Size(1, 3), 3, 60),
            _class("mw1.small", Size(1, 2), Size(1, 2), 5, 60),
            _class("mw1.medium", Size(1, 2), Size(2, 4), 10, 125),
            _class("mw1.large", Size(2, 4), Size(4, 8), 20, 250),
            _class("mw1.xlarge", Size(4, 12), Size(8, 24), 40, 500),
            _class("mw1.2xlarge", Size(8, 24), Size(16, 48), 80, 1000),
        )
    }
)

DEFAULT_CLASS: Final = "mw1.small"
