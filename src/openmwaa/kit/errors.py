"""The words deep code uses to talk to a loop: try again, wait, or stop.

Anything else that escapes a step is a bug: the loop logs it, backs off and retries.
"""

_ANY_CAUSE = "INCORRECT_CONFIGURATION"
"""MWAA's code for everything that fails (mwaa.md 2.5); ours say more where there is more to say."""


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
        code: str = _ANY_CAUSE,
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


def in_words(error: GiveUp) -> str:
    """Return everything that a reader should know: code, component and reason, evidence, fix."""
    code = "" if error.code == _ANY_CAUSE else error.code
    text = ": ".join(part for part in (code, error.component, error.reason) if part)
    if error.evidence:
        text = f"{text} Evidence: {error.evidence}"
    return f"{text} Fix: {error.fix}" if error.fix else text


class OperatorError(Exception):
    """The service cannot do what its operator asked of it; the text is one line that says why and what helps."""
