"""`openmwaa demo`, which `make demo` runs."""

from __future__ import annotations

import pytest

from tests.support.service import Service

pytestmark = pytest.mark.timeout(900)


def test_the_demo_runs_and_runs_again(service: Service) -> None:
    """It prints the summary, the run's state, the address and the way in; the second time it uses what is there."""
    for _ in range(2):
        shown = service.run("demo", timeout_s=800).stdout
        assert "2013-02-08" in shown
        assert "50.9" in shown
        assert "6,088 of 6,104 rows are valid" in shown
        assert "of nyc_flights: success" in shown
        assert "https://127." in shown
        assert "openmwaa env open demo" in shown
    assert "The environment demo exists" in shown
    service.delete("demo")
