"""Tries a layer out, from within its virtual environment: `layer_probe.py import|overrides QUESTION`.

Run as a script with `python -I`; imports nothing of ours. `import` imports Airflow and then the
modules of the named distributions, each announced before and told after, so that a crash names
its module. `overrides` tells which packages need other versions than the given ones.
"""

import importlib
import json
import os
import re
import sys
from collections.abc import Iterator
from importlib import machinery, metadata
from pathlib import PurePosixPath

SHARED = {"airflow", "airflow.providers"}
NOT_FOR_IMPORT = {"test", "tests", "testing", "doc", "docs", "example", "examples", "setup", "conftest"}
MOST_MODULES = 20
LONGEST = 500
SUFFIXES = sorted(machinery.all_suffixes(), key=len, reverse=True)


def modules(distribution: metadata.Distribution) -> list[str]:
    """Return the outermost modules of a distribution: packages, or files in folders that are not."""
    files = [PurePosixPath(str(one)) for one in distribution.files or ()]
    packages = {one.parent for one in files if one.name.partition(".")[0] == "__init__" and stem(one)}
    found: dict[str, None] = {}
    for file in files:
        name = stem(file)
        if name is None or file.parts[0] == "..":
            continue
        package = next(
            (one for one in reversed(file.parents) if one in packages and dotted(one) not in SHARED), None
        )
        if package is None and name == "__init__":
            continue
        module = dotted(package) if package is not None else dotted(file.with_name(name))
        if importable(module):
            found[module] = None
    return list(found)[:MOST_MODULES]


def stem(file: PurePosixPath) -> str | None:
    """Return the module's name of a file; None if it is none."""
    for suffix in SUFFIXES:
        if suffix != ".pyc" and file.name.endswith(suffix):
            return file.name[: -len(suffix)]
    return None


def dotted(path: PurePosixPath) -> str:
    """Return a path as the name of a module."""
    return ".".join(path.parts)


def importable(module: str) -> bool:
    """Return whether a module is there to be imported."""
    parts = module.split(".")
    return (
        all(part.isidentifier() for part in parts)
        and parts[0] not in NOT_FOR_IMPORT
        and parts[-1] != "__main__"
    )


def try_imports(question: dict[str, object]) -> Iterator[dict[str, str]]:
    """Import what the question names; yield what happens."""
    yield {"start": "airflow", "distribution": "apache-airflow"}
    error = attempt("airflow")
    if error is None:
        version = importlib.import_module("airflow.version").version
        if version != question["airflow"]:
            error = f"Airflow is {version}, not {question['airflow']}"
    yield {"end": "airflow", "distribution": "apache-airflow", "error": error or ""}
    skip = set(question["skip"])  # type: ignore[call-overload]
    wanted = set(question["distributions"])  # type: ignore[call-overload]
    for distribution in metadata.distributions(path=[str(question["site"])]):
        name = re.sub(r"[-_.]+", "-", distribution.name).lower()
        if name not in wanted:
            continue
        for module in modules(distribution):
            if module not in skip:
                yield {"start": module, "distribution": name}
                yield {"end": module, "distribution": name, "error": attempt(module) or ""}


def attempt(module: str) -> str | None:
    """Import a module; return what it raised."""
    try:
        importlib.import_module(module)
    except BaseException as error:  # noqa: BLE001 - also SystemExit is a reason
        return f"{type(error).__name__}: {error}"[:LONGEST]
    return None


def overridden(versions: dict[str, str]) -> Iterator[str]:
    """Yield a sentence for each need of an installed distribution that the versions do not meet."""
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415 - Airflow's own

    for distribution in metadata.distributions():
        if re.sub(r"[-_.]+", "-", distribution.name).lower() in versions:
            continue
        for text in distribution.requires or ():
            try:
                need = Requirement(text)
            except InvalidRequirement:
                continue
            version = versions.get(re.sub(r"[-_.]+", "-", need.name).lower())
            if version is None or (need.marker and not need.marker.evaluate({"extra": ""})):
                continue
            if not need.specifier.contains(version, prereleases=True):
                yield (
                    f"{distribution.name} {distribution.version} needs {need.name}{need.specifier}; "
                    f"the layer has {version}"
                )


def main() -> None:
    """Answer on standard output, past what imported modules print."""
    answer = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    with open(sys.argv[2]) as file:
        question = json.load(file)
    if sys.argv[1] == "overrides":
        for line in overridden(question):
            print(line, file=answer)
    else:
        for one in try_imports(question):
            print(question["mark"] + json.dumps(one), file=answer)
        print(question["mark"] + json.dumps({"done": "all"}), file=answer)
    answer.flush()
    os._exit(0)  # whatever threads the modules have started


if __name__ == "__main__":
    main()
