"""The layers of environments: fetches the files that a spec pins and has them built."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from openmwaa.artifacts.layer_resolution import installed_packages
from openmwaa.artifacts.layers import Layer, LayerInputs, LayerStore
from openmwaa.artifacts.pinned_object import ObjectChangedError
from openmwaa.artifacts.runtimes import Runtime
from openmwaa.artifacts.source_bucket import SourceBucket
from openmwaa.environments.arns import bucket_of
from openmwaa.environments.errors import InvalidRequestError
from openmwaa.environments.layer import layer_of
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.environments.source_files import SOURCE_FILES
from openmwaa.environments.spec import EnvironmentSpec, S3File
from openmwaa.kit.errors import GiveUp


class Runtimes(Protocol):
    """Finds and installs runtimes."""

    async def ensure_id(self, runtime_id: str) -> Runtime: ...


class EnvironmentLayers:
    """Builds what environments have on top of their runtimes."""

    def __init__(
        self,
        layers: LayerStore,
        runtimes: Runtimes,
        source: SourceBucket,
        *,
        scratch: Path,
        dags_of: Callable[[EnvironmentRecord], Path | None],
    ) -> None:
        """Take the parts.

        Args:
            layers: Builds and keeps layers.

            runtimes: What they stand on.

            source: Reads the files.

            scratch: Where files are kept while a layer is built; only we may read it.

            dags_of: The DAG folder of an environment on this host, for requirements that name files
                in it; None: there is none yet.
        """
        self._layers = layers
        self._runtimes = runtimes
        self._source = source
        self._scratch = scratch
        self._dags_of = dags_of

    async def ensure(
        self,
        record: EnvironmentRecord,
        spec: EnvironmentSpec,
        contents: Mapping[str, bytes] | None = None,
    ) -> Layer | None:
        """Return the layer of a spec, building it first if need be; None: it has none.

        Args:
            record: The environment.

            spec: What is wanted.

            contents: Files that are not in the bucket, by field of the spec.

        Raises:
            GiveUp: One of the files cannot be used.

            Retry: The source bucket or a package index does not answer.
        """
        made = layer_of(spec)
        if made is None:
            return None
        known = await self._layers.use(made)
        if known is not None:
            return known
        runtime = await self._runtimes.ensure_id(spec.runtime_id)
        folder = await self._fetch(spec, contents or {})
        try:
            return await self._layers.ensure(self._inputs(record, runtime, folder))
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def installed(
        self,
        record: EnvironmentRecord,
        spec: EnvironmentSpec,
        contents: Mapping[str, bytes] | None = None,
    ) -> Mapping[str, str]:
        """Return every package that a spec leads to, with its version; builds nothing.

        Raises:
            GiveUp: The requirements cannot be satisfied.

            Retry: The source bucket or a package index does not answer.
        """
        runtime = await self._runtimes.ensure_id(spec.runtime_id)
        below = await asyncio.to_thread(installed_packages, runtime.path)
        if spec.requirements is None:
            return below
        made = layer_of(spec)
        known = await self._layers.use(made) if made else None
        if known is not None:
            return {**below, **known.facts["packages"]}
        folder = await self._fetch(spec, contents or {})
        try:
            inputs = self._inputs(record, runtime, folder)
            assert inputs.requirements is not None  # noqa: S101 - the spec has the file
            found = await self._layers.resolve(runtime, inputs.requirements, inputs.plugins, dags=inputs.dags)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return found.packages

    async def _fetch(self, spec: EnvironmentSpec, contents: Mapping[str, bytes]) -> Path:
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=self._scratch))
        bucket = bucket_of(spec.source_bucket_arn)
        try:
            for file in SOURCE_FILES:
                pinned = getattr(spec, file.field)
                if file.field in contents:
                    (folder / file.field).write_bytes(contents[file.field])
                elif pinned is not None:
                    await self._fetch_one(bucket, pinned, folder / file.field)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return folder

    async def _fetch_one(self, bucket: str, file: S3File, target: Path) -> None:
        try:
            await self._source.fetch(bucket, file.path, file.version, target, digest=file.digest)
        except (InvalidRequestError, ObjectChangedError) as error:
            raise GiveUp(
                f"Unable to access version {file.version} of {bucket}/{file.path}",
                code="SOURCE_FILE_GONE",
                evidence=str(error),
                fix="Upload the file again and update the environment with its new version.",
            ) from error

    def _inputs(self, record: EnvironmentRecord, runtime: Runtime, folder: Path) -> LayerInputs:
        def content(field: str) -> bytes | None:
            path = folder / field
            return path.read_bytes() if path.exists() else None

        plugins = folder / "plugins"
        return LayerInputs(
            runtime=runtime,
            requirements=content("requirements"),
            plugins=plugins if plugins.exists() else None,
            startup_script=content("startup_script"),
            dags=self._dags_of(record),
        )
