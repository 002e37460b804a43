"""What of this host helps or hinders the service: one finding per subject."""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from openmwaa.airflow.options import WEB_PORT
from openmwaa.backends.local.isolation import Isolation
from openmwaa.processes.stop import up_table
from openmwaa.services.binaries import MissingBinaryError, embedded_versions, find_binaries
from openmwaa.services.host_check import RUNTIME_DISK_BYTES, check_ports
from openmwaa.services.host_facts import GIB, available_memory, free_disk
from openmwaa.services.ports import listeners, why_unusable
from openmwaa.services.users import UnusableHomeError, prepare_home, service_user
from openmwaa.settings import Settings

Level = Literal["ok", "warning", "failure"]

_DISK_WANTED: Final = 10 * GIB
_MEMORY_NEEDED: Final = 1 * GIB
_MEMORY_WANTED: Final = 3 * GIB
_FILES_WANTED: Final = 4096
_GLIBC_NEEDED: Final = (2, 28)


@dataclass(frozen=True)
class Finding:
    """One subject.

    Attributes:
        fix: What to do about it; empty if nothing needs to be done.
    """

    subject: str
    level: Level
    message: str
    fix: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Return all findings. Starts nothing; makes the home's folders if they are missing."""
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _host,
        _home,
        _disk,
        _memory,
        _files,
        _ports,
        _binaries,
        _isolation,
        _remote,
    )
    return [finding for check in checks for finding in check(settings)]


def _host(_settings: Settings) -> Iterator[Finding]:
    name, text = platform.libc_ver()
    version = tuple(int(part) for part in text.split(".")[:2]) if name == "glibc" and text else ()
    if sys.platform != "linux" or platform.machine() != "x86_64":
        yield Finding("host", "failure", f"{sys.platform} on {platform.machine()}", "Use Linux on x86_64.")
    elif version < _GLIBC_NEEDED:
        yield Finding(
            "host", "failure", f"libc is {name or 'unknown'} {text}", "Use a system with glibc 2.28 or later."
        )
    else:
        yield Finding(
            "host", "ok", f"Linux {platform.release()}, {name} {text}, Python {platform.python_version()}"
        )
    if not hasattr(os, "pidfd_open"):
        yield Finding("kernel", "failure", "no pidfd_open", "Use Linux 5.3 or later.")


def _home(settings: Settings) -> Iterator[Finding]:
    try:
        prepare_home(settings)
    except UnusableHomeError as error:
        yield Finding("home", "failure", str(error))
    else:
        user = service_user(settings)
        who = f"services run as user number {user.uid}" if user.switch else "services run as you"
        yield Finding("home", "ok", f"{settings.home}; {who}")


def _disk(settings: Settings) -> Iterator[Finding]:
    free, folder = free_disk(settings.home)
    message = f"{free / GIB:.1f} GiB free at {folder}"
    if free < RUNTIME_DISK_BYTES:
        yield Finding("disk", "failure", message, "Free at least 2 GiB: one Airflow runtime needs 1 to 2.")
    elif free < _DISK_WANTED:
        yield Finding("disk", "warning", message, "10 GiB leave room for several Airflow versions.")
    else:
        yield Finding("disk", "ok", message)


def _memory(_settings: Settings) -> Iterator[Finding]:
    free = available_memory()
    message = f"{free / GIB:.1f} GiB available"
    if free < _MEMORY_NEEDED:
        yield Finding("memory", "failure", message, "The service needs 0.4 GiB, each environment 1 GiB.")
    elif free < _MEMORY_WANTED:
        yield Finding(
            "memory", "warning", message, "Enough for one environment; each further one needs 1 GiB."
        )
    else:
        yield Finding("memory", "ok", message)


def _files(_settings: Settings) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = hard if soft == resource.RLIM_INFINITY else soft
    if limit < _FILES_WANTED:
        fix = f"Run `ulimit -n {_FILES_WANTED}` before `openmwaa up`."
        yield Finding("open files", "warning", f"limit is {limit}", fix)
    else:
        yield Finding("open files", "ok", f"limit is {limit}")


def _ports(settings: Settings) -> Iterator[Finding]:
    records = up_table(settings).list() if settings.layout.processes.exists() else []
    ours = {record.name for record in records if record.identity and record.identity.is_alive}
    troubled = False
    for listener in listeners(settings):
        if listener.process not in ours and (reason := why_unusable(listener)):
            troubled = True
            yield Finding("ports", "failure", f"{listener.process}: {reason}")
    for problem in check_ports(settings, (WEB_PORT,)):
        troubled = True
        yield Finding("ports", "failure", problem.message, problem.fix)
    if not troubled:
        used = "used by this service" if ours else "free"
        yield Finding("ports", "ok", f"{settings.port_base} to {settings.port_base + 19} are {used}")


def _binaries(settings: Settings) -> Iterator[Finding]:
    try:
        find_binaries(settings, service_user(settings))
    except (MissingBinaryError, OSError) as error:
        yield Finding("programs", "failure", str(error), "Install the package again.")
    else:
        versions = ", ".join(f"{name} {version}" for name, version in embedded_versions().items())
        yield Finding("programs", "ok", versions)


def _isolation(settings: Settings) -> Iterator[Finding]:
    isolation = Isolation(settings)
    yield Finding("isolation", "ok" if isolation.separate_users else "warning", isolation.name)
    for sentence in isolation.missing:
        yield Finding("isolation", "warning", sentence)
    python = Path(sys.base_prefix).resolve()
    if isolation.separate_users and not service_user(settings).can_enter(python):
        message = f"Python is below {python}, which other users cannot enter; environments see it by a mount"
        yield Finding("python", "ok", message)


def _remote(settings: Settings) -> Iterator[Finding]:
    for name, url in (
        ("PostgreSQL", settings.postgres_url),
        ("Redis", settings.redis_url),
        ("S3", settings.s3_endpoint_url),
    ):
        if url is not None:
            yield Finding("services", "ok", f"{name} is your own, set in the settings")
