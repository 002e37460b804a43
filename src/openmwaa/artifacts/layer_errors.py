"""From uv's words to a cause that names the line of the user's file.

The words are those of uv 0.13, captured from real runs; the tests hold them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from openmwaa.artifacts.requirements_text import (
    Requirement,
    RequirementsFile,
    canonical,
    syntax_error,
)
from openmwaa.kit.errors import GiveUp, Retry

_COMPONENT: Final = "requirements.txt"
_RETRY_AFTER_S: Final = 5.0
_EVIDENCE: Final = 900
_LOG_LINES: Final = 15

_NAME: Final = r"[A-Za-z0-9][\w.-]*"
_SPECIFIER: Final = r"(?:[=<>!~]=?=?[^\s,=<>!~]+(?:,[=<>!~]=?=?[^\s,=<>!~]+)*)"
_TOKEN: Final = re.compile(rf"(?<![\w.-])({_NAME})(?:\[[^\]]*\])?({_SPECIFIER})?(?![\w-])")
_DEPENDS: Final = re.compile(
    rf"(?:all versions of )?({_NAME})(?:\[[^\]]*\])?({_SPECIFIER})? depends? on ({_NAME})(?:\[[^\]]*\])?({_SPECIFIER})?"
)
_UNKNOWN: Final = re.compile(rf"({_NAME}) was not found in")
_NO_VERSION: Final = re.compile(
    rf"(?:no versions? of|only) ({_NAME})(?:\[[^\]]*\])?{_SPECIFIER}?(?: (?:is|are) available)?"
)
_NO_WHEEL: Final = re.compile(rf"({_NAME})(?:\[[^\]]*\])?{_SPECIFIER}? has no (?:usable )?wheels")
_INVALID: Final = re.compile(
    rf"({_NAME}{_SPECIFIER}?) has (an invalid package format|in(?:valid|consistent) metadata)"
)
_PYTHON: Final = re.compile(rf"({_NAME})({_SPECIFIER})? depends? on (Python{_SPECIFIER})")
_POSITION: Final = re.compile(r"at position (\d+)")
_BUILD: Final = re.compile(r"Failed to (?:download and )?build `([^`]+)`")
_PACKAGE: Final = re.compile(r"Failed to (?:\w+ )*?`([^`]+)`")
_NO_BUILD: Final = re.compile(r"[Bb]uilding (from source|source distributions?).* disabled")
_UNREACHABLE: Final = re.compile(
    r"error sending request|timed out|dns error|connection (refused|reset|closed)|status server error",
    re.IGNORECASE,
)
_URL: Final = re.compile(r"https?://[^\s()]+")
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/\s@]+@")
_SCRATCH: Final = re.compile(r"/[^\s'\"`]*/layer-builds/[^/\s]+/(?:[^\s'\"`]*/)?(?=\S)")


@dataclass(frozen=True)
class Asked:
    """What uv was asked, to understand its answer.

    Attributes:
        uv_text: The requirements as they were given to uv, one per line.

        pins: Canonical name -> version of the runtime's packages that constrained it.
    """

    file: RequirementsFile
    uv_text: str
    pins: Mapping[str, str]
    airflow: str


def needs_building(lines: Sequence[str]) -> bool:
    """Return whether uv failed only because something has no wheel and it may not build."""
    return bool(_NO_BUILD.search(" ".join(lines)))


def cause_of(lines: Sequence[str], asked: Asked) -> Exception:
    """Return what to raise for a failed run of uv: `GiveUp` with a code, or `Retry`."""
    text = _CREDENTIALS.sub("***@", "\n".join(line for line in lines if line.strip()))
    text = _SCRATCH.sub("", text)
    start = max(text.find("error: "), 0)
    text = text[start:]
    words = " ".join(text.split())
    if (position := _POSITION.search(words)) and "parse" in words:
        return _syntax(text, words, int(position[1]), asked)
    if "No solution found" in words:
        return _invalid(text, words, asked) or _missing(words, asked) or _conflict(words, asked)
    if build := _BUILD.search(words):
        return _build_failed(text, build[1], asked)
    if _UNREACHABLE.search(words):
        url = _URL.search(words)
        return Retry(
            f"the package index did not answer: {url[0] if url else words[:300]}", after_s=_RETRY_AFTER_S
        )
    package = _PACKAGE.search(words)
    if "status client error" in words:
        return _not_found(
            package[1] if package else "An address in the file", "cannot be downloaded", words, asked
        )
    return _build_failed(text, package[1] if package else "", asked)


def _syntax(text: str, words: str, position: int, asked: Asked) -> GiveUp:
    line = asked.uv_text.encode()[:position].count(b"\n") + 1
    reason = text.partition("cause: ")[2].partition("\n")[0].strip() or words
    return syntax_error(asked.file.quote(line), reason[:300])


def _invalid(text: str, words: str, asked: Asked) -> GiveUp | None:
    """Return the refusal of a file that is no distribution; None if that is not what uv says."""
    found = _INVALID.search(words)
    if found is None:
        return None
    return _build_failed(f"{text}\n{words.rpartition('was invalid: ')[2] or found[2]}", found[1], asked)


def _missing(words: str, asked: Asked) -> GiveUp | None:
    """Return the refusal of something that no index has; None if that is not what uv says."""
    if found := _PYTHON.search(words):
        what = f"{found[1]}{found[2] or ''}"
        return _not_found(what, f"needs {found[3]}, which is not the runtime's", words, asked)
    if found := _UNKNOWN.search(words):
        return _not_found(found[1], "does not exist in the package index", words, asked)
    if found := _NO_WHEEL.search(words):
        return _not_found(found[1], "has no file for this Python and platform", words, asked)
    if found := _NO_VERSION.search(words):
        return _not_found(found[1], "has no such version in the package index", words, asked)
    return None


def _not_found(what: str, reason: str, words: str, asked: Asked) -> GiveUp:
    name = canonical(re.split(r"[=<>!~\s\[]", what)[0])
    line = next((one for one in asked.file.requirements if one.name == name), None)
    if line is not None:
        quoted = asked.file.quote(line.line)
        told = f"{quoted} {reason}" if line.text == line.name else f"{quoted}: {line.name} {reason}"
    else:
        needed_by = [_shown(match) for match in _DEPENDS.finditer(words) if canonical(match[3]) == name]
        lines = _lines_in(words, asked)
        where = f"{asked.file.quote(lines[0].line)}: " if lines else ""
        told = f"{where}{needed_by[0] if needed_by else what}, and {what} {reason}"
    return GiveUp(
        told,
        code="REQUIREMENTS_NOT_FOUND",
        component=_COMPONENT,
        evidence=_evidence(words),
        fix="Correct the name or the version, or name an index that has it.",
    )


def _conflict(words: str, asked: Asked) -> GiveUp:
    """Name the two sides: lines of the file, what they need, and what the runtime pins."""
    pins = _pins_in(words, asked)
    return GiveUp(
        _sides(words, asked, pins),
        code="REQUIREMENTS_CONFLICT",
        component=_COMPONENT,
        evidence=_evidence(words),
        fix=_conflict_fix(asked, pins),
    )


def _sides(words: str, asked: Asked, pins: Mapping[str, str]) -> str:
    lines = _lines_in(words, asked)
    needs = list(_DEPENDS.finditer(words))
    against_pin = [one for one in lines if one.name in pins and not one.uv.endswith(f"=={pins[one.name]}")]
    if against_pin:
        name = against_pin[0].name
        return f"{asked.file.quote(against_pin[0].line)} conflicts with {_pinned(name, asked)}"
    if pins and lines:
        need = next((one for one in needs if canonical(one[3]) in pins), None)
        pin = canonical(need[3]) if need else next(iter(pins))
        return f"{_because(lines[0], need, asked)} conflicts with {_pinned(pin, asked)}"
    if len(lines) >= 2:
        need = next((one for one in needs if any(canonical(one[3]) == line.name for line in lines)), None)
        other = next((one for one in lines if need and one.name == canonical(need[3])), lines[-1])
        first = next(one for one in lines if one is not other)
        more = "" if need or not needs else f": {'; '.join(map(_shown, needs))}"
        return f"{_because(first, need, asked)} conflicts with {asked.file.quote(other.line)}{more}"
    reasons = "; ".join(map(_shown, needs)) or _evidence(words)
    if lines:
        return f"{asked.file.quote(lines[0].line)} cannot be satisfied: {reasons}"
    return f"The requirements contradict each other: {reasons}"


def _because(line: Requirement, need: re.Match[str] | None, asked: Asked) -> str:
    """Return the line, and what it or something behind it needs."""
    if need is None:
        return asked.file.quote(line.line)
    if canonical(need[1]) == line.name:
        return f"{asked.file.quote(line.line)} needs {need[3]}{need[4] or ''}, which"
    return f"{asked.file.quote(line.line)}: {_shown(need)}, which"


def _pinned(name: str, asked: Asked) -> str:
    return f"{name}=={asked.pins[name]}, which Airflow {asked.airflow}'s own lock pins"


def _conflict_fix(asked: Asked, pins: Mapping[str, str]) -> str:
    if not pins:
        return "Change one of the two."
    if asked.file.opted_out:
        return "Use the version that Airflow runs with; this package cannot be replaced."
    return (
        "Use the version that Airflow runs with, or take the consequences of another one: a comment line "
        "'# --constraint none' in the file switches the runtime's own pins off, as on MWAA."
    )


def _build_failed(text: str, package: str, asked: Asked) -> GiveUp:
    name = canonical(re.split(r"[=<>!~@\s\[]", package)[0]) if package else ""
    line = next((one for one in asked.file.requirements if name and one.name == name), None)
    what = package.split(" @ ", maxsplit=1)[0] or "A package"
    if line is not None:
        quoted = asked.file.quote(line.line)
        what = quoted if line.text == what else f"{quoted}: {what}"
    log = [
        one.rstrip()
        for one in text.split("\nhint: Build failures", maxsplit=1)[0].splitlines()
        if one.strip()
    ]
    reason = f"cannot be built or unpacked: {log[-1].strip()[:300]}"
    fix = "Use a version that has a wheel for this Python, or put a wheel of it into plugins.zip."
    if "Hash mismatch" in text:
        reason = "is not the file whose hash is given"
        fix = "Correct the hash if the file is the right one; do not use it otherwise."
    return GiveUp(
        f"{what} {reason}",
        code="REQUIREMENTS_BUILD_FAILED",
        component=_COMPONENT,
        evidence="\n".join(log[-_LOG_LINES:])[-_EVIDENCE:],
        fix=fix,
    )


def _lines_in(words: str, asked: Asked) -> list[Requirement]:
    """Return the requirements that uv mentions; where one name is on several lines, those it quotes."""
    mentioned: dict[str, set[str]] = {}
    for match in _TOKEN.finditer(words):
        mentioned.setdefault(canonical(match[1]), set()).add((match[2] or "").replace(" ", ""))
    return [one for one in asked.file.requirements if one.name in mentioned]


def _pins_in(words: str, asked: Asked) -> dict[str, str]:
    """Return the runtime's pins that uv mentions, as `name==version`."""
    return {
        name: asked.pins[name]
        for match in _TOKEN.finditer(words)
        if (name := canonical(match[1])) in asked.pins and match[2] == f"=={asked.pins[name]}"
    }


def _shown(match: re.Match[str]) -> str:
    return f"{match[1]}{match[2] or ''} needs {match[3]}{match[4] or ''}"


def _evidence(words: str) -> str:
    return words.removeprefix("error: ")[:_EVIDENCE]
