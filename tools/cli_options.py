"""Note the options of Airflow's commands for the tests: `python tools/cli_options.py RUNTIME ...`.

RUNTIME is the virtual environment of an Airflow version. Its own parser is asked for the
options of every command that the CLI endpoint supports; the tests hold our table of
restricted options (`openmwaa.gateway.cli_commands`) against them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from openmwaa.airflow.versions import airflow_version
from openmwaa.gateway.cli_commands import COMMANDS

_FILE = Path(__file__).parents[1] / "tests" / "unit" / "gateway" / "cli_options.json"
_FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"  # brings `roles` on 3.x

_ASK = """
import argparse, json, os, sys
from airflow import __version__
from airflow.cli import cli_parser

KINDS = {None: "one", 0: "flag", "*": "many", "+": "many", "?": "optional"}

def commands(parser, words=()):
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for group in groups:
        for word, below in group.choices.items():
            yield from commands(below, (*words, word))
    if not groups:
        options = [action for action in parser._actions if "-h" not in action.option_strings]
        yield " ".join(words), [[action.option_strings, KINDS[action.nargs]] for action in options]

with open(sys.argv[1], "w") as file:
    json.dump([__version__, dict(commands(cli_parser.get_parser()))], file)
"""


def ask(runtime: Path) -> tuple[str, dict[str, list[object]]]:
    """Return a runtime's version and the options of each of its commands."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        variables = {"AIRFLOW_HOME": folder, "AIRFLOW__CORE__AUTH_MANAGER": _FAB, "PATH": "/usr/bin:/bin"}
        command = [runtime / "bin" / "python", "-c", _ASK, answer]
        subprocess.run(command, env=variables, check=True, cwd=folder)
        version, commands = json.loads(answer.read_text())
        return version, commands


def main(arguments: list[str]) -> int:
    """Ask each runtime and rewrite the file."""
    noted = json.loads(_FILE.read_text()) if _FILE.exists() else {}
    for runtime in arguments:
        version, commands = ask(Path(runtime))
        supported = COMMANDS[airflow_version(version).generation]
        names = {command.name for command in supported.values()} & set(commands)
        noted[version] = {name: commands[name] for name in sorted(names)}
    versions = [
        f"{json.dumps(version)}: {{\n"
        + ",\n".join(f"  {json.dumps(name)}: {json.dumps(options)}" for name, options in commands.items())
        + "\n}"
        for version, commands in sorted(noted.items())
    ]
    _FILE.write_text("{\n" + ",\n".join(versions) + "\n}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
