"""Updates of a running environment: what the plan promises, and what is then seen to happen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from openmwaa.backends.local.folders import EnvironmentFolders
from openmwaa.cli.errors import CommandFailed
from openmwaa.cli.operator import Operator
from tests.support.eventually import eventually
from tests.support.service import SETTLED, Service

Pids = Mapping[tuple[str, int], int]
"""Process by kind and number of a replica."""

Effects = Mapping[str, tuple[str, int, int]]
"""Kind -> action, replicas before and after; without kinds that are not touched."""


@dataclass(frozen=True)
class Update:
    """One update as it went.

    Attributes:
        plan: The operator's answer before it.

        statuses: Of GetEnvironment, from right after the call; repetitions left out.

        environment: GetEnvironment's answer at the end.

        before: What ran before, and `after` at the end.
    """

    plan: dict[str, Any]
    statuses: tuple[str, ...]
    environment: dict[str, Any]
    before: Pids
    after: Pids
    seconds: float
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def promised(self) -> Effects:
        """What the plan said."""
        return {one["kind"]: (one["action"], one["before"], one["after"]) for one in self.plan["components"]}

    @property
    def seen(self) -> Effects:
        """What happened."""
        return effects(self.before, self.after)

    def event(self, kind: str) -> dict[str, Any]:
        """Return the last event of a kind."""
        return [one for one in self.events if one["kind"] == kind][-1]


def show(service: Service, name: str) -> dict[str, Any]:
    """Return what `openmwaa env show NAME --json` prints."""
    shown: dict[str, Any] = Operator(service.settings).get(f"/environments/{name}")
    return shown


def pids(service: Service, name: str) -> dict[tuple[str, int], int]:
    """Return the process of every replica."""
    return {(one["kind"], one["index"]): one["pid"] for one in show(service, name)["replicas"]}


def events(service: Service, name: str, *, after: int = 0) -> list[dict[str, Any]]:
    """Return the history of an environment, oldest first."""
    found: list[dict[str, Any]] = Operator(service.settings).get(
        f"/environments/{name}/events", after=after, limit=1000
    )["events"]
    return found


def effects(before: Pids, after: Pids) -> Effects:
    """Return what happened to each kind of component between two looks."""
    found = {}
    for kind in sorted({kind for kind, _ in (*before, *after)}):
        old = {index: pid for (one, index), pid in before.items() if one == kind}
        new = {index: pid for (one, index), pid in after.items() if one == kind}
        if old != new:
            found[kind] = (_action(old, new), len(old), len(new))
    return found


def _action(old: Mapping[int, int], new: Mapping[int, int]) -> str:
    kept = old.items() & new.items()
    if kept == old.items():
        return "add"
    if kept == new.items():
        return "remove"
    return "mixed" if kept else "replace"


def plan(service: Service, name: str, members: Mapping[str, Any], *, deep: bool = False) -> dict[str, Any]:
    """Return what `openmwaa env plan --json` prints for members of UpdateEnvironment."""
    answer: dict[str, Any] = Operator(service.settings).post(
        f"/environments/{name}/plan", {"members": dict(members), "deep": deep}
    )
    return answer


def update(
    service: Service,
    name: str,
    members: Mapping[str, Any],
    *,
    within_s: float = 300,
    meanwhile: Callable[[], object] = lambda: None,
) -> Update:
    """Plan an update, make it by UpdateEnvironment, and follow it to its end.

    Args:
        service: A running service.

        name: The environment.

        members: Of UpdateEnvironment.

        within_s: Deadline in seconds.

        meanwhile: Called once while it is under way.
    """
    promised = plan(service, name, members)
    before = pids(service, name)
    last_event = events(service, name)[-1]["id"]
    mwaa = service.client("mwaa")  # making one takes longer than some updates
    started = time.monotonic()
    mwaa.update_environment(Name=name, **members)
    environment = mwaa.get_environment(Name=name)["Environment"]
    statuses = [environment["Status"]]
    if statuses == ["UPDATING"]:
        assert environment["LastUpdate"]["Status"] == "PENDING"
        meanwhile()

    def settled() -> dict[str, Any] | None:
        seen: dict[str, Any] = mwaa.get_environment(Name=name)["Environment"]
        if seen["Status"] != statuses[-1]:
            statuses.append(seen["Status"])
        return seen if seen["Status"] in SETTLED else None

    environment = eventually(settled, within_s=within_s, every_s=0.1, what=f"{name} settled: {statuses}")
    seconds = time.monotonic() - started
    return Update(
        plan=promised,
        statuses=tuple(statuses),
        environment=environment,
        before=before,
        after=pids(service, name),
        seconds=seconds,
        events=events(service, name, after=last_event),
    )


def as_planned(made: Update) -> None:
    """An update that ended well did to what runs what the plan had said, and nothing else."""
    # One that touches nothing may be over before its status can be asked for.
    at_once = made.statuses == ("AVAILABLE",) and made.event("available")["data"]["seconds"] < 1
    assert at_once or made.statuses == ("UPDATING", "AVAILABLE"), made.environment["LastUpdate"]
    assert made.environment["LastUpdate"]["Status"] == "SUCCESS"
    assert made.seen == made.promised
    worker = made.seen.get("worker")
    assert made.plan["stops_workers"] == (worker is not None and worker[0] != "add")


def replaced(*kinds: str) -> dict[str, tuple[str, int, int]]:
    """Return the effects of replacing the one replica of each of some kinds."""
    return dict.fromkeys(kinds, ("replace", 1, 1))


def mirrored(service: Service, name: str, path: str) -> Path:
    """Return where a file of the DAG folder is on this host, or will be."""
    mirror = EnvironmentFolders.of(service.settings.layout, show(service, name)["id"]).mirror
    return mirror / "dags" / path


def put(service: Service, bucket: str, key: str, content: str | bytes) -> str:
    """Upload an object; returns its version."""
    body = content.encode() if isinstance(content, str) else content
    return str(service.client("s3").put_object(Bucket=bucket, Key=key, Body=body)["VersionId"])


def mend(service: Service, name: str) -> None:
    """Make an environment AVAILABLE again after a refused update, without touching what runs."""
    seen = service.settled(name)
    if seen["Status"] == "UPDATE_FAILED":
        start = seen["WeeklyMaintenanceWindowStart"]
        other = "MON:01:30" if start == "MON:01:00" else "MON:01:00"
        service.client("mwaa").update_environment(Name=name, WeeklyMaintenanceWindowStart=other)
        service.available(name)


def patiently(call: Callable[[], Any]) -> Any:
    """Return what a call to a web server gives that may be restarting; None while it does not answer."""
    with suppress(ClientError, CommandFailed, OSError):
        return call()
    return None
