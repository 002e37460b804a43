"""From the text of a CLI request to arguments that may run. Pure.

The text is split by a shell's quoting rules and never sees a shell. Options are recognised
the way Airflow's own parser (argparse) recognises them: abbreviated, joined with `=`, or in a
cluster of letters.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

from openmwaa.gateway.cli_commands import COMMANDS, Command, RestrictedOption

_DAGS_FOLDER: Final = "DAGS_FOLDER"
"""Airflow replaces this word by the DAG folder."""

_MWAA_DAGS: Final = "/usr/local/airflow/dags"
"""The DAG folder in MWAA's containers (mwaa.md 5.6), accepted for the sake of existing scripts."""

_HELP: Final = frozenset({"-h", "--help"})


class CommandRefusedError(Exception):
    """The command is not run; the text says why and is the answer's standard error."""


def to_arguments(text: str, *, generation: int, numbers: tuple[int, ...]) -> tuple[str, ...]:
    """Return the arguments after `airflow`.

    Args:
        text: Body of the request, e.g. `dags list -o json`.

        generation: 2 or 3.

        numbers: Airflow's version, e.g. (2, 11, 2).

    Raises:
        CommandRefusedError: Not a command line, not supported, or an option that is not allowed.
    """
    if "\0" in text:
        raise CommandRefusedError("The command contains a null character.")
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise CommandRefusedError(f"The command cannot be read: {error}.") from error
    if not words:
        raise CommandRefusedError(
            "The command is empty. Send the arguments of the Airflow CLI, e.g. 'dags list'."
        )
    commands = {
        name: command for name, command in COMMANDS[generation].items() if command.since <= numbers[:2]
    }
    groups = {name[0] for name in commands if len(name) > 1}
    if words[0] in groups and (len(words) == 1 or (len(words) == 2 and words[1] in _HELP)):
        return tuple(words)  # prints the group's usage
    command = commands.get(tuple(words[:1])) or commands.get(tuple(words[:2]))
    if command is None:
        raise CommandRefusedError(_unsupported(words, commands, groups))
    rest = words[len(command.words) :]
    return (*command.words, *_checked(command, rest))


def _unsupported(words: Sequence[str], commands: dict[tuple[str, ...], Command], groups: set[str]) -> str:
    first = words[0]
    if first == "airflow":
        return "Leave out the word 'airflow': send only its arguments, e.g. 'dags list'."
    if first in groups:
        accepted = ", ".join(sorted(name[1] for name in commands if name[0] == first and len(name) > 1))
        return f"The command '{first} {words[1]}' is not supported. Supported after '{first}': {accepted}."
    accepted = ", ".join(sorted({name[0] for name in commands}))
    return f"The command '{first}' is not supported. Supported: {accepted}."


def _checked(command: Command, words: Sequence[str]) -> list[str]:
    """Return the words, paths inside the DAG folder rewritten to Airflow's word for it."""
    checked = list(words)
    for index, word in enumerate(words):
        for option in command.restricted:
            value_at = _value_position(word, option, command.flags)
            if value_at is None:
                continue
            if option.refused is not None:
                raise CommandRefusedError(
                    f"The option {option.names[-1]} is not supported: {option.refused}."
                )
            if value_at:
                checked[index] = word[:value_at] + _inside_dags(word[value_at:])
            elif index + 1 < len(words):
                checked[index + 1] = _inside_dags(words[index + 1])
    return checked


def _value_position(word: str, option: RestrictedOption, flags: str) -> int | None:
    """Return where in `word` the option's value begins; 0: in the next word; None: not this option.

    No other option of these commands begins with what abbreviates a restricted one without
    argparse calling it ambiguous, so every abbreviation counts. Words after `--` count too:
    nested parsers do not agree on who removes it.
    """
    if word.startswith("--"):
        name, equals, _ = word.partition("=")
        if len(name) > 2 and any(long.startswith(name) for long in option.names):
            return len(name) + 1 if equals else 0
        return None
    if not word.startswith("-"):
        return None
    letters = {name[1] for name in option.names if len(name) == 2}
    for at, letter in enumerate(word[1:], start=1):
        if letter in letters:
            value_at = at + 1
            if word[value_at : value_at + 1] == "=":
                value_at += 1
            return value_at if value_at < len(word) else 0
        if letter not in flags:
            return None
    return None


def _inside_dags(path: str) -> str:
    """Return a path of the DAG folder as Airflow's parser resolves it.

    Raises:
        CommandRefusedError: The path is relative to something else or leads out.
    """
    if path == _MWAA_DAGS or path.startswith(f"{_MWAA_DAGS}/"):
        path = _DAGS_FOLDER + path.removeprefix(_MWAA_DAGS)
    inside = path == _DAGS_FOLDER or path.startswith(f"{_DAGS_FOLDER}/")
    rest = path.removeprefix(_DAGS_FOLDER)
    if not inside or ".." in rest.split("/") or _DAGS_FOLDER in rest:
        raise CommandRefusedError(f"Paths must be inside the DAG folder: {_DAGS_FOLDER} or {_DAGS_FOLDER}/….")
    return path
