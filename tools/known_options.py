"""Write what each Airflow version knows of its configuration: `python tools/known_options.py [VERSION ...]`.

Each version's runtime is installed from its lock, in a folder that is removed afterwards (or in
`OPENMWAA_HOME`, where it stays), and asked by `known_options_probe.py`. Run it after
`tools/locks.py`: the providers in the lock define options too.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openmwaa.airflow.known_options import DATA
from openmwaa.airflow.options import canonical
from openmwaa.airflow.versions import VERSIONS
from openmwaa.artifacts.runtimes import RuntimeStore
from openmwaa.settings import load_settings

_PROBE = Path(__file__).with_name("known_options_probe.py")

_NOT_OPEN = frozenset({"webserver"})
"""Read as a whole by Airflow 2, but only for the names of the navigation bar's colours."""

_TYPE_OF_GETTER = {
    "getboolean": "boolean",
    "getfloat": "float",
    "getint": "integer",
    "getjson": "json",
    "gettimedelta": "integer",
}
_STRICTEST_FIRST = ("boolean", "integer", "float", "json")


def main(arguments: list[str]) -> int:
    """Write the file of the named versions, or of all."""
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(os.environ.get("OPENMWAA_HOME") or scratch)
        store = RuntimeStore(load_settings(home=home), {name: row.lock for name, row in VERSIONS.items()})
        for name in arguments or VERSIONS:
            runtime = asyncio.run(store.ensure(name))
            facts = _distil(_ask(runtime.path, Path(scratch)))
            DATA.mkdir(exist_ok=True)
            (DATA / f"{name}.json").write_text(_dump(facts))
            sys.stdout.write(f"{name}: {len(facts['options'])} options\n")
    return 0


def _ask(runtime: Path, scratch: Path) -> dict[str, Any]:
    """Run the probe with nothing in its surroundings that could change an answer."""
    result = subprocess.run(
        [str(runtime / "bin" / "python"), "-I", str(_PROBE)],
        env={"PATH": "/usr/bin:/bin", "AIRFLOW_HOME": str(scratch / "airflow"), "LANG": "C.UTF-8"},
        cwd=scratch,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    facts: dict[str, Any] = json.loads(result.stdout)
    return facts


def _distil(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a check needs, sorted."""
    options: dict[str, dict[str, Any]] = {}
    for section, content in raw["sections"].items():
        for key, described in content["options"].items():
            option = f"{section}.{key}"
            facts = _facts(described, raw["read"].get(option, ()), raw["enums"].get(option))
            options[canonical(option)] = facts
    for option, getters in raw["read"].items():
        # A section without a template is that of a provider that is not installed: little of it is known.
        if canonical(option) not in options and option.rpartition(".")[0] in raw["sections"]:
            options[canonical(option)] = _facts({}, getters, None)
    deprecated = dict(raw["deprecated"])
    for old, new in raw["deprecated_sections"].items():
        for option in options:
            if option.startswith(f"{new}."):
                deprecated.setdefault(f"{old}.{option.partition('.')[2]}", option)
    gone = [change for change in raw["changes"] if change["option"] not in {*options, *deprecated}]
    renamed = {one["option"]: _last_name(one["renamed_to"], deprecated) for one in gone if one["renamed_to"]}
    renamed |= {old: _last_name(new, deprecated) for old, new in deprecated.items() if new not in options}
    renamed = {old: new for old, new in renamed.items() if new in options}
    # What became of sections that were never there is for the providers that have them to say.
    ours = {name.partition(".")[0] for name in (*options, *deprecated, *renamed)}
    return {
        "options": dict(sorted(options.items())),
        "deprecated": {old: new for old, new in sorted(deprecated.items()) if new in options},
        "renamed": dict(sorted(renamed.items())),
        "removed": dict(
            sorted(
                (one["option"], " ".join(one["suggestion"].split()))
                for one in gone
                if one["removed"] and one["renamed_to"] is None and one["option"].partition(".")[0] in ours
            )
        ),
        "open_sections": sorted(set(raw["whole"]) - _NOT_OPEN),
        "provider_sections": sorted(
            name.replace(".", "_") for name, one in raw["sections"].items() if not one["core"]
        ),
        "integral_floats": raw["integral_floats"],
    }


def _last_name(name: str, deprecated: Mapping[str, str]) -> str:
    """Return where a chain of renamings ends; Airflow itself follows one step."""
    seen = {name}
    while (name := deprecated.get(name, name)) not in seen:
        seen.add(name)
    return name


def _facts(described: Mapping[str, Any], getters: Any, values: list[str] | None) -> dict[str, Any]:
    """Return one option. How the code reads it says more than its template: many say `string`."""
    read_as = {_TYPE_OF_GETTER[getter] for getter in getters if getter in _TYPE_OF_GETTER}
    kind = next((kind for kind in _STRICTEST_FIRST if kind in read_as), described.get("type") or "string")
    facts: dict[str, Any] = {} if kind == "string" else {"type": kind}
    if described.get("default") is not None:
        facts["default"] = str(described["default"])
    if described.get("sensitive"):
        facts["sensitive"] = True
    if values:
        facts["values"] = values
    return facts


def _dump(facts: Mapping[str, Any]) -> str:
    """Return JSON with one line per entry, so that a new version's changes can be read."""
    parts = []
    for name, entries in facts.items():
        if isinstance(entries, bool):
            parts.append(f" {json.dumps(name)}: {json.dumps(entries)}")
            continue
        opening, closing = ("{", "}") if isinstance(entries, dict) else ("[", "]")
        lines = (
            [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in entries.items()]
            if isinstance(entries, dict)
            else [json.dumps(entry) for entry in entries]
        )
        body = "".join(f"\n  {line}," for line in lines).removesuffix(",")
        parts.append(f" {json.dumps(name)}: {opening}{body}\n {closing}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
