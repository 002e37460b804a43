"""Starting, stopping and examining the service of a home."""

from __future__ import annotations

import asyncio
import time

import click

from openmwaa.cli.output import age, json_option, print_json, print_table, size
from openmwaa.settings import Settings, load_settings


@click.command()
@click.option("--detach", is_flag=True, help="Run in the background; return when the API answers.")
@click.option(
    "--port-base", type=click.IntRange(1024, 65000), help="First of twenty ports; remembered by the home."
)
@click.option("--timeout", "timeout_s", default=120.0, show_default=True, help="With --detach: seconds.")
@click.pass_obj
def up(settings: Settings, *, detach: bool, port_base: int | None, timeout_s: float) -> None:
    """Start the service and keep it running.

    In the foreground, Ctrl-C stops everything, environments too. If this process is killed,
    everything runs on, and the next "up" takes over.
    """
    if port_base is not None:
        settings = load_settings(home=settings.home, port_base=port_base)
    if detach:
        from openmwaa.processes.detach import start_detached  # noqa: PLC0415 - see main.py

        seconds = start_detached(settings, timeout_s=timeout_s, say=click.echo)
        click.echo(f"The API answers at https://127.0.0.1:{settings.ports.https} after {seconds:.1f} s.")
        click.echo('For AWS clients: eval "$(openmwaa aws-env)"')
        return
    from openmwaa.kit.logs import configure_logging  # noqa: PLC0415
    from openmwaa.processes.up import run_up  # noqa: PLC0415

    configure_logging(level=settings.log_level, process="up")
    asyncio.run(run_up(settings))


@click.command()
@click.pass_obj
def down(settings: Settings) -> None:
    """Stop everything of this home: environments, control plane and services. Data stays."""
    from openmwaa.processes.stop import stop_home  # noqa: PLC0415

    began = time.monotonic()
    asyncio.run(stop_home(settings, lambda line: click.echo(f"{time.monotonic() - began:5.1f} s  {line}")))


@click.command()
@json_option
@click.pass_obj
def status(settings: Settings, *, as_json: bool) -> None:
    """Show what runs."""
    from openmwaa.processes.observe import observe_home  # noqa: PLC0415

    seen = asyncio.run(observe_home(settings))
    if as_json:
        print_json(
            {
                "home": str(settings.home),
                "port_base": settings.port_base,
                "running": seen.running,
                "supervised": seen.supervised,
                "environments": seen.environments,
                "processes": [
                    {**line.__dict__, "since": line.since.isoformat() if line.since else None}
                    for line in seen.processes
                ],
            }
        )
        return
    now = time.time()
    print_table(
        ("process", "state", "pid", "since", "restarts", "port", "memory"),
        [
            (
                line.name,
                line.state,
                line.pid,
                age(now - line.since.timestamp()) if line.since else None,
                line.restarts,
                line.port,
                size(line.rss_bytes) if line.rss_bytes else None,
            )
            for line in seen.processes
        ],
    )
    click.echo(f"{seen.environments} environments, home {settings.home}")


@click.command()
@json_option
@click.pass_obj
def doctor(settings: Settings, *, as_json: bool) -> None:
    """Examine this host. Exit code 1 if something keeps the service from working."""
    from openmwaa.processes.doctor import examine  # noqa: PLC0415

    findings = examine(settings)
    if as_json:
        print_json([finding.__dict__ for finding in findings])
    else:
        for finding in findings:
            click.echo(f"{finding.level:8} {finding.subject}: {finding.message}")
            if finding.fix:
                click.echo(f"{'':8} {finding.fix}")
    if any(finding.level == "failure" for finding in findings):
        raise SystemExit(1)


@click.command(hidden=True)
@click.pass_obj
def control(settings: Settings) -> None:
    """Run the control plane; `up` does that."""
    from openmwaa.processes.control import run_control  # noqa: PLC0415

    asyncio.run(run_control(settings))


@click.command(hidden=True)
@click.pass_obj
def node(settings: Settings) -> None:
    """Run the host's node agent; `up` does that."""
    from openmwaa.processes.node import run_node  # noqa: PLC0415

    asyncio.run(run_node(settings))
