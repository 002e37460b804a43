"""From a request of UpdateEnvironment to an accepted change: the same for the AWS API and the operator's.

What can be known to fail is refused here, with MWAA's own error, and nothing changes.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from openmwaa.airflow.option_check import check_options
from openmwaa.api.ports import Preflight
from openmwaa.environments.arns import bucket_of
from openmwaa.environments.changes import with_strategy
from openmwaa.environments.manifest import Manifest
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.environments.requests import Limits, apply_update, build_spec
from openmwaa.environments.source_files import Pins, pins_wanted
from openmwaa.environments.spec import EnvironmentSpec, S3File
from openmwaa.environments.status import Status
from openmwaa.kit.errors import Retry
from openmwaa.store import Store

_log = structlog.get_logger(__name__)

_BUCKET_TIMEOUT_S: Final = 5.0
_HOST_TIMEOUT_S: Final = 5.0
_PIN_TIMEOUT_S: Final = 60.0
"""Plugins may be a gigabyte, and are read once to know their digest."""

FORCED: Final = "FORCED"


class Updates:
    """Turns requests into specs and has them accepted."""

    def __init__(
        self,
        store: Store,
        preflight: Preflight,
        limits: Limits,
        manifest: Callable[[EnvironmentRecord, EnvironmentSpec], Manifest],
    ) -> None:
        """Take what requests are checked against.

        Args:
            store: Where changes are accepted.

            preflight: Looks at the source bucket.

            limits: What this installation offers.

            manifest: What should run for a spec of an environment; no I/O.
        """
        self._store = store
        self._preflight = preflight
        self._limits = limits
        self._manifest = manifest

    async def new_spec(self, request: Mapping[str, Any]) -> EnvironmentSpec:
        """Return the spec of a new environment.

        Args:
            request: Members of CreateEnvironment.

        Raises:
            InvalidRequestError: Names what cannot be carried out.

            Retry: The source bucket's server cannot answer now.
        """
        build_spec(request, self._limits)  # what needs no look outside is refused first
        await self._check_bucket(request["SourceBucketArn"], request["DagS3Path"])
        spec = build_spec(request, self._limits, await self._pin(request))
        _option_warnings(spec)
        async with asyncio.timeout(_HOST_TIMEOUT_S):
            await self._preflight.host(None, spec)
        return spec

    async def wanted(
        self, record: EnvironmentRecord, request: Mapping[str, Any], *, given: Pins | None = None
    ) -> EnvironmentSpec:
        """Return the spec that a request leads to. Changes nothing.

        Args:
            record: The environment as it is.

            request: Members of UpdateEnvironment.

            given: Files that are not in the bucket yet, by field of the spec: for a preview.

        Raises:
            InvalidRequestError: Names what cannot be carried out.

            Retry: The source bucket's server cannot answer now.
        """
        return (await self._prepare(record, request, given))[0]

    async def accept(
        self, name: str, request: Mapping[str, Any], *, source: str, notes: Mapping[str, Any] | None = None
    ) -> EnvironmentRecord:
        """Accept a change; its work begins at once.

        Args:
            name: The environment.

            request: Members of UpdateEnvironment; without a changed member every component is replaced.

            source: `LastUpdate.Source`.

            notes: What the work begins with.

        Raises:
            EnvironmentNotFoundError: No living environment has this name.

            InvalidRequestError: Names what cannot be carried out, or the status that does not accept it.

            Retry: The source bucket's server cannot answer now.
        """
        known = await self._store.environments.get(name)
        _, pins = await self._prepare(known, request, None)
        strategy = request.get("WorkerReplacementStrategy") or FORCED

        def edit(current: EnvironmentRecord) -> EnvironmentSpec:
            after = apply_update(current, request, self._limits, pins)
            # A forced update turns a graceful replacement that goes on into a forced one (mwaa.md 2.3).
            hurry = strategy == FORCED and current.status is Status.MAINTENANCE
            after = dataclasses.replace(after, hurry=hurry)
            return with_strategy(current.spec, after, strategy, lambda spec: self._manifest(current, spec))

        changed = await self._store.environments.change(
            name, edit, source=source, strategy=strategy, notes=notes
        )
        if changed.spec.airflow_configuration_options != known.spec.airflow_configuration_options:
            await self.note_warnings(changed)
        return changed

    async def note_warnings(self, record: EnvironmentRecord) -> None:
        """Tell the user in the environment's history which options work otherwise than they may think."""
        warnings = _option_warnings(record.spec)
        if not warnings:
            return
        try:
            await self._store.events.append(
                record.id, record.name, "options", " ".join(warnings), warnings=warnings
            )
        except Retry as error:
            # The change itself was accepted: that must not look like a failure.
            _log.warning("event-lost", environment=record.name, reason=error.reason)

    async def _prepare(
        self, record: EnvironmentRecord, request: Mapping[str, Any], given: Pins | None
    ) -> tuple[EnvironmentSpec, Pins]:
        before = record.spec
        wanted = apply_update(record, request, self._limits)  # what needs no look outside is refused first
        if (wanted.source_bucket_arn, wanted.dag_s3_path) != (before.source_bucket_arn, before.dag_s3_path):
            # Before its files: of a bucket that does not exist they say less.
            await self._check_bucket(wanted.source_bucket_arn, wanted.dag_s3_path)
        pins = {**(await self._pin(request, before)), **(given or {})}
        wanted = apply_update(record, request, self._limits, pins)
        # Options that were accepted before must not stand in the way of, say, another worker.
        if (wanted.airflow_configuration_options, wanted.airflow_version) != (
            before.airflow_configuration_options,
            before.airflow_version,
        ):
            _option_warnings(wanted)
        async with asyncio.timeout(_HOST_TIMEOUT_S):
            await self._preflight.host(record, wanted)
        return wanted, pins

    async def _check_bucket(self, arn: str, prefix: str) -> None:
        async with asyncio.timeout(_BUCKET_TIMEOUT_S):
            await self._preflight.check(bucket_of(arn), prefix)

    async def _pin(
        self, request: Mapping[str, Any], spec: EnvironmentSpec | None = None
    ) -> dict[str, S3File]:
        """Look up the files that a request names."""
        wanted = pins_wanted(request, spec)
        async with asyncio.timeout(_PIN_TIMEOUT_S):
            found = await asyncio.gather(
                *(
                    self._preflight.pin(one.bucket, one.path, one.version, max_bytes=one.max_bytes)
                    for one in wanted.values()
                )
            )
        return dict(zip(wanted, found, strict=True))


def _option_warnings(spec: EnvironmentSpec) -> list[str]:
    """Refuse options that cannot work with the version that is wanted; return warnings about others."""
    return check_options(
        spec.airflow_configuration_options,
        spec.airflow_version,
        more_packages=spec.requirements is not None,
    )
