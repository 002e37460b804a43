"""Every failure of a command is one line on standard error and exit code 1; wrong usage is 2."""

from __future__ import annotations

from typing import IO, Any

import botocore.exceptions
import click
import httpx

from openmwaa.settings import SettingsError


class CommandFailed(click.ClickException):
    """A command that cannot go on; the text is all that a user sees."""

    exit_code = 1

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the one line."""
        click.echo(one_line(self.format_message()), file=file, err=True)


class ServiceDown(CommandFailed):
    """The service does not answer."""

    def __init__(self, where: str) -> None:
        super().__init__(f"The service does not answer at {where}. Start it with: openmwaa up --detach")


def one_line(text: str) -> str:
    """Return a text without line breaks and runs of spaces."""
    return " ".join(text.split())


def failure_of(error: Exception) -> CommandFailed | None:  # noqa: PLR0911 - one line per family
    """Return what a user is told about an error of the libraries in use; None for a bug."""
    match error:
        case botocore.exceptions.ClientError():
            return CommandFailed(client_error_text(error))
        case botocore.exceptions.EndpointConnectionError() | botocore.exceptions.ConnectionClosedError():
            return ServiceDown(str(error.kwargs.get("endpoint_url", "its endpoint")))
        case botocore.exceptions.BotoCoreError():
            return CommandFailed(str(error))
        case httpx.ConnectError():
            return ServiceDown(str(error.request.url.copy_with(path="/")))
        case httpx.TimeoutException():
            return CommandFailed(f"No answer in time from {error.request.url.host}.")
        case httpx.HTTPError():
            return CommandFailed(f"{type(error).__name__}: {error}")
        case SettingsError():
            return CommandFailed(str(error))
        case _:
            return None


def client_error_text(error: botocore.exceptions.ClientError) -> str:
    """Return `Code: message` of an error that an AWS API answered."""
    answer = error.response.get("Error", {})
    code, message = answer.get("Code", "Error"), answer.get("Message", "")
    if code.startswith("RestApi"):  # these carry Airflow's own answer in place of a message
        status = error.response.get("RestApiStatusCode", "")
        body = error.response.get("RestApiResponse") or {}
        detail = body.get("detail", body) if isinstance(body, dict) else body
        message = f"Airflow answered {status}: {detail}"
    return f"{code}: {message}" if message else code
