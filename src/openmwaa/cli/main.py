"""The `openmwaa` command.

Each subcommand's module is loaded only when it is used: the supervisor, the control plane and
the node agent are subcommands too, and live long with whatever was imported.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click

from openmwaa.kit.errors import OperatorError
from openmwaa.settings import load_settings

_COMMANDS: Final[dict[str, str]] = {
    "up": "openmwaa.cli.lifecycle:up",
    "down": "openmwaa.cli.lifecycle:down",
    "status": "openmwaa.cli.lifecycle:status",
    "doctor": "openmwaa.cli.lifecycle:doctor",
    "aws-env": "openmwaa.cli.aws_env:command",
    "env": "openmwaa.cli.env:group",
    "dags": "openmwaa.cli.dags:group",
    "logs": "openmwaa.cli.logs:command",
    "events": "openmwaa.cli.events:command",
    "snapshot": "openmwaa.cli.snapshots:group",
    "runtimes": "openmwaa.cli.runtimes:group",
    "demo": "openmwaa.cli.demo:command",
    "control": "openmwaa.cli.lifecycle:control",
    "node": "openmwaa.cli.lifecycle:node",
}
"""Every subcommand, in the order in which help shows them: name, then module and attribute."""


class _Commands(click.Group):
    """Loads subcommands when they are named and reports known failures as one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except OperatorError as error:
            raise click.ClickException(" ".join(str(error).split())) from error
        except Exception as error:
            from openmwaa.cli.errors import failure_of  # noqa: PLC0415 - brings the AWS SDK along

            failure = failure_of(error)
            if failure is None:
                raise
            raise failure from error


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory that holds all state.  [env: OPENMWAA_HOME]",
)
@click.version_option(package_name="openmwaa")
@click.pass_context
def main(ctx: click.Context, home: Path | None) -> None:
    """Self-hosted Amazon MWAA: managed Apache Airflow behind MWAA's own API."""
    ctx.obj = load_settings(home=home)
