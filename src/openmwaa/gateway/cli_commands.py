"""Commands that the CLI endpoint accepts, and their options that would reach too far. Data only.

Sources: MWAA user guide "Apache Airflow CLI command reference" (mwaa.md 8.3); options as
the versions of `openmwaa.airflow.versions` define them (`tools/cli_options.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True)
class RestrictedOption:
    """An option that is refused, or limited to the DAG folder.

    Attributes:
        names: As Airflow spells it. Abbreviations and `--name=value` are recognised as well.

        refused: Why; None if its value may be a path inside the DAG folder.
    """

    names: tuple[str, ...]
    refused: str | None


@dataclass(frozen=True)
class Command:
    """One supported command.

    Attributes:
        words: What selects it, e.g. `("dags", "list")`.

        since: Oldest version of its generation that supports it.

        restricted: Options that are not free.

        flags: Letters of its short options without a value, needed to read clusters such as `-vS`.
    """

    words: tuple[str, ...]
    since: tuple[int, int]
    restricted: tuple[RestrictedOption, ...] = ()
    flags: str = "hv"

    @property
    def name(self) -> str:
        return " ".join(self.words)


_SUBDIR: Final = RestrictedOption(("-S", "--subdir"), None)
_DAG_FILE: Final = RestrictedOption(
    ("-f", "--dagfile-path"), "DAGs are found by their id: it would read a file outside the DAG folder"
)
_SAVE: Final = RestrictedOption(("-s", "--save"), "it would write a file on the server")
_SAVE_RUN: Final = RestrictedOption(("--save-dagrun",), "it would write a file on the server")
_IMGCAT: Final = RestrictedOption(("--imgcat",), "it needs a terminal")
_IMGCAT_RUN: Final = RestrictedOption(("--imgcat-dagrun",), "it needs a terminal")
_VARIABLES: Final = RestrictedOption(
    ("--env-vars",), "environment variables decide which code runs; set Airflow variables instead"
)
_CONFIG: Final = RestrictedOption(("--cfg-path",), "it would read and remove a file on the server")
_PICKLE: Final = RestrictedOption(("-p", "--pickle"), "it is for Airflow itself")
_SHIP: Final = RestrictedOption(("--ship-dag",), "it is for Airflow itself")
_DEBUGGER: Final = RestrictedOption(("-m", "--post-mortem"), "it needs a terminal")


def _table(*commands: Command) -> Mapping[tuple[str, ...], Command]:
    return MappingProxyType({command.words: command for command in commands})


def _group(group: str, since: tuple[int, int], *names: str) -> tuple[Command, ...]:
    return tuple(Command((group, name), since) for name in names)


_2_0: Final = (2, 0)
_3_0: Final = (3, 0)

COMMANDS: Final[Mapping[int, Mapping[tuple[str, ...], Command]]] = MappingProxyType(
    {
        2: _table(
            Command(("cheat-sheet",), _2_0),
            Command(("version",), _2_0),
            *_group("connections", _2_0, "add", "delete"),
            Command(("dags", "backfill"), (2, 2), (_SUBDIR,), "BIhilmnvxy"),
            Command(("dags", "delete"), _2_0, (), "hvy"),
            Command(("dags", "list"), _2_0, (_SUBDIR,)),
            Command(("dags", "list-import-errors"), (2, 6), (_SUBDIR,)),
            *_group("dags", _2_0, "list-jobs", "list-runs"),
            Command(("dags", "next-execution"), _2_0, (_SUBDIR,)),
            Command(("dags", "pause"), _2_0, (_SUBDIR,), "hvy"),
            Command(("dags", "report"), _2_0, (_SUBDIR,)),
            Command(("dags", "reserialize"), (2, 4), (_SUBDIR,)),
            Command(("dags", "show"), _2_0, (_SUBDIR, _SAVE, _IMGCAT)),
            Command(("dags", "state"), _2_0, (_SUBDIR,)),
            Command(("dags", "test"), _2_0, (_SUBDIR, _SAVE_RUN, _IMGCAT_RUN)),
            Command(("dags", "trigger"), _2_0, (_SUBDIR,)),
            Command(("dags", "unpause"), _2_0, (_SUBDIR,), "hvy"),
            Command(("db", "clean"), (2, 4), (), "hvy"),
            *_group("providers", _2_0, "behaviours", "get", "hooks", "links", "list", "widgets"),
            *_group("providers", (2, 8), "notifications"),
            *_group("providers", (2, 6), "secrets"),
            *_group("providers", (2, 7), "triggerer", "triggers"),
            *_group("roles", (2, 6), "add-perms", "create", "del-perms"),
            *_group("roles", _2_0, "list"),
            Command(("tasks", "clear"), _2_0, (_SUBDIR,), "RXdfhruvxy"),
            Command(("tasks", "failed-deps"), _2_0, (_SUBDIR,)),
            Command(("tasks", "list"), _2_0, (_SUBDIR,), "htv"),
            Command(("tasks", "render"), _2_0, (_SUBDIR,)),
            Command(("tasks", "run"), _2_0, (_SUBDIR, _CONFIG, _PICKLE, _SHIP), "AINfhilmrv"),
            Command(("tasks", "state"), _2_0, (_SUBDIR,)),
            Command(("tasks", "states-for-dag-run"), _2_0),
            Command(("tasks", "test"), _2_0, (_SUBDIR, _VARIABLES, _DEBUGGER), "hmnv"),
            *_group("variables", _2_0, "delete", "get", "list", "set"),
        ),
        3: _table(
            *_group("assets", _3_0, "details", "list", "materialize"),
            Command(("backfill", "create"), _3_0),
            Command(("cheat-sheet",), _3_0),
            Command(("version",), _3_0),
            *_group("connections", _3_0, "add", "delete"),
            *_group("dags", _3_0, "delete", "list", "list-import-errors", "list-jobs", "list-runs"),
            *_group("dags", _3_0, "next-execution", "pause", "report", "reserialize"),
            Command(("dags", "show"), _3_0, (_SAVE, _IMGCAT)),
            Command(("dags", "state"), _3_0),
            Command(("dags", "test"), _3_0, (_DAG_FILE, _SAVE_RUN, _IMGCAT_RUN)),
            *_group("dags", _3_0, "trigger", "unpause"),
            Command(("db", "clean"), _3_0, (), "hvy"),
            *_group("providers", _3_0, "behaviours", "get", "hooks", "links", "list", "notifications"),
            *_group("providers", _3_0, "secrets", "triggerer", "triggers", "widgets"),
            *_group("roles", _3_0, "add-perms", "create", "del-perms", "list"),
            *_group("tasks", _3_0, "clear", "failed-deps", "list", "render", "state", "states-for-dag-run"),
            Command(("tasks", "test"), _3_0, (_VARIABLES, _DEBUGGER), "hmv"),
            *_group("variables", _3_0, "delete", "get", "list", "set"),
        ),
    }
)
"""Command by its words, by generation of Airflow.

`providers triggerer` is MWAA's name for what Airflow spells `providers triggers`.
"""
