"""Following what an environment does, for people: events as they happen, until it has settled."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import botocore.exceptions
import click
from botocore.exceptions import ClientError
from rich.console import Console

from openmwaa.cli.clients import Clients
from openmwaa.cli.errors import CommandFailed, ServiceDown
from openmwaa.cli.operator import Operator
from openmwaa.cli.output import on_terminal

if TYPE_CHECKING:
    from mypy_boto3_mwaa.type_defs import EnvironmentTypeDef

_BUSY: Final = frozenset(
    {"CREATING", "PENDING", "UPDATING", "CREATING_SNAPSHOT", "ROLLING_BACK", "MAINTENANCE", "DELETING"}
)
_POLL_S: Final = 0.3
_PATIENCE_S: Final = 60.0
"""How long the service may be away (restarted, say) before waiting ends."""

_DEADLINE_S: Final = 13 * 3600.0
"""Workers may take twelve hours to finish their tasks; what fails, the service itself gives up and says so."""


class Progress:
    """Prints events as lines; on a terminal a spinner below them says what goes on.

    Args:
        quiet: Print nothing: standard output is for a program.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self.started = time.monotonic()
        self._console = Console(highlight=False) if on_terminal() and not quiet else None
        self._spinner = self._console.status("") if self._console else None
        self._stage = ""

    def line(self, text: str) -> None:
        """Print a line that stays."""
        if self._quiet:
            return
        stamped = f"{time.monotonic() - self.started:6.1f} s  {text}"
        if self._console:
            self._console.print(stamped, markup=False, soft_wrap=True)
        else:
            click.echo(stamped)

    def now(self, text: str, *, stage: str | None = None) -> None:
        """Say what goes on: replaces the spinner's text; elsewhere a line where the stage changed.

        Args:
            text: In full.

            stage: What must differ from the last time for a line; None: the text itself is not worth one.
        """
        if self._spinner:
            self._spinner.update(text.replace("[", r"\["))
        elif stage is not None and stage != self._stage:
            self.line(text)
        self._stage = stage if stage is not None else self._stage

    @contextmanager
    def running(self) -> Iterator[None]:
        """Show the spinner while the block runs."""
        with self._spinner or contextlib.nullcontext():
            yield


class Waiter:
    """Waits for one environment."""

    def __init__(self, clients: Clients, operator: Operator, name: str, progress: Progress) -> None:
        self._clients = clients
        self._operator = operator
        self._name = name
        self._progress = progress
        self._last_event = 0

    def skip_events(self) -> None:
        """Forget the events so far: only later ones are shown."""
        with contextlib.suppress(CommandFailed):
            events = self._events(after=0, limit=1)
            self._last_event = events[-1]["id"] if events else 0

    def until_settled(self) -> EnvironmentTypeDef:
        """Return the environment when no operation runs on it any more.

        Raises:
            CommandFailed: The service was away for too long, or the environment is gone.
        """
        environment = self._poll(lambda environment: environment["Status"] not in _BUSY)
        if environment is None:
            raise CommandFailed(f"{self._name} was deleted meanwhile.")
        return environment

    def until_gone(self) -> None:
        """Return when the environment does not exist any more.

        Raises:
            CommandFailed: The service was away for too long.
        """
        self._poll(lambda environment: environment["Status"] == "DELETED")

    def _poll(self, done: Callable[[EnvironmentTypeDef], bool]) -> EnvironmentTypeDef | None:
        deadline = time.monotonic() + _DEADLINE_S
        heard = time.monotonic()
        with self._progress.running():
            while time.monotonic() < deadline:
                try:
                    environment = self._get()
                    self.show_events()
                    heard = time.monotonic()
                    if environment is None or done(environment):
                        return environment
                    self._progress.now(f"{self._name} is {environment['Status']}")
                except (botocore.exceptions.BotoCoreError, ClientError, ServiceDown) as error:
                    if not _is_away(error) or time.monotonic() - heard > _PATIENCE_S:
                        raise
                    self._progress.now("waiting for the service")
                time.sleep(_POLL_S)
        raise CommandFailed(f"{self._name} did not settle within {_DEADLINE_S / 3600:.0f} hours.")

    def _get(self) -> EnvironmentTypeDef | None:
        try:
            return self._clients.mwaa.get_environment(Name=self._name)["Environment"]
        except self._clients.mwaa.exceptions.ResourceNotFoundException:
            return None

    def show_events(self) -> None:
        """Print the events that came since the last call."""
        for event in self._events(after=self._last_event, limit=100):
            self._progress.line(event["message"])
            self._last_event = event["id"]

    def _events(self, *, after: int, limit: int) -> list[dict[str, Any]]:
        answer = self._operator.get(f"/environments/{self._name}/events", after=after, limit=limit)
        events: list[dict[str, Any]] = answer["events"]
        return events


def _is_away(error: Exception) -> bool:
    """Return whether an error means that the service is being restarted, say."""
    if isinstance(error, ClientError):
        return error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500
    return isinstance(
        error, ServiceDown | botocore.exceptions.HTTPClientError | botocore.exceptions.EndpointConnectionError
    )


def show_installation(operator: Operator, version: str, progress: Progress) -> None:
    """Follow the installation of a runtime, if it is not installed already."""
    listed = operator.get("/runtimes")["runtimes"]
    if any(one["version"] == version and one["current"] and one["installed"] for one in listed):
        return
    show_build(version, operator.stream(f"/runtimes/{version}"), progress)


def show_build(version: str, reports: Iterable[dict[str, Any]], progress: Progress) -> str:
    """Show how a runtime is built; return its id.

    Raises:
        CommandFailed: It was not.
    """
    runtime = ""
    with progress.running():
        for report in reports:
            stage = report["stage"]
            counted = f" {report['done']}/{report['total']}" if report.get("total") else ""
            detail = f": {report['detail']}" if report.get("detail") else ""
            progress.now(f"Airflow {version}: {stage}{counted}{detail}", stage=stage)
            runtime = report.get("id", "")
    return runtime


def require_available(environment: EnvironmentTypeDef) -> None:
    """Return if an operation ended well.

    Raises:
        CommandFailed: It did not; the text is the cause.
    """
    if environment["Status"] == "AVAILABLE":
        return
    error = environment.get("LastUpdate", {}).get("Error", {})
    cause = f" {error.get('ErrorCode')}: {error.get('ErrorMessage')}" if error else ""
    raise CommandFailed(f"{environment['Name']} is {environment['Status']}.{cause}")
