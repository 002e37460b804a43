"""The documents name only commands and options that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from openmwaa.cli.main import main

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *ROOT.glob("docs/g*/*.md"), ROOT / "examples/etl/README.md"]
CALL = re.compile(r"(?:^\$ (?:eval \"\$\()?|`)((?:\.venv/bin/)?openmwaa [^`\n#)]*)", re.MULTILINE)


def calls() -> list[tuple[str, str]]:
    """Return each example of a call with the document it stands in."""
    return [
        (path.name, match.strip())
        for path in DOCUMENTS
        for match in CALL.findall(path.read_text().replace("\\\n", " ").replace("create\n", "create "))
    ]


def test_there_are_examples() -> None:
    """The pattern still finds them."""
    assert len(calls()) > 20


@pytest.mark.parametrize(("document", "call"), calls())
def test_an_example_in_the_documents_parses(document: str, call: str) -> None:
    """Subcommands and options exist as written."""
    words = shlex.split(call)[1:]
    command: click.Command = main
    context = click.Context(main)
    while words:
        word = words.pop(0)
        if word == "--":
            return
        if word.startswith("--"):
            names = {name for parameter in command.params for name in parameter.opts}
            assert word.partition("=")[0] in names | {"--help"}, f"{document}: {call}"
        elif isinstance(command, click.Group) and (found := command.get_command(context, word)):
            command = found
        elif isinstance(command, click.Group):
            options = [one for one in command.params if isinstance(one, click.Option) and not one.is_flag]
            assert options, f"{document}: {call}: no command {word}"
