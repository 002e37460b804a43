"""`openmwaa env open` and `openmwaa env cli`: into an environment, through tokens of the AWS API."""

from __future__ import annotations

import base64
import os
import shlex
import sys
import webbrowser

import click

from openmwaa.cli.clients import Clients
from openmwaa.cli.errors import CommandFailed
from openmwaa.cli.operator import Operator
from openmwaa.cli.output import json_option, on_terminal, print_json
from openmwaa.settings import Settings

_TOKEN_LIFE_S = 60


@click.command("open")
@click.argument("name")
@click.option("--no-browser", is_flag=True, help="Only print the link.")
@json_option
@click.pass_obj
def open_(settings: Settings, name: str, no_browser: bool, as_json: bool) -> None:
    """Print a link that logs in to Airflow's UI, and open it if this terminal has a browser.

    The link works for 60 seconds; the session that it starts lasts 12 hours.
    """
    url = login_url(Clients(settings), name)
    if as_json:
        print_json({"url": url, "expires_in_s": _TOKEN_LIFE_S})
        return
    click.echo(url)
    click.echo(f"Valid for {_TOKEN_LIFE_S} seconds.", err=True)
    click.echo(f"The certificate's authority is the first one in {settings.layout.ca_bundle}.", err=True)
    if not no_browser and on_terminal() and _has_display():
        webbrowser.open(url)


@click.command("cli", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.option("--direct", is_flag=True, help="As the machine's operator: any command, not only MWAA's.")
@click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def cli(settings: Settings, name: str, direct: bool, arguments: tuple[str, ...]) -> None:
    """Run an Airflow command, e.g. openmwaa env cli NAME -- dags list.

    Through a CLI token, as any MWAA client does it: the commands that MWAA supports, and exit code 0
    also where the command itself failed. With --direct the exit code is that of the command.
    """
    if direct:
        answer = Operator(settings).post(f"/environments/{name}/cli", {"arguments": list(arguments)})
        _write(answer)
        sys.exit(answer["exit_code"] if answer["exit_code"] >= 0 else 1)
    clients = Clients(settings)
    token = clients.mwaa.create_cli_token(Name=name)
    response = clients.web.post(
        f"https://{token['WebServerHostname']}/aws_mwaa/cli",
        headers={"Authorization": f"Bearer {token['CliToken']}", "Content-Type": "text/plain"},
        content=shlex.join(arguments),
    )
    try:
        answer = response.json()
    except ValueError:
        answer = {}
    if "stdout" not in answer:
        raise CommandFailed(
            f"{name} answered {response.status_code}: {answer.get('detail', 'no reason given')}"
        )
    _write(answer)
    if not response.is_success:
        sys.exit(1)


def login_url(clients: Clients, name: str) -> str:
    """Return a link that logs in to an environment's UI, valid for 60 seconds."""
    token = clients.mwaa.create_web_login_token(Name=name)
    return f"https://{token['WebServerHostname']}/aws_mwaa/aws-console-sso?login=true#{token['WebToken']}"


def _write(answer: dict[str, str]) -> None:
    out, err = base64.b64decode(answer["stdout"]), base64.b64decode(answer["stderr"])
    sys.stdout.buffer.write(out)
    sys.stdout.buffer.flush()
    sys.stderr.buffer.write(err)
    sys.stderr.buffer.flush()


def _has_display() -> bool:
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
