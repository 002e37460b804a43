"""What each supported Airflow version knows of its configuration, as data.

`tools/known_options.py` makes the files in `known_options/` by asking an installed runtime:
core and the providers in the lock. An option whose file entry is missing is not read by that
version, unless a package of the user reads it.

Source: Airflow's configuration templates, the parser's tables of deprecated names and closed
sets of values, `airflow config lint`, and the calls in Airflow's code that read options.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final, Literal

from openmwaa.airflow.versions import VERSIONS

DATA: Final = Path(__file__).parent / "known_options"

OptionType = Literal["string", "integer", "float", "boolean", "json"]


@dataclass(frozen=True)
class KnownOption:
    """One option as a version reads it.

    Attributes:
        type: What its value must be parseable as.

        default: As the template has it: a text for `str.format`; None where there is none.

        sensitive: Airflow also reads `<key>_cmd` and `<key>_secret`.

        values: The only values that are accepted; empty if any is.
    """

    type: OptionType = "string"
    default: str | None = None
    sensitive: bool = False
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class KnownOptions:
    """The options of one version; every name is `section.key` in lower case.

    Attributes:
        options: All that is read by that name.

        deprecated: Old name that is still read -> its new name.

        renamed: Old name that is not read any more -> its new name.

        removed: Name that went away -> what to do instead, possibly empty.

        open_sections: Sections whose keys are handed on to a library: any key may be right.

        provider_sections: Sections of providers: another release of one may know other keys.

        integral_floats: `5.0` is an integer.
    """

    version: str
    options: Mapping[str, KnownOption]
    deprecated: Mapping[str, str]
    renamed: Mapping[str, str]
    removed: Mapping[str, str]
    open_sections: frozenset[str]
    provider_sections: frozenset[str]
    integral_floats: bool

    @cached_property
    def sections(self) -> Mapping[str, tuple[str, ...]]:
        """Section -> its keys."""
        found: dict[str, list[str]] = {}
        for option in self.options:
            section, _, key = option.partition(".")
            found.setdefault(section, []).append(key)
        return {section: tuple(keys) for section, keys in found.items()}

    @cached_property
    def former_sections(self) -> frozenset[str]:
        """Sections of names that are not read any more, without those that still have keys."""
        names = (*self.deprecated, *self.renamed, *self.removed)
        return frozenset(name.partition(".")[0] for name in names) - self.sections.keys()

    def current(self, option: str) -> str:
        """Return the name that replaced a deprecated one; other names as they are."""
        return self.deprecated.get(option, option)

    def find(self, option: str) -> KnownOption | None:
        """Return what is known of an option by any name that is read; None if none is.

        The value of `<key>_cmd` and `<key>_secret` is a text, whatever the option holds.
        """
        known = self.options.get(self.current(option))
        if known is not None:
            return known
        for suffix in ("_cmd", "_secret"):
            plain = option.removesuffix(suffix)
            if plain != option and (known := self.options.get(self.current(plain))) and known.sensitive:
                return KnownOption(sensitive=True)
        return None


@cache
def known_options(version: str) -> KnownOptions:
    """Return what a version knows.

    Raises:
        FileNotFoundError: `tools/known_options.py` was not run for it.
    """
    data: dict[str, Any] = json.loads((DATA / f"{version}.json").read_text())
    return KnownOptions(
        version=version,
        options={
            name: KnownOption(**{**facts, "values": tuple(facts.get("values", ()))})
            for name, facts in data["options"].items()
        },
        deprecated=data["deprecated"],
        renamed=data["renamed"],
        removed=data["removed"],
        open_sections=frozenset(data["open_sections"]),
        provider_sections=frozenset(data["provider_sections"]),
        integral_floats=data["integral_floats"],
    )


@cache
def retired_sections(version: str) -> frozenset[str]:
    """Return Airflow's own sections that this version has left behind, e.g. `webserver` in 3.x."""
    own = (frozenset(other.sections) - other.provider_sections for other in other_versions(version))
    return known_options(version).former_sections & frozenset().union(*own)


def other_versions(version: str) -> list[KnownOptions]:
    """Return what the other versions know, newest first."""
    return [known_options(name) for name in reversed(list(VERSIONS)) if name != version]
