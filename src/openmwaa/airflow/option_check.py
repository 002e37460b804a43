"""Refuses configuration options that cannot work, before anything is built. Pure.

MWAA accepts any option and overrides or ignores what it does not like; the user finds out by
what does not happen. Here an option is refused if it would have no effect or keep Airflow from
starting, and the message says what to write instead.

What stays possible: options of the user's own sections; deprecated names that Airflow still
reads; options of a provider section that a package in requirements.txt may define.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from openmwaa.airflow.known_options import (
    KnownOption,
    KnownOptions,
    known_options,
    other_versions,
    retired_sections,
)
from openmwaa.airflow.option_names import edits, misspelt_section, nearest, successor
from openmwaa.airflow.options import canonical, is_protected, malformed
from openmwaa.airflow.protection import HANDED_ON, why_protected
from openmwaa.airflow.versions import AirflowVersion, airflow_version
from openmwaa.environments.errors import InvalidRequestError

MAX_MESSAGE: Final = 1024

_OWN_SECTION: Final = "mwaa"
_TRUE: Final = ("t", "true", "1")
_FALSE: Final = ("f", "false", "0")


@dataclass(frozen=True)
class _Finding:
    """What is said of one option; `refused` is false for a warning."""

    text: str
    refused: bool = True


def check_options(options: Mapping[str, str], version: str, *, more_packages: bool = False) -> list[str]:
    """Refuse options that the service or an Airflow version would not honour.

    Args:
        options: AirflowConfigurationOptions as wanted: `section.key` -> value, in any case.

        version: The Airflow version that will read them: of a version change, the new one.

        more_packages: There is a requirements file. It may bring another release of a provider, so an
            unknown key in a provider's section is a warning unless it is clearly misspelt.

    Returns:
        Warnings for the user in the options' order: deprecated names and what has no effect.

    Raises:
        InvalidRequestError: Names every refused option and what to use instead, in at most 1,024
            characters. Values are not shown: they may be secrets.

        KeyError: The version is not supported.
    """
    row = airflow_version(version)
    known = known_options(version)
    without_section = malformed(options)
    refusals = [f"{name} must have the form section.option." for name in without_section]
    warnings: list[str] = []
    names = {canonical(name): value for name, value in options.items() if name not in without_section}
    for name in sorted(names):
        if sum(map(len, refusals)) > MAX_MESSAGE:
            break  # no more can be shown, and looking for suggestions takes milliseconds each
        for finding in _check(name, names, row, known, more_packages):
            (refusals if finding.refused else warnings).append(finding.text)
    if refusals:
        raise InvalidRequestError(_joined("AirflowConfigurationOptions: ", refusals))
    return warnings


def _check(
    name: str, given: Mapping[str, str], version: AirflowVersion, known: KnownOptions, more_packages: bool
) -> Iterator[_Finding]:
    section = name.partition(".")[0]
    current = known.current(name)
    if current in HANDED_ON:
        yield _Finding(
            f"{name} has no effect on Airflow itself: the service sends the measurements.", refused=False
        )
    elif is_protected(name, version):
        yield _Finding(f"{name} is set by the service: {why_protected(current)}.")
        return
    if section == _OWN_SECTION:
        yield from _check_own(name, given[name])
    elif option := known.find(name):
        yield from _check_value(name, given[name], option, known)
        if current != name:
            yield _deprecated(name, current, given, known)
    elif section not in known.open_sections:
        yield from _check_unknown(name, known, more_packages)


def _deprecated(name: str, current: str, given: Mapping[str, str], known: KnownOptions) -> _Finding:
    text = f"{name} is deprecated in Airflow {known.version}; its name is {current}"
    effect = ", whose value is used" if current in given else ""
    return _Finding(f"{text}{effect}.", refused=False)


def _check_unknown(name: str, known: KnownOptions, more_packages: bool) -> Iterator[_Finding]:
    """An option that this version does not read: misspelt, of another version, or the user's own."""
    section, _, key = name.partition(".")
    lead = f"Airflow {known.version} does not read {name}"
    if new := successor(name, known):
        yield _Finding(f"{lead}; use {new}.")
    elif name in known.removed:
        instead = known.removed[name]
        yield _Finding(f"{lead}: it was removed.{' ' + _short(instead) if instead else ''}")
    elif keys := known.sections.get(section):
        open_to_packages = more_packages and section in known.provider_sections
        if open_to_packages and min(edits(key, other) for other in keys) > 1:
            yield _Finding(f"{lead} unless a package of requirements.txt does.", refused=False)
        else:
            yield _Finding(f"{lead}{_did_you_mean(name, known)}")
    elif section in retired_sections(known.version):
        yield _Finding(f"{lead}{_did_you_mean(name, known)}")
    elif near := misspelt_section(section, known.sections):
        # Only with a key of that section it is a mistake; else a plugin may have such a section.
        if known.find(f"{near}.{key}"):
            yield _Finding(f"{lead}; did you mean {near}.{key}?")
        else:
            yield _Finding(f"{name}: section {section} is not Airflow's; it has {near}.", refused=False)
    elif owner := next((other for other in other_versions(known.version) if name in other.options), None):
        yield _Finding(f"{lead}, Airflow {owner.version} does.", refused=False)


def _did_you_mean(name: str, known: KnownOptions) -> str:
    names = nearest(name, known)
    return f"; did you mean {' or '.join(names)}?" if names else "."


def _check_own(name: str, value: str) -> Iterator[_Finding]:
    """Options of MWAA itself (mwaa.md 6.3)."""
    if name == "mwaa.triggerer_enabled":
        if value.lower() not in {"true", "false"}:
            yield _Finding(f"{name} must be true or false.")
    elif name == "mwaa.worker_replacement_threshold_seconds":
        if not value.strip().isdecimal():
            yield _Finding(f"{name} must be a whole number of seconds, 0 or more; 0 turns it off.")
    else:
        yield _Finding(
            f"{name} is not an option of MWAA; there are mwaa.triggerer_enabled and"
            " mwaa.worker_replacement_threshold_seconds."
        )


def _check_value(name: str, value: str, option: KnownOption, known: KnownOptions) -> Iterator[_Finding]:
    if value == option.default or "$" in value:  # Airflow expands variables before it parses
        return
    if option.values and value and value not in option.values:
        accepted = [entry for entry in option.values if entry]
        yield _Finding(f"{name} must be one of {', '.join(accepted)}.")
    elif not _parses(value, option, known):
        yield _Finding(f"{name} must be {_FORMS[option.type]}.")


_FORMS: Final[Mapping[str, str]] = {
    "boolean": "true or false",
    "float": "a number, for example 0.5",
    "integer": "an integer, for example 10",
    "json": "JSON",
    "string": "a text",
}


def _parses(value: str, option: KnownOption, known: KnownOptions) -> bool:
    """Return whether Airflow can read a value: its own leniency, no more (`airflow/configuration.py`)."""
    if option.type == "boolean":
        # Only here a comment may follow the value.
        return value.lower().strip().split("#")[0].strip() in _TRUE + _FALSE
    try:
        if option.type == "integer":
            return _is_integer(value, known)
        if option.type == "float":
            float(value)
        if option.type == "json" and value.strip():
            json.loads(value)
    except ValueError:
        return False
    return True


def _is_integer(value: str, known: KnownOptions) -> bool:
    if known.integral_floats:
        try:
            return float(value).is_integer() or bool(int(value))
        except OverflowError:
            return False
    int(value)
    return True


def _short(text: str, limit: int = 160) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"


def _joined(lead: str, sentences: list[str]) -> str:
    """Return all sentences, or as many as fit and that there are more."""
    text = lead + " ".join(sentences)
    if len(text) <= MAX_MESSAGE:
        return text
    more = "There are more."
    while len(lead + " ".join([*sentences, more])) > MAX_MESSAGE:
        sentences = sentences[:-1]
    return lead + " ".join([*sentences, more])
