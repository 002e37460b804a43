"""From a request of CreateEnvironment or UpdateEnvironment to a spec. Pure.

The request was already checked against AWS's service model: types, lengths and patterns are
right. What is decided here is what the model cannot say: defaults, limits by class and quota,
and what this release can carry out. A field either works, or is stored as a description
(subnets, groups, role, access mode), or is refused; none is accepted and ignored.

Source: mwaa.md 1.3-1.6, 3. Where AWS's wording is known, it is used.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from openmwaa.environments.classes import CLASSES, DEFAULT_CLASS, EnvironmentClass, Range
from openmwaa.environments.errors import InvalidRequestError
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.environments.source_files import Pins, files_after, relative_path
from openmwaa.environments.spec import LOG_TYPES, EnvironmentSpec, LogSetting, default_logging

MAX_TAGS: Final = 50
_DAYS: Final = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_WINDOW: Final = re.compile(rf"({'|'.join(_DAYS)}):([01][0-9]|2[0-3]):(00|30)")
_FIRST_PUBLIC_AND_PRIVATE: Final = (3, 2)

_NOT_BUILT_YET: Final = ("IdentityCenterConfiguration", "Teams")
"""Members that are refused whenever they hold something."""

_COUNTS: Final = (
    ("MinWorkers", "min_workers"),
    ("MaxWorkers", "max_workers"),
    ("Schedulers", "schedulers"),
    ("MinWebservers", "min_webservers"),
    ("MaxWebservers", "max_webservers"),
)

_DESCRIPTIONS: Final = (
    ("ExecutionRoleArn", "execution_role_arn"),
    ("SourceBucketArn", "source_bucket_arn"),
)


@dataclass(frozen=True)
class Limits:
    """What this installation offers.

    Attributes:
        airflow_versions: Supported versions, newest last.

        max_workers: Quota of workers of one environment; micro always has one.

        max_webservers: Quota of web servers of one environment.

        runtime_of: Id of the newest runtime of a version.

        change_refused: Why an environment cannot go from one version to another in place; None if
            it can.
    """

    airflow_versions: Sequence[str]
    max_workers: int = 25
    max_webservers: int = 5
    runtime_of: Callable[[str], str] = str
    change_refused: Callable[[str, str], str | None] = lambda _from, _to: None


def build_spec(request: Mapping[str, Any], limits: Limits, pins: Pins | None = None) -> EnvironmentSpec:
    """Return the fully defaulted spec that a CreateEnvironment request asks for.

    Args:
        request: Members of CreateEnvironment, validated against the service model.

        limits: What this installation offers.

        pins: The files that `pins_wanted` asked for.

    Raises:
        InvalidRequestError: Names the field and what is accepted.
    """
    _refuse_what_is_not_built(request)
    version = _version(request.get("AirflowVersion") or limits.airflow_versions[-1], limits)
    kind = _class(request.get("EnvironmentClass") or DEFAULT_CLASS)
    network = request["NetworkConfiguration"]
    spec = EnvironmentSpec(
        name=request["Name"],
        airflow_version=version,
        environment_class=kind.name,
        execution_role_arn=request["ExecutionRoleArn"],
        source_bucket_arn=request["SourceBucketArn"],
        dag_s3_path=relative_path("DagS3Path", request["DagS3Path"]),
        subnet_ids=_subnets(network.get("SubnetIds")),
        security_group_ids=_groups(network.get("SecurityGroupIds")),
        min_workers=request.get("MinWorkers", 1),
        max_workers=request.get("MaxWorkers", kind.default_max_workers),
        schedulers=request.get("Schedulers", kind.default_schedulers),
        min_webservers=request.get("MinWebservers", kind.default_webservers),
        max_webservers=request.get("MaxWebservers", kind.default_webservers),
        webserver_access_mode=_access_mode(request.get("WebserverAccessMode", "PRIVATE_ONLY"), version),
        endpoint_management=request.get("EndpointManagement", "SERVICE"),
        weekly_maintenance_window_start=_window(
            request.get("WeeklyMaintenanceWindowStart") or _default_window(request["Name"])
        ),
        logging=_logging(default_logging(), request.get("LoggingConfiguration", {})),
        airflow_configuration_options=_options(request.get("AirflowConfigurationOptions", {})),
        runtime_id=limits.runtime_of(version),
    )
    spec = dataclasses.replace(spec, **dict[str, Any](files_after(request, pins or {})))
    check_tags(request.get("Tags", {}))
    _check_counts(spec, limits)
    return spec


def apply_update(
    record: EnvironmentRecord, request: Mapping[str, Any], limits: Limits, pins: Pins | None = None
) -> EnvironmentSpec:
    """Return the spec that is wanted after an UpdateEnvironment request.

    Absent members keep their value. An update without a changed field, or to another version,
    moves to the newest runtime (mwaa.md 1.6); any other stays on the one that runs.

    Args:
        record: The environment as it is now.

        request: Members of UpdateEnvironment, validated against the service model.

        limits: What this installation offers.

        pins: The files that `pins_wanted` asked for.

    Raises:
        InvalidRequestError: Names the field and what is accepted.
    """
    spec = record.spec
    _refuse_what_is_not_built(request)
    changes: dict[str, Any] = {
        **{field: request[member] for member, field in _COUNTS if member in request},
        **files_after(request, pins or {}, spec),
    }
    for member, field in _DESCRIPTIONS:
        if request.get(member):
            changes[field] = request[member]
    version = _version(
        request.get("AirflowVersion") or spec.airflow_version, limits, current=spec.airflow_version
    )
    if refusal := limits.change_refused(spec.airflow_version, version):
        raise InvalidRequestError(refusal)
    changes["airflow_version"] = version
    if "DagS3Path" in request:
        changes["dag_s3_path"] = relative_path("DagS3Path", request["DagS3Path"])
    changes["webserver_access_mode"] = _access_mode(
        request.get("WebserverAccessMode", spec.webserver_access_mode), version
    )
    if "NetworkConfiguration" in request:
        groups = _groups(request["NetworkConfiguration"].get("SecurityGroupIds"))
        if set(groups) != set(spec.security_group_ids):
            changes["security_group_ids"] = groups
    if "WeeklyMaintenanceWindowStart" in request:
        changes["weekly_maintenance_window_start"] = _window(request["WeeklyMaintenanceWindowStart"])
    if "LoggingConfiguration" in request:
        changes["logging"] = _logging(spec.logging, request["LoggingConfiguration"])
    if "AirflowConfigurationOptions" in request:
        changes["airflow_configuration_options"] = _options(request["AirflowConfigurationOptions"])
    if request.get("EnvironmentClass") not in (None, spec.environment_class):
        changes |= _to_class(spec, _class(request["EnvironmentClass"]), request)
    changed = dataclasses.replace(spec, **changes)
    _check_counts(changed, limits)
    if changed == spec or version != spec.airflow_version or not spec.runtime_id:
        changed = dataclasses.replace(changed, runtime_id=limits.runtime_of(version))
    return changed


def _to_class(spec: EnvironmentSpec, kind: EnvironmentClass, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what another class changes; counts that the caller leaves open are moved into its range."""
    ranges = {
        "min_workers": kind.workers,
        "max_workers": kind.workers,
        "schedulers": kind.schedulers,
        "min_webservers": kind.webservers,
        "max_webservers": kind.webservers,
    }
    moved = {
        field: min(max(getattr(spec, field), ranges[field].low), ranges[field].high)
        for member, field in _COUNTS
        if member not in request
    }
    return {"environment_class": kind.name, **moved}


def _version(version: str, limits: Limits, *, current: str | None = None) -> str:
    if version not in limits.airflow_versions and version != current:
        raise InvalidRequestError(
            f"AirflowVersion {version} is not supported. Supported versions: {', '.join(limits.airflow_versions)}."
        )
    return version


def check_tags(tags: Mapping[str, str]) -> None:
    """Refuse tags that belong to AWS or are too many.

    Raises:
        InvalidRequestError: Names the key or the limit.
    """
    for key in tags:
        if key.lower().startswith("aws:"):
            raise InvalidRequestError(
                f"Tag key {key} is not allowed: keys that begin with aws: are reserved for system use."
            )
    if len(tags) > MAX_TAGS:
        raise InvalidRequestError(f"An environment can have at most {MAX_TAGS} tags.")


def _refuse_what_is_not_built(request: Mapping[str, Any]) -> None:
    for member in _NOT_BUILT_YET:
        if request.get(member):  # an empty text or map asks for nothing
            raise InvalidRequestError(f"{member} is not supported by this release of OpenMWAA.")
    key = request.get("KmsKey", "")
    if "alias/" in key:
        raise InvalidRequestError("KmsKey must be a key id or the ARN of a key; aliases are not supported.")
    if key:
        raise InvalidRequestError(
            "KmsKey is not supported by this release of OpenMWAA: secrets are encrypted with the service's own key."
        )
    if request.get("EndpointManagement") == "CUSTOMER":
        raise InvalidRequestError(
            "EndpointManagement CUSTOMER is not supported: a self-hosted service has no VPC endpoints."
        )


def _class(name: str) -> EnvironmentClass:
    if name not in CLASSES:
        raise InvalidRequestError(
            f"EnvironmentClass {name} is not supported. Supported classes: {', '.join(CLASSES)}."
        )
    return CLASSES[name]


def _check_counts(spec: EnvironmentSpec, limits: Limits) -> None:
    kind = CLASSES[spec.environment_class]
    workers = kind.workers if kind.workers.low == kind.workers.high else Range(1, limits.max_workers)
    web = Range(kind.webservers.low, min(kind.webservers.high, limits.max_webservers))
    checks = (
        ("worker", "MinWorkers", spec.min_workers, workers),
        ("worker", "MaxWorkers", spec.max_workers, workers),
        ("scheduler", "Schedulers", spec.schedulers, kind.schedulers),
        ("web server", "MinWebservers", spec.min_webservers, web),
        ("web server", "MaxWebservers", spec.max_webservers, web),
    )
    for what, member, value, accepted in checks:
        if value not in accepted:
            raise InvalidRequestError(_out_of_range(what, member, value, kind.name, accepted))
    if spec.min_workers > spec.max_workers:
        raise InvalidRequestError(
            f"MinWorkers ({spec.min_workers}) must be less than or equal to MaxWorkers ({spec.max_workers})."
        )
    if spec.min_webservers > spec.max_webservers:
        raise InvalidRequestError(
            f"MinWebservers ({spec.min_webservers}) must be less than or equal to"
            f" MaxWebservers ({spec.max_webservers})."
        )


def _out_of_range(what: str, member: str, value: int, kind: str, accepted: Range) -> str:
    if accepted.low == accepted.high:  # AWS's own wording (mwaa.md 1.3)
        return f"The {what} count for environment class {kind} must be {accepted.low}."
    return (
        f"The {what} count for environment class {kind} must be between {accepted.low} and"
        f" {accepted.high}; {member} is {value}."
    )


def _subnets(ids: Sequence[str] | None) -> tuple[str, ...]:
    if not ids or len(ids) != 2:
        raise InvalidRequestError("NetworkConfiguration.SubnetIds must hold exactly 2 subnets.")
    if len(set(ids)) != len(ids):
        raise InvalidRequestError("NetworkConfiguration.SubnetIds must be 2 different subnets.")
    return tuple(ids)


def _groups(ids: Sequence[str] | None) -> tuple[str, ...]:
    if not ids or not 1 <= len(ids) <= 5:
        raise InvalidRequestError("NetworkConfiguration.SecurityGroupIds must hold 1 to 5 security groups.")
    if len(set(ids)) != len(ids):
        raise InvalidRequestError("NetworkConfiguration.SecurityGroupIds must be different security groups.")
    return tuple(ids)


def _access_mode(mode: str, version: str) -> str:
    numbers = tuple(int(part) for part in version.split(".")[:2])
    if mode == "PUBLIC_AND_PRIVATE" and numbers < _FIRST_PUBLIC_AND_PRIVATE:
        raise InvalidRequestError(
            f"WebserverAccessMode PUBLIC_AND_PRIVATE needs Airflow 3.2 or higher, not {version}."
        )
    return mode


def _window(text: str) -> str:
    # The model's pattern lets anything stand before and after.
    if not _WINDOW.fullmatch(text):
        raise InvalidRequestError(
            "WeeklyMaintenanceWindowStart must have the form DAY:HH:MM with DAY one of"
            f" {', '.join(_DAYS)} and minutes 00 or 30."
        )
    return text


def _default_window(name: str) -> str:
    """Spread environments over the week; the same name always gets the same window."""
    slot = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % (7 * 48)
    day, half_hour = divmod(slot, 48)
    return f"{_DAYS[day]}:{half_hour // 2:02}:{'30' if half_hour % 2 else '00'}"


def _logging(current: Mapping[str, LogSetting], request: Mapping[str, Any]) -> dict[str, LogSetting]:
    return {
        member: LogSetting(enabled=request[member]["Enabled"], level=request[member]["LogLevel"])
        if member in request
        else current[member]
        for member in LOG_TYPES
    }


def _options(options: Mapping[str, str]) -> dict[str, str]:
    for key in options:
        if "." not in key:
            raise InvalidRequestError(
                f"AirflowConfigurationOptions key {key} must have the form section.option."
            )
    return dict(options)
