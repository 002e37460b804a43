"""Steps that try a change on the side, so that what cannot work never reaches what runs."""

from __future__ import annotations

import asyncio
from typing import Final

from openmwaa.airflow.dag_check import DagImports, check_command, new_errors, read_imports
from openmwaa.environments.manifest import Kind, Manifest
from openmwaa.environments.record import ALLOW_IMPORT_ERRORS, EnvironmentRecord
from openmwaa.kit.errors import GiveUp
from openmwaa.reconcile.parts import Parts, StepResult
from openmwaa.reconcile.plan import Step

_SCRIPT_TIMEOUT_S: Final = 320.0
"""The script's own limit, and a start of Python."""

_IMPORT_TIMEOUT_S: Final = 300.0
_CHECK_SCRIPT: Final = ("python", "-P", "-m", "openmwaa_airflow.startup", "check")
_COMPONENT: Final = "MWAA_AIRFLOW_COMPONENT"
_LAST_LINES: Final = 5
_FILES_NAMED: Final = 3


async def check_startup_script(parts: Parts, record: EnvironmentRecord) -> StepResult:
    """Run the start-up script once as each component would, beside them.

    Raises:
        GiveUp: It failed or took too long; its last lines are the evidence.
    """
    manifest = parts.manifest(record)

    kinds = sorted({one.variables[_COMPONENT] for one in manifest.components})

    async def run_as(component: str) -> None:
        result = await parts.backend.run(manifest, (*_CHECK_SCRIPT, component), timeout_s=_SCRIPT_TIMEOUT_S)
        if result.exit_code != 0:
            lines = result.stderr.decode(errors="replace").strip().splitlines()
            raise GiveUp(
                "The start-up script failed",
                code="STARTUP_SCRIPT_FAILED",
                component=component,
                evidence=" | ".join(line.strip() for line in lines[-_LAST_LINES:]),
                fix="The script must end with exit code 0 within 295 seconds on every component.",
            )

    results = await asyncio.gather(*map(run_as, kinds), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return StepResult(message="The start-up script was tried")


async def look_at_dags(parts: Parts, record: EnvironmentRecord) -> StepResult:
    """Remember which DAG files cannot be imported before a version change, while the database is there."""
    return StepResult(sorted((await imports_of(parts, parts.running_manifest(record))).errors))


async def check_dags(parts: Parts, record: EnvironmentRecord) -> StepResult:
    """Import the environment's DAGs as the change would; what could be imported before must still be.

    Raises:
        GiveUp: A DAG file can no longer be imported. Not if the change was accepted with
            `ALLOW_IMPORT_ERRORS`.
    """
    try:
        after = await imports_of(parts, parts.manifest(record))
    except GiveUp:
        if ALLOW_IMPORT_ERRORS in record.checkpoints:
            return StepResult(message="The DAGs could not be imported beforehand")
        raise
    if not after.errors:
        return StepResult(message=_imported(after))
    broken = after.errors
    if record.good_spec is not None and record.good_spec.airflow_version == record.spec.airflow_version:
        broken = new_errors(await imports_of(parts, parts.running_manifest(record)), after)
    else:
        known = record.checkpoints.get(Step.LOOK_AT_DAGS) or []
        broken = {path: error for path, error in after.errors.items() if path not in known}
    if broken and ALLOW_IMPORT_ERRORS not in record.checkpoints:
        files = sorted(broken)
        more = f" and {len(files) - _FILES_NAMED} more" if len(files) > _FILES_NAMED else ""
        raise GiveUp(
            f"{', '.join(files[:_FILES_NAMED])}{more} can no longer be imported",
            code="DAG_IMPORT_FAILED",
            component="dag-processing",
            evidence=broken[files[0]],
            fix="Make the DAG work with both, see `openmwaa env plan`; or `env update --allow-import-errors`.",
        )
    return StepResult(message=_imported(after))


async def imports_of(parts: Parts, manifest: Manifest) -> DagImports:
    """Import the DAG folder once with what a manifest says, beside the components.

    As the DAG processor would: the start-up script runs before, so DAG files find its variables.

    Raises:
        GiveUp: The check itself cannot run.
    """
    processor = next(one for one in manifest.components if one.kind is Kind.DAG_PROCESSOR)
    command = check_command(processor.variables[_COMPONENT])
    result = await parts.backend.run(manifest, command, timeout_s=_SCRIPT_TIMEOUT_S + _IMPORT_TIMEOUT_S)
    imports = read_imports(result.stdout)
    if imports is None:
        lines = result.stderr.decode(errors="replace").strip().splitlines()
        raise GiveUp(
            f"the DAGs could not be imported (exit code {result.exit_code})",
            code="DAG_CHECK_FAILED",
            component="dag-processing",
            evidence=lines[-1] if lines else "",
        )
    return imports


def _imported(imports: DagImports) -> str:
    errors = f"; {len(imports.errors)} files with errors" if imports.errors else ""
    return f"{len(imports.dags)} DAGs were imported with the change{errors}"
