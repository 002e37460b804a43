"""One row of the store: what is wanted, what was seen, and how far the work has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from openmwaa.environments.arns import EnvironmentArn
from openmwaa.environments.spec import EnvironmentSpec
from openmwaa.environments.status import Facts, Status, status_of

MAINTENANCE: Final = "MAINTENANCE"
"""`LastUpdate.Source` of what the service itself changed in a maintenance window."""

STOPPED: Final = "stop-components"
COPIED: Final = "copy-database"
"""Checkpoints between which a version change shows CREATING_SNAPSHOT."""

STARTED: Final = "start"
"""Checkpoint after which components of the wanted spec may run."""

RESTORED: Final = "restore-database"
"""Checkpoint after which the copy of the note `UNDO` is back."""

RESTORE_FROM: Final = "restore-from"
"""Note of a generation: id of the snapshot whose content its metadata database gets."""

UNDO: Final = "undo"
"""Note of a generation: label of the database copy to put back first. Outlives a failed rollback."""

FAILING_SINCE: Final = "failing-since"
"""Note of a generation: when the current step first failed in a row; means nothing without attempts."""

ALLOW_IMPORT_ERRORS: Final = "allow-import-errors"
"""Note of a generation: DAGs that can no longer be imported do not stop the change."""


@dataclass(frozen=True)
class UpdateError:
    """`LastUpdate.Error`: MWAA's code and a message of at most 1,024 characters."""

    code: str
    message: str


@dataclass(frozen=True)
class LastUpdate:
    """`LastUpdate` of GetEnvironment (mwaa.md 2.5)."""

    status: str
    created_at: datetime
    source: str | None = None
    error: UpdateError | None = None
    worker_replacement_strategy: str | None = None


@dataclass(frozen=True)
class EnvironmentRecord:
    """An environment as the store knows it. Immutable; the store writes, everybody reads.

    Attributes:
        id: Short unique id, `[a-z0-9]{12}`; names folders, databases and log lines. Never reused.

        ordinal: 1 to 250, unique among living environments; decides address and Linux user.

        spec: What is wanted now, as of `generation`.

        good_spec: What was last seen healthy, as of `observed_generation`; None before the first.

        checkpoints: What the steps of the current work wrote down, by step name, and the notes that
            the work began with.

        secrets: Sealed texts by name; open with the context `environment/<id>/<name>`.

        attempts: Failed tries of the current step; `next_attempt_at` is when to try again.
    """

    id: str
    ordinal: int
    arn: EnvironmentArn
    created_at: datetime
    spec: EnvironmentSpec
    generation: int
    observed_generation: int
    last_update: LastUpdate
    good_spec: EnvironmentSpec | None = None
    failed_generation: int = 0
    rolling_back: bool = False
    last_change_failed: bool = False
    deleting: bool = False
    deleted_at: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    checkpoints: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    attempts: int = 0
    next_attempt_at: datetime | None = None
    last_error: str | None = None

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def database_is_replaced(self) -> bool:
        """Whether what is written to the metadata database now may be lost: it is moved as a whole."""
        unfinished = self.generation not in (self.observed_generation, self.failed_generation)
        return unfinished and STOPPED in self.checkpoints and STARTED not in self.checkpoints

    @property
    def facts(self) -> Facts:
        return Facts(
            generation=self.generation,
            observed_generation=self.observed_generation,
            failed_generation=self.failed_generation,
            rolling_back=self.rolling_back,
            last_change_failed=self.last_change_failed,
            deleting=self.deleting,
            deleted=self.deleted_at is not None,
            snapshotting=STOPPED in self.checkpoints and not {COPIED, UNDO} & self.checkpoints.keys(),
            maintenance=self.last_update.source == MAINTENANCE,
        )

    @property
    def status(self) -> Status:
        return status_of(self.facts)

    def secret_context(self, name: str) -> str:
        """Return the context that binds a sealed secret to this environment and name."""
        return f"environment/{self.id}/{name}"


@dataclass(frozen=True)
class Event:
    """One line of an environment's history, written for a reader."""

    id: int
    at: datetime
    environment_id: str
    environment_name: str
    kind: str
    message: str
    data: Mapping[str, Any] = field(default_factory=dict)
