"""What was read while modules were imported, and whether other variables would have given the same.

A module that reads an option or a variable at import keeps what it got. All children share it, so
each checks that it would have got the same.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from openmwaa_airflow.zygote.traps import LOOK_AT_ALL, OPTIONS_OF, VARIABLES_ALLOWED, VARIABLES_OF_LIBRARIES

_PARSERS = frozenset(
    {
        "airflow.configuration",
        "airflow._shared.configuration.parser",
        "airflow.sdk.configuration",
        "airflow.sdk._shared.configuration.parser",
    }
)
"""Modules that read options for whoever asked them to."""

_OF_ITSELF = frozenset(
    {
        "<module>",
        "initialize_config",
        "initialize_secrets_backends",
        "load_standard_airflow_configuration",
        "load_test_config",
        "validate",
        "__init__",
    }
)
"""Their functions that read for themselves: each child calls them anew."""

_BETWEEN = frozenset({__name__, "os", "_collections_abc", "collections.abc", "configparser"})
_METHODS = ("get", "has_option", "getsection")
_ENVIRONMENT_PREFIX = "AIRFLOW__"

Outcome = tuple[str, Any]
"""`("value", …)`, or `("error", <name of the exception>)`."""


@dataclass(frozen=True)
class OptionRead:
    """One call of a configuration parser, with what it gave."""

    parser: str
    method: str
    arguments: tuple[Any, ...]
    keywords: tuple[tuple[str, Any], ...]
    reader: str

    @property
    def option(self) -> tuple[str, str]:
        """Section and key in lower case; the key is empty where a whole section was read."""
        named = dict(self.keywords)
        section, key = (*self.arguments, named.get("section", ""), named.get("key", ""))[:2]
        return str(section).lower(), str(key).lower()

    def what_counts(self, outcome: Outcome) -> Outcome:
        """Return what the reader keeps of an outcome: all of it, unless something else is known."""
        part_of = OPTIONS_OF.get((self.reader, *self.option))
        how, value = outcome
        return (how, part_of(value)) if part_of is not None and how == "value" else outcome

    def repeat(self, parser: Any) -> Outcome:
        """Make the call again, on another parser."""
        try:
            return "value", getattr(parser, self.method)(*self.arguments, **dict(self.keywords))
        except Exception as error:  # noqa: BLE001 - that it fails is what it gives
            return "error", type(error).__name__


@dataclass
class Journal:
    """Reads of options and of variables.

    Attributes:
        variables: Name -> value, None where there was none.

        walkers: Modules that looked at every variable.
    """

    options: dict[OptionRead, Outcome] = field(default_factory=dict)
    variables: dict[str, str | None] = field(default_factory=dict)
    walkers: set[str] = field(default_factory=set)
    began_with: dict[str, str] = field(default_factory=dict)

    @contextlib.contextmanager
    def recording_variables(self) -> Iterator[None]:
        """Note every variable that is read."""
        kind = type(os.environ)
        getitem, iterate = kind.__getitem__, kind.__iter__
        self.began_with = dict(os.environ)

        def noting_getitem(mapping: Any, key: str) -> str:
            try:
                value = getitem(mapping, key)
            except KeyError:
                self._note_variable(key, None)
                raise
            self._note_variable(key, value)
            return value

        def noting_iterate(mapping: Any) -> Iterator[str]:
            self.walkers.add(_name(_caller(sys._getframe(1))))
            return iterate(mapping)

        kind.__getitem__, kind.__iter__ = noting_getitem, noting_iterate
        try:
            yield
        finally:
            kind.__getitem__, kind.__iter__ = getitem, iterate

    def record_options(self, parser: str, kind: type) -> Callable[[], None]:
        """Note every option that is read through parsers of a class; returns what ends that."""
        own = {name: kind.__dict__.get(name) for name in _METHODS}
        for name in _METHODS:
            setattr(kind, name, self._noting(parser, name, getattr(kind, name)))

        def end() -> None:
            for name, method in own.items():
                if method is None:
                    delattr(kind, name)
                else:
                    setattr(kind, name, method)

        return end

    def difference(self, parsers: Mapping[str, Any], variables: Mapping[str, str]) -> str:
        """Return what would have been read otherwise, in a few words; empty if nothing.

        Args:
            parsers: By the name they were recorded under, as they are now.

            variables: As they are now.
        """
        return self._variable_difference(variables) or self._option_difference(parsers)

    def _variable_difference(self, variables: Mapping[str, str]) -> str:
        of_libraries = {
            name
            for name in {*self.began_with, *variables}
            if _matches(name, VARIABLES_OF_LIBRARIES) and not _matches(name, VARIABLES_ALLOWED)
        }
        for name in sorted(of_libraries):
            if self.began_with.get(name) != variables.get(name):
                return f"the variable {name} is read when Python starts"
        for name, value in self.variables.items():
            if variables.get(name) != value and not _matches(name, VARIABLES_ALLOWED):
                return f"the variable {name} is read when Airflow is imported"
        return ""

    def _option_difference(self, parsers: Mapping[str, Any]) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for read, before in self.options.items():
                if read.parser not in parsers:
                    continue
                now = read.repeat(parsers[read.parser])
                if read.what_counts(now) != read.what_counts(before):
                    option = ".".join(read.option).rstrip(".")
                    return f"the option {option} is read when {read.reader} is imported"
        return ""

    def _noting(self, parser: str, method: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def noting(mine: Any, *arguments: Any, **keywords: Any) -> Any:
            try:
                value = original(mine, *arguments, **keywords)
            except Exception as error:
                self._note_option(parser, method, arguments, keywords, ("error", type(error).__name__))
                raise
            self._note_option(parser, method, arguments, keywords, ("value", value))
            return value

        return noting

    def _note_option(
        self, parser: str, method: str, arguments: Iterable[Any], keywords: Mapping[str, Any], gave: Outcome
    ) -> None:
        reader = _reader()
        if reader is not None:
            read = OptionRead(parser, method, tuple(arguments), tuple(sorted(keywords.items())), reader)
            self.options.setdefault(read, gave)

    def _note_variable(self, name: str, value: str | None) -> None:
        reader = _name(_caller(sys._getframe(2)))
        if reader in LOOK_AT_ALL or (name.startswith(_ENVIRONMENT_PREFIX) and reader in _PARSERS):
            return  # the option is noted
        self.variables.setdefault(name, value)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _name(frame: FrameType | None) -> str:
    return str(frame.f_globals.get("__name__", "")) if frame else ""


def _caller(frame: FrameType | None) -> FrameType | None:
    """Return the first frame that is not of the machinery between a reader and what it reads."""
    while frame is not None and _name(frame) in _BETWEEN:
        frame = frame.f_back
    return frame


def _reader() -> str | None:
    """Return the module that asked for an option; None if the parser reads for itself."""
    frame = _caller(sys._getframe(2))
    while frame is not None and (_name(frame) in _PARSERS or _name(frame) in _BETWEEN):
        if _name(frame) in _PARSERS and frame.f_code.co_name in _OF_ITSELF:
            return None
        frame = frame.f_back
    return _name(frame)
