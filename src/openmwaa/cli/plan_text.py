"""A planned change in words: fields, components, tasks, packages, DAGs, time."""

from __future__ import annotations

from typing import Any, Final

_MOST_LISTED: Final = 20


def plan_lines(plan: dict[str, Any]) -> list[str]:
    """Return the answer of the operator's `plan` for people."""
    lines = []
    for change in plan["fields"]:
        lines += _difference(change["field"], change["before"], change["after"])
        effects = [_effect(effect) for effect in change["components"]]
        lines.append(f"    {'; '.join(effects) or 'no component is touched'}")
    if not plan["fields"]:
        lines.append("No field changes. An update replaces every component all the same.")
    lines.append("")
    lines += [f"{_effect(effect)[0].upper()}{_effect(effect)[1:]}." for effect in plan["components"]]
    if not plan["components"]:
        lines.append("No component is replaced.")
    if plan.get("stops_everything"):
        lines.append("Everything is stopped first; the metadata database is copied and migrated.")
    lines.append(_tasks(plan))
    for part in (_packages, _dags, _seconds):
        lines += part(plan)
    return lines


def _tasks(plan: dict[str, Any]) -> str:
    running = plan.get("running_tasks")
    now = "" if running is None else f" ({running} run now)"
    if plan.get("stops_everything"):
        return f"Running tasks{now}: stopped after at most 90 s; Airflow retries them as the DAG says."
    if not plan["stops_workers"]:
        return f"Running tasks{now}: not touched."
    workers = [effect for effect in plan["components"] if effect["kind"] == "worker"]
    only_fewer = all(effect["action"] == "remove" for effect in workers)
    if only_fewer or plan.get("strategy") == "GRACEFUL":
        return f"Running tasks{now}: a worker that is stopped finishes those it runs, for up to 12 hours."
    grace_s = max(effect["stop_grace_s"] for effect in workers)
    return f"Running tasks{now}: a worker that is stopped takes no new task and has {grace_s:.0f} s to finish those it runs."


def _packages(plan: dict[str, Any]) -> list[str]:
    diff = plan.get("packages")
    if diff is None:
        return []
    lines = [f"+ {name} {version}" for name, version in diff["added"]]
    lines += [f"- {name} {version}" for name, version in diff["removed"]]
    lines += [f"~ {name} {before} -> {after}" for name, before, after in diff["changed"]]
    total = len(lines)
    if total > _MOST_LISTED:
        lines = [*lines[:_MOST_LISTED], f"and {total - _MOST_LISTED} more (--json has them all)"]
    return [
        "",
        f"Packages: {total} change." if total else "Packages: none changes.",
        *(f"    {line}" for line in lines),
    ]


def _dags(plan: dict[str, Any]) -> list[str]:
    dags = plan.get("dags")
    if dags is None:
        return []
    lines = ["", f"DAGs: {dags['imported']} are imported with the change."]
    lines += [f"    breaks: {path}: {error}" for path, error in sorted(dags["new_errors"].items())]
    lines += [f"    works again: {path}" for path in dags["fixed"]]
    if dags["still_broken"]:
        lines.append(f"    {len(dags['still_broken'])} files cannot be imported before and after")
    if dags["new_errors"]:
        lines.append("    The update would be undone for that; `--allow-import-errors` lets it pass.")
    return lines


def _seconds(plan: dict[str, Any]) -> list[str]:
    seconds = plan.get("seconds")
    if seconds is None:
        return []
    how = "measured on this host before" if seconds["measured"] else "estimated"
    return ["", f"Time: about {seconds['total']:.0f} s ({how})."]


def _difference(field: str, before: Any, after: Any) -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict) and "digest" not in before:
        keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        return [f"{field}.{key}: {_value(before.get(key))} -> {_value(after.get(key))}" for key in keys]
    return [f"{field}: {_value(before)} -> {_value(after)}"]


def _value(value: Any) -> str:
    match value:
        case None:
            return "not set"
        case {"path": path, "version": version}:
            return f"{path}, version {version}"
        case {"enabled": enabled, "level": level}:
            return str(level) if enabled else "off"
        case _:
            return str(value)


def _effect(effect: dict[str, Any]) -> str:
    kind, before, after = effect["kind"], effect["before"], effect["after"]
    count = f"{before}" if before == after else f"{before} -> {after}"
    verb = {"replace": "is replaced", "add": "gets more replicas", "remove": "gets fewer replicas"}
    return f"{kind} {verb[effect['action']]} ({count})"
