"""The variables of a start-up script: how they leave bash, and which of them count.

Run as a script by the bash that sourced the user's script (`python -I -S startup_variables.py
FILE STATUS`) it writes down the environment it was given, which is what the script exported:
whatever the script prints, or calls its functions, is no part of it. Standard library only.
"""

from __future__ import annotations

import fnmatch
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

RULES_VARIABLE = "OPENMWAA_STARTUP_RULES"
"""JSON: `options`, names set by AirflowConfigurationOptions; `reserved`, patterns of names that are ours."""

_ALWAYS_RESERVED = (
    "OPENMWAA_*",
    "SPT_NOENV",  # else a process title overwrites what a process is recognised by
    "PYTHONHOME",  # the interpreter finds no library at another place than its own
)
"""Whatever the rules say."""

_OF_THE_SHELL = frozenset({"_", "OLDPWD", "PWD", "SHLVL"})
"""Bash exports these about itself; the component keeps its own."""

_BY_OPTION = "it is set by AirflowConfigurationOptions, which win over the start-up script"
_BY_SERVICE = "it is reserved for the service"


@dataclass(frozen=True)
class Rules:
    """What a script may not change: exact names, and patterns as `fnmatch` knows them."""

    options: frozenset[str] = frozenset()
    reserved: tuple[str, ...] = ()

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Rules:
        """Read the rules that came with the component's variables."""
        rules = json.loads(environment.get(RULES_VARIABLE) or "{}")
        return cls(frozenset(rules.get("options", ())), tuple(rules.get("reserved", ())))

    def refusal(self, name: str) -> str:
        """Return why a script may not change a variable; empty if it may."""
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in (*_ALWAYS_RESERVED, *self.reserved)):
            return _BY_SERVICE
        return _BY_OPTION if name in self.options else ""


def merged(
    before: Mapping[str, str], exported: Mapping[str, str], rules: Rules
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the component's variables after its script.

    Args:
        before: Variables the script was started with.

        exported: Variables at its end. One that is missing was unset.

        rules: What it may not change.

    Returns:
        The variables; and by name, why a change of the script has no effect.
    """
    after = dict(before)
    refused = {}
    for name in sorted({*before, *exported} - _OF_THE_SHELL):
        if before.get(name) == exported.get(name):
            continue
        if why := rules.refusal(name):
            refused[name] = why
        elif name in exported:
            after[name] = exported[name]
        else:
            del after[name]
    return after, refused


def read(path: Path) -> dict[str, str]:
    """Return what was written down.

    Raises:
        OSError: There is no such file.

        ValueError: It holds something else.
    """
    content = json.loads(path.read_bytes())
    if not isinstance(content, dict):
        raise ValueError(f"{path} does not hold variables")  # noqa: TRY004 - one error for every wrong content
    return content


def write(path: str) -> None:
    """Write down the environment that this process was started with: whole, or not at all."""
    # Not os.environ: Python itself may have added to that (PEP 538).
    with open("/proc/self/environ", "rb") as block:
        entries = block.read().split(b"\0")
    # Not by the locale, which may be the script's choice.
    texts = (entry.decode("utf-8", "surrogateescape") for entry in entries if b"=" in entry)
    pairs = (text.partition("=") for text in texts)
    content = json.dumps({name: value for name, _, value in pairs})
    draft = f"{path}.part"
    with open(draft, "w") as file:
        os.fchmod(file.fileno(), 0o600)  # whatever umask the script left
        file.write(content)
    os.rename(draft, path)


if __name__ == "__main__":
    write(sys.argv[1])
    sys.exit(int(sys.argv[2]))
