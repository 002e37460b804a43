"""Between rows of `environments` and `EnvironmentRecord`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from openmwaa.environments.arns import EnvironmentArn
from openmwaa.environments.record import EnvironmentRecord, LastUpdate, UpdateError
from openmwaa.environments.spec import EnvironmentSpec


def to_record(row: Mapping[str, Any]) -> EnvironmentRecord:
    """Read one row."""
    good = row["good_spec"]
    return EnvironmentRecord(
        id=row["id"],
        ordinal=row["ordinal"],
        arn=EnvironmentArn(row["region"], row["account"], row["name"]),
        created_at=row["created_at"],
        spec=EnvironmentSpec.from_json(row["spec"]),
        generation=row["generation"],
        observed_generation=row["observed_generation"],
        last_update=_to_last_update(row["last_update"]),
        good_spec=EnvironmentSpec.from_json(good) if good else None,
        failed_generation=row["failed_generation"],
        rolling_back=row["rolling_back"],
        last_change_failed=row["last_change_failed"],
        deleting=row["deleting"],
        deleted_at=row["deleted_at"],
        tags=row["tags"],
        checkpoints=row["checkpoints"],
        secrets=row["secrets"],
        attempts=row["attempts"],
        next_attempt_at=row["next_attempt_at"],
        last_error=row["last_error"],
    )


def from_last_update(update: LastUpdate) -> dict[str, Any]:
    """Return the JSON that `to_record` reads back."""
    return {
        "status": update.status,
        "created_at": update.created_at.astimezone(UTC).isoformat(),
        "source": update.source,
        "error": {"code": update.error.code, "message": update.error.message} if update.error else None,
        "worker_replacement_strategy": update.worker_replacement_strategy,
    }


def _to_last_update(data: Mapping[str, Any]) -> LastUpdate:
    error = data.get("error")
    return LastUpdate(
        status=data["status"],
        created_at=datetime.fromisoformat(data["created_at"]),
        source=data.get("source"),
        error=UpdateError(error["code"], error["message"]) if error else None,
        worker_replacement_strategy=data.get("worker_replacement_strategy"),
    )
