"""Logging that is set up faster: what loggers remember is forgotten once."""

from __future__ import annotations

import functools
import logging
import logging.config
from collections.abc import Callable
from typing import Any

_DictConfig = Callable[[dict[str, Any]], None]


def forget_levels_once() -> None:
    """Let `logging.config.dictConfig` empty the loggers' caches of levels at its end only.

    It does so for every level that it sets, in all of some four hundred loggers; each task of Airflow 3 and
    each component sets logging up.
    """
    original: _DictConfig = logging.config.dictConfig
    manager: Any = logging.root.manager

    @functools.wraps(original)
    def configure(config: dict[str, Any]) -> None:
        forget = manager._clear_cache
        manager._clear_cache = _nothing
        try:
            original(config)
        finally:
            manager._clear_cache = forget
            forget()

    logging.config.dictConfig = configure


def _nothing() -> None:
    """Stand for what is done at the end."""
