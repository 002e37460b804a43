"""A cause in words, within a limit."""

from openmwaa.kit.errors import GiveUp, in_words


def test_everything_is_said_in_an_order_that_reads() -> None:
    """Component and reason, evidence, fix, and the code that a program looks for."""
    error = GiveUp("It broke.", code="BROKEN", component="worker", evidence="line 1", fix="Mend it.")
    assert in_words(error) == "worker: It broke. Evidence: line 1 Fix: Mend it. Code: BROKEN"
    assert in_words(GiveUp("It broke.")) == "It broke."


def test_the_evidence_makes_room_first() -> None:
    """What to do, and the code, are still there; the text is never longer than the limit."""
    error = GiveUp("It broke.", code="BROKEN", component="worker", evidence="x" * 2000, fix="Mend it.")
    text = in_words(error, limit=1024)
    assert len(text) == 1024
    assert text.startswith("worker: It broke. Evidence: xxx")
    assert text.endswith("x… Fix: Mend it. Code: BROKEN")
    assert len(in_words(error)) > 2000
    long = GiveUp("r" * 1010, code="BROKEN", evidence="line 1", fix="Mend it.")
    assert len(in_words(long, limit=1024)) == 1024
    assert "Evidence" not in in_words(long, limit=1024)
