"""What a requirements file adds to a runtime and changes in it, found without installing anything.

uv is asked for a dry run against the runtime itself: what the runtime has is kept as long as it
satisfies the file, as with pip on MWAA, and need not be in any index. What constrains the answer:

* MWAA's essential packages (mwaa.md 5.3): always what the runtime has.
* Everything else the runtime has, unless the file opts out with `-c`, also in a comment.
* The files of the user's own `-c` lines, without the essential packages. Airflow's published
  constraints for the very version of the runtime speak only of packages that the runtime does not
  have: for the others the runtime's lock, which is tested, takes their place.

Wheels are tried first, without running any code of packages; only if something has none, again
with builds allowed, as another user (`build_sandbox`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uv

from openmwaa.artifacts.build_sandbox import Build
from openmwaa.artifacts.layer_constraints import is_essential, read_constraints, usable_constraints
from openmwaa.artifacts.layer_errors import Asked, cause_of, needs_building
from openmwaa.artifacts.programs import Ended
from openmwaa.artifacts.requirements_text import RequirementsFile, canonical
from openmwaa.artifacts.runtimes import Runtime

PROBE: Final = Path(__file__).with_name("layer_probe.py")

_CHANGE: Final = re.compile(r"^ ([+-]) ([\w.-]+)(?:==(\S+)| @ (\S+))")
_ARCHIVE_VERSION: Final = re.compile(r"^[\w.]+?-([^-]+?)(?:-[^/]*)?\.(?:whl|zip|tar\.\w+|tgz)$")


@dataclass(frozen=True)
class Pin:
    """A distribution to install.

    Attributes:
        version: `?` for an archive whose name does not tell it.

        url: Of an archive that was required by its address; empty: from an index.
    """

    name: str
    version: str
    url: str = ""
    hashes: tuple[str, ...] = ()

    def line(self) -> str:
        """Return the pin as a line of a requirements file."""
        wanted = f"{self.name} @ {self.url}" if self.url else f"{self.name}=={self.version}"
        return " ".join((wanted, *(f"--hash={one}" for one in self.hashes)))


@dataclass(frozen=True)
class Resolution:
    """The dependency diff between a runtime and the same runtime with a requirements file.

    Attributes:
        added: Distribution -> version that the runtime does not have.

        changed: Distribution -> (version in the runtime, version in the layer).

        removed: Always empty for a layer on its runtime; `difference` fills it.

        unchanged: Distribution -> version, all others of the runtime.

        pins: What a layer must install.

        direct: Canonical names that the file itself requires.

        builds: Something has no wheel and is built from source.

        warnings: One sentence each, for the user.
    """

    added: Mapping[str, str] = field(default_factory=dict)
    changed: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    removed: Mapping[str, str] = field(default_factory=dict)
    unchanged: Mapping[str, str] = field(default_factory=dict)
    pins: tuple[Pin, ...] = ()
    direct: frozenset[str] = frozenset()
    builds: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def overrides(self) -> bool:
        """Whether a package of the runtime is replaced."""
        return bool(self.changed)

    @property
    def packages(self) -> dict[str, str]:
        """All that can be imported: the runtime with the layer in front of it."""
        now = {name: version for name, (_, version) in self.changed.items()}
        return dict(sorted({**self.unchanged, **self.added, **now}.items()))


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> Resolution:
    """Compare what can be imported before and after a change, e.g. `Resolution.packages` of two layers."""
    return Resolution(
        added={name: version for name, version in after.items() if name not in before},
        changed={
            name: (before[name], version)
            for name, version in after.items()
            if name in before and before[name] != version
        },
        removed={name: version for name, version in before.items() if name not in after},
        unchanged={name: version for name, version in after.items() if before.get(name) == version},
    )


def installed_packages(environment: Path) -> dict[str, str]:
    """Return canonical name -> version of what a virtual environment itself holds. Blocking."""
    found = {}
    for folder in environment.glob("lib/python*/site-packages/*.dist-info"):
        name, _, version = folder.name.removesuffix(".dist-info").partition("-")
        found[canonical(name)] = version
    return found


async def resolve(
    build: Build, runtime: Runtime, file: RequirementsFile, on_line: Callable[[str], None] | None = None
) -> Resolution:
    """Find out what a requirements file does to a runtime.

    Args:
        build: Where to work.

        runtime: An installed one.

        file: Paths in it must be visible to the build.

        on_line: Called with uv's lines.

    Raises:
        GiveUp: The file cannot be satisfied; the code says why, the reason names the line.

        Retry: An index does not answer.
    """
    installed = installed_packages(runtime.path)
    constrained = {
        name: version for name, version in installed.items() if not file.opted_out or is_essential(name)
    }
    warnings = [*file.ignored]
    arguments = [
        "pip",
        "install",
        "--dry-run",
        "--color",
        "never",
        "--python",
        str(runtime.path / "bin/python"),
    ]
    arguments += _options(build, file)
    uv_text = _as_uv_lines(file)
    (build.work / "requirements.txt").write_text(uv_text)
    (build.work / "constraints.txt").write_text("".join(f"{n}=={v}\n" for n, v in constrained.items()))
    arguments += ["-r", str(build.work / "requirements.txt"), "-c", str(build.work / "constraints.txt")]
    for number, constraint in enumerate(file.constraints):
        own = build.work / f"constraints-{number}.txt"
        text, notes = usable_constraints(
            await read_constraints(constraint), installed, runtime.version, constraint
        )
        own.write_text(text)
        warnings += notes
        arguments += ["-c", str(own)]

    ended, builds = await _wheels_first(build, arguments, file, on_line)
    if not build.builder:  # then uv may write there, and leaves a file that is writable for everybody
        (runtime.path / ".lock").unlink(missing_ok=True)
    if ended.code != 0:
        raise cause_of(ended.lines, Asked(file, uv_text, constrained, runtime.version))
    resolution = _read_changes(ended.lines, installed, file, builds=builds, warnings=warnings)
    if resolution.changed:
        more = await _broken_by(build, runtime, resolution)
        resolution = Resolution(**{**vars(resolution), "warnings": (*resolution.warnings, *more)})
    return resolution


async def install(
    build: Build,
    resolution: Resolution,
    file: RequirementsFile,
    python: Path,
    asked: Asked,
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Install the pins of a resolution, and nothing else, into a virtual environment.

    Raises:
        GiveUp: Something cannot be built or unpacked, or is not what its hash says.

        Retry: An index does not answer.
    """
    if not resolution.pins:
        return
    pins = build.work / "install.txt"
    pins.write_text("".join(f"{pin.line()}\n" for pin in resolution.pins))
    arguments = [
        "pip",
        "install",
        "--no-deps",
        "--no-compile-bytecode",
        "--color",
        "never",
        "--python",
        str(python),
    ]
    arguments += [*_options(build, file), "-r", str(pins)]
    if resolution.builds:
        ended = await build.build(uv.find_uv_bin(), *arguments, on_line=on_line)
    else:
        ended = await build.fetch(uv.find_uv_bin(), *arguments, "--no-build", on_line=on_line)
    if ended.code != 0:
        raise cause_of(ended.lines, asked)


async def _wheels_first(
    build: Build,
    arguments: Sequence[str],
    file: RequirementsFile,
    on_line: Callable[[str], None] | None,
) -> tuple[Ended, bool]:
    if not any(option.startswith("--no-binary") for option in file.options):
        ended = await build.fetch(uv.find_uv_bin(), *arguments, "--no-build", on_line=on_line)
        if ended.code == 0 or not needs_building(ended.lines):
            return ended, False
    if on_line is not None:
        on_line("Building what has no wheel")
    return await build.build(uv.find_uv_bin(), *arguments, on_line=on_line), True


def _options(build: Build, file: RequirementsFile) -> list[str]:
    """Return arguments for uv. Options with addresses go into a file: command lines are for all to see."""
    options = build.work / "options.txt"
    options.write_text("".join(f"{line}\n" for line in file.options))
    arguments = ["-r", str(options), *file.arguments]
    if any(line.startswith("--extra-index-url") for line in file.options):
        # pip takes the best version of all indexes; uv by default only the first index that has the name.
        arguments += ["--index-strategy", "unsafe-best-match"]
    return arguments


def _as_uv_lines(file: RequirementsFile) -> str:
    """Return the requirements on the lines where the user has them, so that positions can be told."""
    lines = [""] * max((one.line for one in file.requirements), default=0)
    for one in file.requirements:
        lines[one.line - 1] = one.uv
    return "\n".join((*lines, ""))


def _read_changes(
    lines: Sequence[str],
    installed: Mapping[str, str],
    file: RequirementsFile,
    *,
    builds: bool,
    warnings: Sequence[str],
) -> Resolution:
    hashes = {one.name: one.hashes for one in file.requirements if one.hashes}
    pins, gone = [], {}
    for line in lines:
        match = _CHANGE.match(line)
        if match is None:
            continue
        name, version, url = canonical(match[2]), match[3] or "", match[4] or ""
        if match[1] == "-":
            gone[name] = version
        else:
            pins.append(Pin(name, version or _version_of(url), url, hashes.get(name, ())))
    news = {pin.name: pin.version for pin in pins}
    return Resolution(
        added={name: version for name, version in news.items() if name not in installed},
        changed={name: (installed[name], version) for name, version in news.items() if name in installed},
        unchanged={name: version for name, version in installed.items() if name not in news},
        pins=tuple(pins),
        direct=frozenset(one.name for one in file.requirements),
        builds=builds,
        warnings=(
            *warnings,
            *(
                f"{name} {version} stays: layers only add"
                for name, version in gone.items()
                if name not in news
            ),
        ),
    )


def _version_of(url: str) -> str:
    match = _ARCHIVE_VERSION.match(url.partition("#")[0].rpartition("/")[2])
    return match[1] if match else "?"


async def _broken_by(build: Build, runtime: Runtime, resolution: Resolution) -> list[str]:
    """Return what packages of the runtime need that the layer's versions are not. Runs no new code."""
    versions = {name: version for name, (_, version) in resolution.changed.items()}
    question = build.work / "overrides.json"
    question.write_text(json.dumps(versions))
    ended = await build.fetch(str(runtime.path / "bin/python"), "-I", str(PROBE), "overrides", str(question))
    return [line for line in ended.lines if " needs " in line]
