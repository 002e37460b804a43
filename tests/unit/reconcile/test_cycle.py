"""What one piece of work writes down when it cannot go on."""

from __future__ import annotations

from typing import Any, cast

from openmwaa.kit.errors import GiveUp, in_words
from openmwaa.reconcile.cycle import Cycle
from tests.support.specs import a_record, a_spec


def test_a_cause_is_in_the_history_in_full_and_in_last_update_within_mwaas_limit() -> None:
    """`LastUpdate.Error` holds 1,024 characters; `openmwaa events` has no such limit."""
    nothing = cast(Any, None)  # giving up asks nobody
    record = a_record(generation=2, observed_generation=1, good_spec=a_spec())
    error = GiveUp("It broke.", code="BROKEN", component="worker", evidence="x" * 2000, fix="Mend it.")
    outcome = Cycle(nothing, nothing, nothing, record).given_up(error)
    assert outcome.last_update is not None
    assert outcome.last_update.error is not None
    assert outcome.last_update.error.code == "INCORRECT_CONFIGURATION"
    assert len(outcome.last_update.error.message) == 1024
    assert outcome.last_update.error.message.endswith("Fix: Mend it. Code: BROKEN")
    assert outcome.event is not None
    kind, message, data = outcome.event
    assert kind == "rolling-back"
    assert in_words(error) in message
    assert data["code"] == "BROKEN"
    assert data["evidence"] == error.evidence
