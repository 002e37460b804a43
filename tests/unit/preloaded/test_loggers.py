"""Logging that was set up without forgetting levels after each step is as it would be."""

from __future__ import annotations

import logging
import logging.config
from collections.abc import Iterator

import pytest

from openmwaa_airflow.zygote.loggers import forget_levels_once


@pytest.fixture(autouse=True)
def faster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set logging up faster for one test."""
    monkeypatch.setattr(logging.config, "dictConfig", logging.config.dictConfig)
    forget_levels_once()
    yield
    for name in ("some", "some.one"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def configure(level: str) -> None:
    """Set one logger up."""
    logging.config.dictConfig(
        {"version": 1, "disable_existing_loggers": False, "loggers": {"some": {"level": level}}}
    )


def test_what_a_logger_remembered_is_forgotten() -> None:
    below = logging.getLogger("some.one")
    configure("ERROR")
    assert not below.isEnabledFor(logging.INFO)
    configure("DEBUG")
    assert below.isEnabledFor(logging.INFO)


def test_it_is_forgotten_after_a_failure_too() -> None:
    below = logging.getLogger("some.one")
    configure("ERROR")
    assert not below.isEnabledFor(logging.INFO)
    with pytest.raises(ValueError, match="Unable to configure logger"):
        logging.config.dictConfig(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "loggers": {"some": {"level": "DEBUG"}, "wrong": {"level": "NONSENSE"}},
            }
        )
    assert below.isEnabledFor(logging.INFO)


def test_a_level_that_is_set_later_is_noticed_at_once() -> None:
    configure("ERROR")
    below = logging.getLogger("some.one")
    assert not below.isEnabledFor(logging.INFO)
    logging.getLogger("some").setLevel(logging.INFO)
    assert below.isEnabledFor(logging.INFO)


def test_it_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = logging.root.manager
    forgotten = []
    original = manager._clear_cache
    monkeypatch.setattr(manager, "_clear_cache", lambda: forgotten.append(original()))
    configure("ERROR")
    assert len(forgotten) == 1
