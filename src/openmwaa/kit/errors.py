"""The words deep code uses to talk to a loop: try again, wait, or stop.

Anything else that escapes a step is a bug: the loop logs it, backs off and retries.
"""

from typing import Final

_NO_CODE: Final = "INCORRECT_CONFIGURATION"
"""MWAA's own word for everything that goes wrong."""

_LEAST_EVIDENCE: Final = 40
"""Characters below which a shortened evidence proves nothing."""


class Retry(Exception):
    """The other side cannot answer now; nothing is known to have changed."""

    def __init__(self, reason: str, *, after_s: float = 1.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after_s = after_s


class Waiting(Retry):
    """Something goes on that may take hours, as it should: there is no deadline and no backing off."""


class GiveUp(Exception):
    """What is wanted can never be reached. `reason` is shown to the user.

    Args:
        reason: One sentence for the user; no secrets, no stack trace.

        code: Stable machine-readable cause, e.g. `DAG_FOLDER_UNREADABLE`.

        component: What failed, e.g. `webserver`; empty when it is not a component.

        evidence: The line that proves it, e.g. the last line of a log.

        fix: What the user can do.
    """

    def __init__(
        self,
        reason: str,
        *,
        code: str = _NO_CODE,
        component: str = "",
        evidence: str = "",
        fix: str = "",
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.component = component
        self.evidence = evidence
        self.fix = fix


def in_words(error: GiveUp, *, limit: int | None = None) -> str:
    """Return everything that a reader should know: component and reason, evidence, fix, code.

    Args:
        error: What happened.

        limit: Most characters; the evidence is shortened first, as the rest says what to do.
    """
    start = ": ".join(part for part in (error.component, error.reason) if part)
    end = f" Fix: {error.fix}" if error.fix else ""
    end += f" Code: {error.code}" if error.code != _NO_CODE else ""
    evidence = f" Evidence: {error.evidence}" if error.evidence else ""
    if limit is None:
        return start + evidence + end
    room = limit - len(start) - len(end)
    evidence = _shortened(evidence, room) if room >= _LEAST_EVIDENCE else ""
    return _shortened(start + evidence + end, limit)


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


class OperatorError(Exception):
    """The service cannot do what its operator asked of it; the text is one line that says why and what helps."""
