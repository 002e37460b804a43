"""One piece of work on one environment: from what its row says to an outcome."""

from __future__ import annotations

import dataclasses
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog

from openmwaa.environments.record import (
    ALLOW_IMPORT_ERRORS,
    COPIED,
    FAILING_SINCE,
    RESTORE_FROM,
    UNDO,
    EnvironmentRecord,
    LastUpdate,
    UpdateError,
)
from openmwaa.environments.spec import EnvironmentSpec
from openmwaa.kit.errors import GiveUp, in_words
from openmwaa.reconcile.act import Actor
from openmwaa.reconcile.plan import Step, next_step
from openmwaa.store import Store
from openmwaa.store.leases import Lease, Outcome

_log = structlog.get_logger()

_NOW: Final = timedelta(0)
_WATCH_EVERY: Final = timedelta(seconds=10)
_DEADLINE: Final = timedelta(minutes=30)
_MESSAGE_LIMIT: Final = 1024
_MWAAS_CODE: Final = "INCORRECT_CONFIGURATION"
_NOTES: Final = frozenset({ALLOW_IMPORT_ERRORS, FAILING_SINCE, RESTORE_FROM, UNDO})


class Cycle:
    """Runs the steps of one environment until nothing is left to do or one cannot go on.

    `record` is kept equal to the row as far as this holder of the lease changes it.
    """

    def __init__(self, store: Store, actor: Actor, lease: Lease, record: EnvironmentRecord) -> None:
        self._store = store
        self._actor = actor
        self._lease = lease
        self._starting = False
        self.record = record

    async def run(self) -> Outcome:
        """Do every step that is left.

        Raises:
            Retry: A step cannot go on now.

            GiveUp: What is wanted cannot be reached.

            LeaseLostError: Another holder works on it now.
        """
        if next_step(self.record, self.record.checkpoints) is None and not self._unfinished():
            return await self._watch()
        while (step := next_step(self.record, self.record.checkpoints)) is not None:
            started = time.monotonic()
            _log.info("step_started", step=step)
            self._starting = step is Step.START
            result = await self._actor.act(step, self.record)
            seconds = round(time.monotonic() - started, 2)
            await self._store.leases.checkpoint(
                self._lease, self.record, step, result.checkpoint, secrets=result.secrets
            )
            self.record = dataclasses.replace(
                self.record,
                checkpoints={**self.record.checkpoints, step: result.checkpoint},
                secrets={**self.record.secrets, **result.secrets},
                attempts=0,
            )
            _log.info("step_done", step=step, seconds=seconds)
            if result.message:
                await self._event(f"step-{step}", f"{result.message} ({seconds:.1f} s)", seconds=seconds)
        return self._reached()

    def failed_attempt(self, reason: str, wait: timedelta, *, patient: bool = False) -> Outcome:
        """Return the outcome of a try that may succeed later, or give up after the deadline.

        The deadline is for failing in a row at one step. Counted from the request, a change that
        drained for hours would be undone by the first hiccup, and an undoing have no time at all.

        Args:
            reason: Why it did not succeed now.

            wait: How long to wait before the next.

            patient: What it waits for may take hours: nothing failed.
        """
        _log.info("attempt_failed", reason=reason, attempts=self.record.attempts + 1)
        if patient:
            return Outcome(next_in=wait, attempts=0, last_error=reason)
        attempts = self.record.attempts + 1
        if not self._unfinished():
            return Outcome(next_in=wait, attempts=attempts, last_error=reason)
        since = self._failing_since()
        if self._may_give_up() and datetime.now(UTC) - since > _DEADLINE:
            return self.given_up(
                GiveUp(f"Not finished within {_DEADLINE.total_seconds() / 60:.0f} minutes: {reason}")
            )
        news = None
        if reason != self.record.last_error:
            news = ("waiting", f"Trying again: {reason}.", {"attempts": attempts})
        return Outcome(
            next_in=wait,
            checkpoints={**self.record.checkpoints, FAILING_SINCE: since.isoformat()},
            attempts=attempts,
            last_error=reason,
            event=news,
        )

    def given_up(self, error: GiveUp) -> Outcome:
        """Return the outcome of a change that can never be reached."""
        record = self.record
        message = in_words(error)
        data = {
            "code": error.code,
            "component": error.component,
            "reason": error.reason,
            "evidence": error.evidence,
            "fix": error.fix,
        }
        update = self._last_update("FAILED", UpdateError(_MWAAS_CODE, self._told(error)))
        if record.deleting:
            return Outcome(
                next_in=timedelta(seconds=30),
                attempts=record.attempts + 1,
                last_error=error.reason,
                event=("delete-stuck", f"Deleting cannot go on: {message}", data),
            )
        if record.observed_generation == 0 or record.rolling_back:
            kind = "create-failed" if record.observed_generation == 0 else "rollback-failed"
            return Outcome(
                next_in=_WATCH_EVERY,
                failed=True,
                last_update=update,
                last_error=error.reason,
                event=(
                    kind,
                    f"{'Create' if kind == 'create-failed' else 'Rollback'} failed: {message}",
                    data,
                ),
            )
        return Outcome(
            next_in=_NOW,
            roll_back_to=self._former_spec(),
            notes=self._undo(),
            attempts=0,
            last_update=update,
            last_error=error.reason,
            event=("rolling-back", f"The change failed and is undone: {message}", data),
        )

    def _told(self, error: GiveUp) -> str:
        """Return the message of `LastUpdate.Error`; a failed rollback does not hide what it is for."""
        first = self.record.last_update.error
        if not self.record.rolling_back or first is None:
            return in_words(error, limit=_MESSAGE_LIMIT)
        after = f" The rollback failed too: {in_words(error, limit=_MESSAGE_LIMIT // 2)}"
        return first.message[: _MESSAGE_LIMIT - len(after)] + after

    def _former_spec(self) -> EnvironmentSpec | None:
        """Return the spec to go back to.

        Workers that were told to finish cannot be called back: the former spec gets new ones. Before
        that, nothing that runs was touched, and going back must not touch it either.
        """
        good, failed = self.record.good_spec, self.record.spec
        if good is None or good.worker_series == failed.worker_series:
            return good
        if Step.START not in self.record.checkpoints and not self._starting:
            return good
        return dataclasses.replace(good, worker_series=failed.worker_series + 1)

    def _undo(self) -> dict[str, str]:
        """Return the note that has the copied database put back."""
        checkpoints = self.record.checkpoints
        label = checkpoints.get(COPIED) or checkpoints.get(UNDO)
        return {UNDO: str(label)} if label else {}

    def _without_notes(self) -> dict[str, Any]:
        """Return the checkpoints without what only concerned work that is done."""
        return {name: value for name, value in self.record.checkpoints.items() if name not in _NOTES}

    def _reached(self) -> Outcome:
        record = self.record
        seconds = self._age().total_seconds()
        if record.deleting:
            return Outcome(
                next_in=_NOW,
                deleted=True,
                event=("deleted", f"Deleted in {seconds:.1f} s.", {"seconds": seconds}),
            )
        if record.rolling_back:
            return Outcome(
                next_in=_WATCH_EVERY,
                observed=True,
                checkpoints=self._without_notes(),
                attempts=0,
                last_change_failed=True,
                last_error="",
                event=("rolled-back", "The former configuration runs again.", {}),
            )
        verb = "Created" if record.observed_generation == 0 else "Updated"
        return Outcome(
            next_in=_WATCH_EVERY,
            observed=True,
            checkpoints=self._without_notes(),
            attempts=0,
            last_change_failed=False,
            last_error="",
            last_update=self._last_update("SUCCESS", None),
            event=(
                "available",
                f"{verb} in {seconds:.1f} s.",
                {"seconds": seconds, "generation": record.generation},
            ),
        )

    async def _watch(self) -> Outcome:
        """Look at an environment that needs nothing: note what changed, put back what is missing."""
        notes = await self._actor.watch(self.record)
        for kind, message, data in notes:
            await self._event(kind, message, **data)
        return Outcome(next_in=_WATCH_EVERY, attempts=0)

    def _unfinished(self) -> bool:
        record = self.record
        return record.deleting or record.generation not in (
            record.observed_generation,
            record.failed_generation,
        )

    def _may_give_up(self) -> bool:
        """Return whether there is a way back. Where copies are being dropped, one may be gone already."""
        record = self.record
        return not record.deleting and next_step(record, record.checkpoints) is not Step.DROP_COPIES

    def _failing_since(self) -> datetime:
        """Return when the current step first failed in a row: now, if it did not before."""
        noted = self.record.checkpoints.get(FAILING_SINCE) if self.record.attempts else None
        return datetime.fromisoformat(noted) if noted else datetime.now(UTC)

    def _age(self) -> timedelta:
        since = self.record.last_update.created_at
        if self.record.deleting and "requested-at" in self.record.checkpoints:
            since = datetime.fromisoformat(self.record.checkpoints["requested-at"])
        return datetime.now(UTC) - since

    def _last_update(self, status: str, error: UpdateError | None) -> LastUpdate:
        return dataclasses.replace(self.record.last_update, status=status, error=error)

    async def _event(self, kind: str, message: str, **data: Any) -> None:
        await self._store.events.append(self.record.id, self.record.name, kind, message, **data)
