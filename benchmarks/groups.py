"""The groups of figures, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from benchmarks.bench import Bench
from benchmarks.changes import changes
from benchmarks.create import create
from benchmarks.first import first
from benchmarks.memory import memory
from benchmarks.ten import ten
from benchmarks.throughput import throughput
from benchmarks.upload import upload
from benchmarks.worker import worker

GROUPS: Final[Mapping[str, Callable[[Bench], None]]] = MappingProxyType(
    {
        "create": create,
        "ten": ten,
        "first": first,
        "worker": worker,
        "memory": memory,
        "upload": upload,
        "throughput": throughput,
        "changes": changes,
    }
)

BY_DEFAULT: Final = tuple(name for name in GROUPS if name != "first")
"""`first` downloads half a gigabyte of packages where no cache has them."""
