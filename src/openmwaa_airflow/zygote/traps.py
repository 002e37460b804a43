"""What is known of reads at import: measured and then looked up in the source, per module.

A value that a module keeps is listed with the part of it that counts; everything else must be
equal. Whoever adds an entry has read the module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def _scheme(value: Any) -> str:
    return str(value).partition(":")[0]


def _path(value: Any) -> str:
    return str(value).partition("://")[2].partition("/")[2].rstrip("/")


OPTIONS_OF: Mapping[tuple[str, str, str], Callable[[Any], Any]] = {
    # Which collation ids have: that depends on the kind of database alone.
    ("airflow.models.base", "database", "sql_alchemy_conn"): _scheme,
    # Whether names of assets must be ASCII: that depends on the kind of database alone.
    ("airflow.sdk.definitions.asset", "database", "sql_alchemy_conn"): _scheme,
    # What it keeps is the path below which it serves (`COPIES` has the rest).
    ("airflow.api_fastapi.app", "api", "base_url"): _path,
}
"""(module, section, key) -> what of the value it keeps."""

COPIES: tuple[tuple[str, str, str, str], ...] = (
    ("airflow.api_fastapi.app", "API_BASE_URL", "api", "base_url"),
)
"""(module, name, section, key): an address with a slash at its end, to be set anew."""

VARIABLES_OF_LIBRARIES = (
    "GLIBC_TUNABLES",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "LD_*",
    "MALLOC_*",
    "MKL_*",
    "OMP_*",
    "OPENBLAS_*",
    "OPENSSL_*",
    "PYTHON*",
    # These are looked for among all variables when the library is imported.
    "ARROW_*",
    "FSSPEC_*",
    "GRPC_*",
    "NUMEXPR_*",
)
"""Read by the interpreter or by libraries without our notice."""

LOOK_AT_ALL = frozenset({"fsspec.config", "platform", "wsgiref.handlers"})
"""Modules that look at every variable: for names below, to start a program, for a server that is not used."""

VARIABLES_ALLOWED = (
    "_AIRFLOW__AS_LIBRARY",  # keeps the zygote itself from connecting anywhere; `takeover` does what it skips
    "OPENMWAA_*",  # ours
    "PATH",  # looked up in anew by whoever starts a program
    "SPT_NOENV",
    "TZ",  # `child` sets the time zone
)
"""May differ although they are read."""
