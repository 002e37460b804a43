"""Print what one Airflow knows of its configuration, as JSON. Run by the Python of an installed runtime.

Options come from three places: the templates of core and providers (types and defaults), the
parser's tables (deprecated names, closed sets of values), and calls like
`conf.getint("section", "key")` in the code, because not every option that is read has a template.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import airflow
from airflow.configuration import conf, retrieve_configuration_description
from airflow.exceptions import AirflowConfigException

_GETTERS = {
    "get",
    "get_mandatory_list_value",
    "get_mandatory_value",
    "getboolean",
    "getenum",
    "getenumlist",
    "getfloat",
    "getimport",
    "getint",
    "getjson",
    "getlist",
    "getsection",
    "gettimedelta",
    "has_option",
}


def described() -> dict[str, dict[str, Any]]:
    """Return what the templates say: section -> owner and options."""
    core = retrieve_configuration_description(include_airflow=True, include_providers=False)
    every = retrieve_configuration_description(include_airflow=True, include_providers=True)
    return {
        section: {
            "core": section in core,
            "options": {
                key.lower(): {name: facts.get(name) for name in ("type", "default", "sensitive")}
                for key, facts in (content.get("options") or {}).items()
            },
        }
        for section, content in every.items()
    }


def read_by_code() -> tuple[dict[str, set[str]], set[str]]:
    """Return option -> the methods that read it, and the sections that are read as a whole."""
    options: dict[str, set[str]] = defaultdict(set)
    whole: set[str] = set()
    for file in sorted(Path(airflow.__file__).parent.rglob("*.py")):
        if "example_dags" in file.parts or "tests" in file.parts:
            continue
        for getter, names in _calls(ast.parse(file.read_text())):
            if getter == "getsection":
                whole.add(names[0])
            elif len(names) == 2:
                options[".".join(names)].add(getter)
    return options, whole


def _calls(tree: ast.Module) -> Iterator[tuple[str, list[str]]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr not in _GETTERS or not ast.unparse(node.func.value).endswith("conf"):
            continue
        named = {keyword.arg: keyword.value for keyword in node.keywords}
        places = [*node.args[:2], *(named[name] for name in ("section", "key", "option") if name in named)]
        names = [
            place.value.lower()
            for place in places[:2]
            if isinstance(place, ast.Constant) and isinstance(place.value, str)
        ]
        if len(names) == len(places[:2]) and names:
            yield node.func.attr, names


def changes() -> list[dict[str, Any]]:
    """Return what `airflow config lint` knows of options that went away; empty before 2.11."""
    try:
        from airflow.cli.commands.config_command import CONFIGS_CHANGES  # noqa: PLC0415
    except ImportError:
        return []
    return [
        {
            "option": f"{change.config.section}.{change.config.option}".lower(),
            "renamed_to": f"{change.renamed_to.section}.{change.renamed_to.option}".lower()
            if change.renamed_to
            else None,
            "removed": change.was_removed and not change.default_change,
            "suggestion": change.suggestion,
        }
        for change in CONFIGS_CHANGES
    ]


def reads_integral_floats() -> bool:
    """Return whether `5.0` is an integer to this version."""
    os.environ["AIRFLOW__CORE__PARALLELISM"] = "5.0"
    try:
        return bool(conf.getint("core", "parallelism") == 5)
    except AirflowConfigException:
        return False
    finally:
        del os.environ["AIRFLOW__CORE__PARALLELISM"]


def main() -> None:
    """Write the facts to standard output."""
    read, whole = read_by_code()
    facts = {
        "sections": described(),
        "read": {option: sorted(getters) for option, getters in read.items()},
        "whole": sorted(whole),
        "deprecated": {
            f"{old[0]}.{old[1]}".lower(): f"{section}.{key}".lower()
            for (section, key), old in conf.deprecated_options.items()
        },
        "deprecated_sections": {old[0]: section for section, old in conf.deprecated_sections.items()},
        "enums": {
            f"{section}.{key}".lower(): list(values) for (section, key), values in conf.enums_options.items()
        },
        "changes": changes(),
        "integral_floats": reads_integral_floats(),
    }
    json.dump(facts, sys.stdout)


if __name__ == "__main__":
    main()
