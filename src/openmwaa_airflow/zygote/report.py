"""What a process has after Airflow was made ready, as JSON: `python -P -m openmwaa_airflow.zygote.report [TEXT]`.

For comparing a forked process with one that was started. `stale` is where TEXT is still found.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import Any

_SETTINGS = (
    *("AIRFLOW_HOME", "DAGS_FOLDER", "PLUGINS_FOLDER", "SQL_ALCHEMY_CONN", "SQL_ALCHEMY_CONN_ASYNC"),
    *("LOG_FORMAT", "SIMPLE_LOG_FORMAT", "LOGGING_LEVEL", "DONOT_MODIFY_HANDLERS", "TIMEZONE"),
    *("LAZY_LOAD_PLUGINS", "LAZY_LOAD_PROVIDERS", "EXECUTE_TASKS_NEW_PYTHON_INTERPRETER"),
    *("COMPRESS_SERIALIZED_DAGS", "HIDE_SENSITIVE_VAR_CONN_FIELDS", "DAEMON_UMASK"),
)
_SHOWN = 20


def main() -> None:
    """Write the report."""
    import airflow  # noqa: PLC0415 - this is what is looked at
    from airflow import configuration, settings  # noqa: PLC0415
    from airflow.cli import cli_parser  # noqa: PLC0415
    from airflow.providers_manager import ProvidersManager  # noqa: PLC0415

    parser = cli_parser.get_parser()
    report = {
        "version": airflow.__version__,
        "modules": sorted(sys.modules),
        "options": _options(configuration.conf),
        "options_of_tasks": _options(_configuration_of_tasks()),
        "settings": {name: repr(getattr(settings, name, None)) for name in _SETTINGS},
        "engine": repr(settings.engine),
        "secrets_backends": [type(one).__name__ for one in configuration.secrets_backend_list],
        "providers": {name: one.version for name, one in ProvidersManager().providers.items()},
        "commands": sorted(parser._subparsers._group_actions[0].choices),
        "interpreter": {
            "argv": list(sys.argv),
            "executable": sys.executable,
            "orig_argv": list(sys.orig_argv),
            "path": list(sys.path),
            "prefix": sys.prefix,
            "main": str(getattr(sys.modules["__main__"].__spec__, "name", None)),
        },
        "process": {"uid": os.getuid(), "groups": os.getgroups(), "umask": _umask(), "cwd": os.getcwd()},
        "variables": dict(os.environ),
    }
    text, sys.argv[1:], sys.orig_argv[:] = "".join(sys.argv[1:]), [], []  # they hold it too
    report["stale"] = _holders(text) if text else []
    json.dump(report, sys.stdout)


def _configuration_of_tasks() -> Any:
    try:
        from airflow.sdk.configuration import conf  # noqa: PLC0415 - not on every version
    except ImportError:
        return None
    return conf


def _options(parser: Any) -> dict[str, dict[str, str]]:
    if parser is None:
        return {}
    shown = parser.as_dict(display_source=False, display_sensitive=True, raw=True)
    return {
        section: {key: str(value) for key, value in options.items()} for section, options in shown.items()
    }


def _umask() -> int:
    former = os.umask(0o077)
    os.umask(former)
    return former


def _holders(text: str) -> list[str]:
    """Return what holds a string with a text in it, of all that modules lead to."""
    seen: set[int] = set()
    found: list[str] = []
    todo: list[tuple[str, Any]] = [
        (name, vars(module)) for name, module in list(sys.modules.items()) if name not in ("sys", "__main__")
    ]
    while todo and len(found) < _SHOWN:
        where, holder = todo.pop()
        if issubclass(type(holder), dict):
            if "__spec__" in holder and "__name__" in holder:
                where = str(holder["__name__"])
            named = [
                (f"{where}.{key}" if isinstance(key, str) else where, value) for key, value in holder.items()
            ]
        else:
            named = [(where, value) for value in gc.get_referents(holder)]
        for name, value in named:
            if issubclass(type(value), str):  # not `isinstance`: that wakes proxies
                if text in value:
                    found.append(f"{name}: {value[:200]}")
            elif id(value) not in seen and gc.is_tracked(value):
                seen.add(id(value))
                todo.append((name[:200], value))
    return found


if __name__ == "__main__":
    main()
