"""requirements.txt as people write it: decoded, read line by line, refused where it cannot work.

What MWAA's images accept (mwaa.md 5.3), minus what a build on this host cannot honour:

| Line | Here |
|---|---|
| `name`, `name[extra]>=1,<2; marker`, `--hash=…` | as pip |
| `name @ https://…`, `https://….whl` | as pip |
| paths below `/usr/local/airflow/plugins` | from plugins.zip |
| `-c URL-or-path`, also commented | as MWAA: takes the place of the runtime's own pins |
| `--index-url`, `--extra-index-url`, `--find-links`, `--no-index`, `--trusted-host` | as pip |
| `--pre`, `--no-binary`, `--only-binary` | as pip |
| `--prefer-binary`, `--require-hashes`, `--use-feature` | without effect; wheels are preferred anyway |
| `-e`, `-r`, `git+…`, other local paths, `${VARIABLE}`, build options | refused |
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit

from openmwaa.artifacts.text_encoding import decode
from openmwaa.kit.errors import GiveUp

PLUGINS: Final = "/usr/local/airflow/plugins"
DAGS: Final = "/usr/local/airflow/dags"

_COMPONENT: Final = "requirements.txt"
_COMMENT: Final = re.compile(r"(^|\s+)#.*$")
_NAME: Final = re.compile(
    r"([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)\s*(\[[^\]]*\])?\s*(.*)$", re.DOTALL | re.ASCII
)
_VERSION_CONTROL: Final = re.compile(r"(git|hg|svn|bzr)(\+|:)", re.IGNORECASE)
_VARIABLE: Final = re.compile(r"\$\{\w+\}")
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/\s@]+@")
_ARCHIVES: Final = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

_SHORT: Final = {
    "-i": "--index-url",
    "-f": "--find-links",
    "-c": "--constraint",
    "-r": "--requirement",
    "-e": "--editable",
    "--pypi-url": "--index-url",
}
_PASSED_ON: Final = ("--index-url", "--extra-index-url", "--no-binary", "--only-binary")
_FLAGS: Final = {"--no-index", "--pre", "--prefer-binary", "--require-hashes"}
_WITH_VALUE: Final = {
    *_PASSED_ON,
    *("--find-links", "--trusted-host", "--constraint", "--requirement", "--editable", "--use-feature"),
}
_REASONS: Final = {
    "--requirement": "other requirements files are not read; put their lines into this file",
    "--editable": "editable installs need a source tree that stays; build a wheel and put it into plugins.zip",
}


@dataclass(frozen=True)
class Requirement:
    """One required distribution.

    Attributes:
        name: In its canonical form; empty where only its archive tells.

        text: For people: as written, without comments and credentials.

        uv: The line for uv, paths mapped.

        hashes: What the line allows; empty: anything.
    """

    line: int
    name: str
    text: str
    uv: str
    hashes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Constraint:
    """A `-c` line: a URL, or a path mapped to where the file is here."""

    line: int
    text: str
    source: str


@dataclass(frozen=True)
class RequirementsFile:
    """A requirements file that has no line which cannot work.

    Attributes:
        opted_out: It has a line with `-c ` or `--constraint `, commented or not: the runtime's own
            pins do not constrain it, except for what MWAA always pins.

        options: Lines for uv: indexes and the like, one option each. They may hold credentials.

        arguments: Arguments for uv that cannot be in a file.

        ignored: Options without effect, for a warning.
    """

    requirements: tuple[Requirement, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    opted_out: bool = False
    options: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    lines: tuple[str, ...] = field(default=(), repr=False)

    def quote(self, line: int) -> str:
        """Return `line 3: requests==2.31.0`, without comments and credentials."""
        found = next((one.text for one in self.requirements if one.line == line), self.lines[line - 1])
        return f"line {line}: {_presentable(found)}"


@dataclass(frozen=True)
class Folders:
    """Where MWAA's folders are here; None: there is none."""

    plugins: Path | None = None
    dags: Path | None = None


def canonical(name: str) -> str:
    """Return the form in which names of distributions are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse_requirements(data: bytes, folders: Folders) -> RequirementsFile:
    """Read a requirements file.

    Args:
        data: Its bytes, in any usual encoding.

        folders: Where paths in it lead.

    Raises:
        GiveUp: `REQUIREMENTS_SYNTAX` or `REQUIREMENTS_UNSUPPORTED`, naming the line.
    """
    text = decode(data)
    physical = tuple(text.splitlines())
    requirements: list[Requirement] = []
    constraints: list[Constraint] = []
    options: list[str] = []
    arguments: list[str] = []
    ignored: list[str] = []
    for number, line in _logical(physical):
        reader = _Line(number, line, folders)
        if not line.startswith("-"):
            requirements.append(reader.requirement())
            continue
        for option, value in reader.options():
            if option == "--constraint":
                constraints.append(Constraint(number, _presentable(line), reader.place(value)))
            elif option == "--find-links":
                options.append(f"--find-links {reader.place(value)}")
            elif option in _PASSED_ON:
                options.append(f"{option} {value}")
            elif option == "--no-index":
                options.append(option)
            elif option == "--pre":
                arguments += ["--prerelease", "allow"]
            elif option == "--trusted-host":
                arguments += ["--allow-insecure-host", value]
            else:
                ignored.append(f"line {number}: {option} has no effect")
    return RequirementsFile(
        tuple(requirements),
        tuple(constraints),
        any("-c " in line or "--constraint " in line for line in physical),
        tuple(options),
        tuple(arguments),
        tuple(ignored),
        physical,
    )


class _Line:
    """One logical line and the reasons why it may be refused."""

    def __init__(self, number: int, text: str, folders: Folders) -> None:
        self._number = number
        self._text = text
        self._folders = folders
        if _VARIABLE.search(text):
            raise self._unsupported("variables are not replaced: the start-up script runs after the build")

    def options(self) -> Iterator[tuple[str, str]]:
        """Yield the options of the line, long form, with their values."""
        try:
            words = shlex.split(self._text)
        except ValueError as error:
            raise self._syntax(str(error)) from error
        while words:
            word = words.pop(0)
            name, separator, value = word.partition("=")
            if not word.startswith("--") and len(word) > 2:
                name, separator, value = word[:2], "=", word[2:]
            name = _SHORT.get(name, name)
            if name in _REASONS:
                raise self._unsupported(_REASONS[name])
            if name in _FLAGS and not separator:
                yield name, ""
            elif name in _WITH_VALUE:
                if not separator:
                    if not words:
                        raise self._syntax(f"{name} needs a value")
                    value = words.pop(0)
                yield name, value
            else:
                raise self._syntax(f"{name} is not an option of requirements files")

    def requirement(self) -> Requirement:
        """Return what the line requires."""
        wanted, *tail = re.split(r"\s+(?=--)", self._text)
        hashes = []
        for option in tail:
            if not option.startswith("--hash"):
                raise self._unsupported("options of a single requirement are not passed on")
            hashes.append(option[len("--hash") :].lstrip("= ").strip())
        shown = _presentable(wanted)
        if _VERSION_CONTROL.match(wanted):
            raise self._unsupported(
                "a checkout needs version control; build a wheel and put it into plugins.zip"
            )
        if _is_place(wanted):
            place, _, marker = wanted.partition(" ;")
            mapped = self.place(place.strip())
            name = canonical(unquote(PurePosixPath(urlsplit(mapped).path).name).split("-")[0])
            return Requirement(self._number, name, shown, _with_marker(mapped, marker), tuple(hashes))
        match = _NAME.match(wanted)
        if match is None:
            raise self._syntax("expected the name of a distribution")
        name, extras, rest = match[1], match[2] or "", match[3]
        uv = wanted
        if rest.startswith("@"):
            place, _, marker = rest[1:].partition(" ;")
            if _VERSION_CONTROL.match(place.strip()):
                raise self._unsupported(
                    "a checkout needs version control; build a wheel and put it into plugins.zip"
                )
            mapped = self.place(place.strip())
            if mapped.startswith("/"):
                mapped = f"file://{mapped}"
            uv = _with_marker(f"{name}{extras} @ {mapped}", marker)
        return Requirement(self._number, canonical(name), shown, uv, tuple(hashes))

    def place(self, value: str) -> str:
        """Return a URL as it is and a path of MWAA's folders as a path of this host.

        Raises:
            GiveUp: A place that the build cannot see.
        """
        url = urlsplit(value)
        if url.scheme in ("http", "https"):
            return value
        if url.scheme not in ("", "file"):
            raise self._unsupported(f"{url.scheme}: is not a kind of address that is read")
        path = PurePosixPath(unquote(url.path) if url.scheme else value)
        for mwaa, here, what in (
            (PLUGINS, self._folders.plugins, "plugins.zip"),
            (DAGS, self._folders.dags, "DAG folder"),
        ):
            if path.is_relative_to(mwaa):
                if here is None:
                    raise self._unsupported(f"there is no {what} when requirements are installed")
                if ".." in path.parts:
                    break
                return str(here / path.relative_to(mwaa))
        raise self._unsupported(f"of local paths only those below {PLUGINS} can be read")

    def _syntax(self, reason: str) -> GiveUp:
        return syntax_error(f"line {self._number}: {_presentable(self._text)}", reason)

    def _unsupported(self, reason: str) -> GiveUp:
        return GiveUp(
            f"line {self._number}: {_presentable(self._text)} cannot be used: {reason}",
            code="REQUIREMENTS_UNSUPPORTED",
            component=_COMPONENT,
            evidence=f"line {self._number}: {_presentable(self._text)}",
            fix="Change or remove the line.",
        )


def syntax_error(quoted: str, reason: str) -> GiveUp:
    """Return the refusal of a line, quoted with its number, that is not valid."""
    return GiveUp(
        f"{quoted} is not valid: {reason}",
        code="REQUIREMENTS_SYNTAX",
        component=_COMPONENT,
        evidence=quoted,
        fix="Correct the line; the format is that of pip's requirements files.",
    )


def _logical(physical: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line that says something, continued lines joined."""
    start, parts = 0, list[str]()
    for number, line in enumerate((*physical, ""), 1):
        start = start or number
        is_comment = line.lstrip().startswith("#")
        if line.endswith("\\") and not is_comment:
            parts.append(line[:-1])
            continue
        if not (is_comment and parts):
            parts.append(line)
        text = _COMMENT.sub("", " ".join(parts)).strip()
        if text:
            yield start, text
        start, parts = 0, []


def _is_place(text: str) -> bool:
    head = text.partition(" ;")[0].partition(";")[0].strip().partition("[")[0]
    if re.match(r"[A-Za-z][A-Za-z0-9+.]*://", head):
        return True
    named = re.match(r"[\w.-]+\s*(\[[^\]]*\])?\s*@", head)
    return not named and ("/" in head or head.startswith((".", "~")) or head.endswith(_ARCHIVES))


def _with_marker(text: str, marker: str) -> str:
    return f"{text} ;{marker}" if marker else text


def _presentable(text: str) -> str:
    return _CREDENTIALS.sub("***@", _COMMENT.sub("", text).strip())[:200]
