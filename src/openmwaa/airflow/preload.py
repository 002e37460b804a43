"""What a process must be told to import Airflow for many environments of a runtime. Pure.

Options and variables are those of an environment whose user chose nothing, but for the options that
Airflow keeps from its import: environments that chose those alike share a process. What belongs to
one environment is replaced by a value that works nowhere: if Airflow kept one, it would be noticed.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from importlib.resources import files
from typing import Final

from openmwaa.airflow.known_options import known_options
from openmwaa.airflow.options import settings_of, settings_of_all, variable
from openmwaa.airflow.secrets import METADATA_URL, RESULTS_URL
from openmwaa.airflow.versions import AirflowVersion
from openmwaa.environments.manifest import Placement, Preload
from openmwaa.environments.spec import EnvironmentSpec

PRELOADED: Final = frozenset({"2.10.3", "2.11.2", "3.0.6", "3.2.1", "3.3.1"})
"""Versions whose modules are recorded (`openmwaa_airflow/zygote/lists`) and whose forked processes were
compared with started ones (`tests/integration/test_zygotes.py`)."""

_HARMLESS_TYPES: Final = ("boolean", "integer", "float")
_HARMLESS: Final = frozenset({"core.default_timezone", "operators.default_owner"})
"""Options with any text for a value that is no name of code and no path."""

_START_SOMETHING: Final = frozenset({"core.unit_test_mode", "sentry.sentry_on"})

_NOWHERE: Final = "preloaded.invalid"


def process_variables(version: str, placement: Placement, *, region: str) -> dict[str, str]:
    """Return the variables of every process of every environment of a version, without options."""
    return {
        "AIRFLOW_HOME": str(placement.airflow_home),
        # An empty one, which nobody can write to. Where it is missing, Airflow writes its defaults there
        # and believes them ever after: those of another version would break it (the default XCom
        # backend of 3 is no module on 2), and each start takes 0.3 s of CPU time more.
        "AIRFLOW_CONFIG": str(placement.plug_in_path / "openmwaa_airflow" / "airflow.cfg"),
        "HOME": str(placement.airflow_home),
        "PYTHONPATH": str(placement.plug_in_path),
        "PYTHONUNBUFFERED": "1",
        "LANG": "C.UTF-8",
        # The proxy that TLS ends at connects from here. Only web servers need it, but gunicorn reads
        # it when it is imported, wherever that is.
        "FORWARDED_ALLOW_IPS": "127.0.0.1",
        "LOGNAME": "airflow",  # a user id without a name has no other
        "USER": "airflow",
        # Also what the real service sets (mwaa.md 5.5, 5.6).
        "AIRFLOW_VERSION": version,
        "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
        "AWS_EXECUTION_ENV": f"Amazon_MWAA_{version.replace('.', '')}",
        "SQLALCHEMY_SILENCE_UBER_WARNING": "1",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
    }


def build_preload(
    spec: EnvironmentSpec, version: AirflowVersion, placement: Placement, *, region: str
) -> Preload | None:
    """Return what components of an environment may be forked from; None: they are started as programs.

    Args:
        spec: Gives class and options.

        version: The version.

        placement: Of any environment; those that differ in more than address, broker and layer get
            different answers.

        region: AWS Region of the service.
    """
    if version.version not in PRELOADED:
        return None
    neutral = dataclasses.replace(placement, address=_NOWHERE, broker_url=f"redis://{_NOWHERE}/0")
    nowhere = f"https://{_NOWHERE}"
    early = options_read_by_imports(version.version)
    chosen = settings_of(spec, version, neutral, web_url=nowhere)
    settings = settings_of_all(version, neutral, web_url=nowhere) | {
        option: value for option, value in chosen.items() if option in early
    }
    return Preload(
        argv=("python", "-P", "-m", "openmwaa_airflow.zygote"),
        variables={
            **process_variables(version.version, placement, region=region),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            **{variable(option): value for option, value in settings.items()},
            METADATA_URL: f"postgresql+psycopg2://{_NOWHERE}/none",
            RESULTS_URL: f"db+postgresql+psycopg2://{_NOWHERE}/none",
        },
    )


@cache
def options_read_by_imports(version: str) -> frozenset[str]:
    """Return the options that may differ between preloaded processes: what imports keep, and harmless.

    Modules are imported as root, so no option counts whose value may name code or a file. Who sets
    one of those has components that are started as programs.
    """
    recorded = files("openmwaa_airflow.zygote").joinpath("lists", f"{version}.options.txt")
    known = known_options(version)
    return frozenset(
        option
        for option in map(known.current, recorded.read_text().splitlines())
        if option not in _START_SOMETHING
        and (facts := known.options.get(option))
        and (facts.type in _HARMLESS_TYPES or facts.values or option in _HARMLESS)
    )
