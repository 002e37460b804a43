"""A component's own command line, instead of that of all two hundred commands.

Airflow builds the whole parser before it looks at the first argument: 0.2 to 0.4 s of CPU time.
"""

from __future__ import annotations

import importlib
from typing import Any

_WORKER = "celery"


def parse_only(command: str) -> None:
    """Let the next parser, and only that, know one command.

    What code in the process asks for later is whole. Does nothing where Airflow has no such table of
    commands, or not this command; nor for workers of Airflow 2, whose tasks are commands that children
    of the process parse with its parser.

    Args:
        command: The first argument, e.g. `scheduler`.
    """
    try:
        module: Any = importlib.import_module("airflow.cli.cli_parser")
        original, known = module.get_parser, module.ALL_COMMANDS_DICT
        build = original.__wrapped__  # not the memory of it: others would get this parser
        tasks_are_commands = any(one.name == "run" for one in known["tasks"].subcommands)
    except (ImportError, AttributeError, KeyError):
        return
    if command not in known or (command == _WORKER and tasks_are_commands):
        return

    def first(*arguments: Any, **keywords: Any) -> Any:
        module.get_parser, module.ALL_COMMANDS_DICT = original, {command: known[command]}
        try:
            return build(*arguments, **keywords)
        finally:
            module.ALL_COMMANDS_DICT = known

    module.get_parser = first
