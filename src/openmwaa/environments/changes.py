"""What a change would do to an environment: which fields, which components, which tasks. Pure.

Nothing is predicted: the manifests before and after are compared by the same hash by which a
backend decides what to replace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from openmwaa.environments.layer import layer_of
from openmwaa.environments.manifest import Component, Kind, Manifest
from openmwaa.environments.spec import INTERNAL_FIELDS, EnvironmentSpec


class Action(StrEnum):
    """What happens to the replicas of a component."""

    REPLACE = "replace"
    """Every replica is stopped and started with the new settings."""

    ADD = "add"
    """More replicas are started; those that run are not touched."""

    REMOVE = "remove"
    """Some replicas are stopped; the others are not touched."""


@dataclass(frozen=True)
class Effect:
    """What happens to one component.

    Attributes:
        before: Replicas that are wanted now.

        after: Replicas that would be wanted.

        stop_grace_s: How long a stopped replica may take to finish its work; for a worker, its running tasks.
    """

    kind: Kind
    action: Action
    before: int
    after: int
    stop_grace_s: float

    @property
    def stops_workers(self) -> bool:
        return self.kind is Kind.WORKER and self.action is not Action.ADD


@dataclass(frozen=True)
class FieldChange:
    """One changed field and what it would do by itself; `field` is a name of the spec."""

    field: str
    before: Any
    after: Any
    effects: tuple[Effect, ...]


@dataclass(frozen=True)
class ChangePlan:
    """What a change would do. Without a changed field, every component is replaced."""

    fields: tuple[FieldChange, ...]
    effects: tuple[Effect, ...]

    @property
    def stops_workers(self) -> bool:
        return any(effect.stops_workers for effect in self.effects)


Build = Callable[[EnvironmentSpec], Manifest]
"""Returns what should run for a spec; the same spec gives the same manifest."""


def plan_change(before: EnvironmentSpec, after: EnvironmentSpec, build: Build) -> ChangePlan:
    """Return what going from one spec to another would do.

    Args:
        before: What is wanted now.

        after: What would be wanted.

        build: Makes the manifests that are compared.
    """
    running = build(before)
    old, new = before.to_json(), after.to_json()
    changed = [field for field in new if old[field] != new[field] and field not in INTERNAL_FIELDS]
    if not changed:
        return ChangePlan((), tuple(_replaced(component) for component in running.components))
    fields = tuple(
        FieldChange(
            field=field,
            before=old[field],
            after=new[field],
            effects=compare(running, build(replace(before, **{field: getattr(after, field)}))),
        )
        for field in changed
    )
    return ChangePlan(fields, compare(running, build(after)))


GRACEFUL = "GRACEFUL"
"""`WorkerReplacementStrategy`: workers finish their tasks, for up to 12 hours, beside their successors."""


def with_strategy(
    before: EnvironmentSpec, after: EnvironmentSpec, strategy: str, build: Build
) -> EnvironmentSpec:
    """Return the spec that replaces workers as the strategy says.

    A change of the version always stops everything at once (mwaa.md 2.3).

    Args:
        before: What runs.

        after: What is wanted.

        strategy: `FORCED` or `GRACEFUL`.

        build: Makes the manifests that tell whether workers are replaced at all.
    """
    if strategy != GRACEFUL or before.airflow_version != after.airflow_version:
        return after
    effects = plan_change(before, after, build).effects
    if not any(effect.kind is Kind.WORKER and effect.action is Action.REPLACE for effect in effects):
        return after
    return replace(after, worker_series=after.worker_series + 1)


def changes_code(before: EnvironmentSpec, after: EnvironmentSpec) -> bool:
    """Return whether a change within a version brings other packages, plugins, start-up script or patch of Airflow.

    Another version of a file with the same content is the same layer.
    """
    return (before.runtime_id, layer_of(before)) != (after.runtime_id, layer_of(after))


def may_break_dags(before: EnvironmentSpec, after: EnvironmentSpec) -> bool:
    """Return whether DAG files that could be imported before might fail after a change within a version.

    Packages, variables and options are what code at the top of a DAG file reads.
    """
    options = (before.airflow_configuration_options, after.airflow_configuration_options)
    return options[0] != options[1] or changes_code(before, after)


def compare(before: Manifest, after: Manifest) -> tuple[Effect, ...]:
    """Return what converging from one manifest to another does, in the order in which it happens."""
    old = {component.kind: component for component in before.components}
    new = {component.kind: component for component in after.components}
    order = [*new, *(kind for kind in old if kind not in new)]
    effects = (_effect(before, after, old.get(kind), new.get(kind)) for kind in order)
    return tuple(effect for effect in effects if effect is not None)


def _effect(before: Manifest, after: Manifest, old: Component | None, new: Component | None) -> Effect | None:
    was, will = old.replicas if old else 0, new.replicas if new else 0
    kept = old or new
    if kept is None:
        return None
    if old and new and before.component_hash(old) != after.component_hash(new):
        return Effect(kept.kind, Action.REPLACE, was, will, kept.stop_grace_s)
    if was == will:
        return None
    return Effect(kept.kind, Action.ADD if will > was else Action.REMOVE, was, will, kept.stop_grace_s)


def _replaced(component: Component) -> Effect:
    return Effect(
        component.kind, Action.REPLACE, component.replicas, component.replicas, component.stop_grace_s
    )


def to_json(plan: ChangePlan) -> dict[str, Any]:
    """Return a plan as plain JSON values."""
    return {
        "fields": [
            {
                "field": change.field,
                "before": change.before,
                "after": change.after,
                "components": [_to_json(effect) for effect in change.effects],
            }
            for change in plan.fields
        ],
        "components": [_to_json(effect) for effect in plan.effects],
        "stops_workers": plan.stops_workers,
    }


def _to_json(effect: Effect) -> Mapping[str, Any]:
    return {
        "kind": effect.kind,
        "action": effect.action,
        "before": effect.before,
        "after": effect.after,
        "stop_grace_s": effect.stop_grace_s,
    }
