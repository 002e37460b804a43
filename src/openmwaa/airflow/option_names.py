"""What a user may have meant by an option that a version does not read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from openmwaa.airflow.known_options import KnownOptions, other_versions

_MAX_SUGGESTIONS = 3
_SIMILAR = 0.75
_SHORT = 8
_SHORTEST_MISSPELT_SECTION = 4


def successor(option: str, known: KnownOptions) -> str | None:
    """Return the name under which a version reads what another version, older or newer, calls `option`."""
    if option in known.renamed:
        return known.renamed[option]
    for other in other_versions(known.version):
        earlier = [
            old
            for names in (other.deprecated, other.renamed)
            for old, new in names.items()
            if new == option and old in known.options
        ]
        if earlier:
            return max(earlier, key=lambda name: _similarity(name, option))
        later = other.current(option)
        if later != option and later in known.options:
            return later
    return None


def nearest(option: str, known: KnownOptions) -> list[str]:
    """Return up to three options of a version that look like this one, best first.

    The same key in another section comes first, then keys of the same section, then the rest. What
    looks like a former name stands for its present one.
    """
    section, _, key = option.partition(".")
    moved = [f"{other}.{key}" for other, keys in known.sections.items() if key in keys]
    former = [*known.deprecated, *known.renamed]
    same_section = {name for name in (*known.options, *former) if name.partition(".")[0] == section}
    similar = sorted(
        (name for name in same_section if _is_similar(key, name.partition(".")[2])),
        key=lambda name: (edits(option, name), -_similarity(option, name), name),
    )
    present = [known.renamed.get(name, known.current(name)) for name in similar]
    found = list(dict.fromkeys([*moved, *present]))
    if not found:
        keys = sorted({name.partition(".")[2] for name in known.options})
        like = difflib.get_close_matches(key, keys, n=1, cutoff=0.85)
        found = [f"{other}.{name}" for name in like for other, keys in known.sections.items() if name in keys]
    return found[:_MAX_SUGGESTIONS]


def misspelt_section(section: str, known: Iterable[str]) -> str | None:
    """Return the known section that an unknown one is one edit away from, or two if it is long."""
    if len(section) < _SHORTEST_MISSPELT_SECTION:
        return None  # every short word is near another
    allowed = 1 if len(section) < 2 * _SHORTEST_MISSPELT_SECTION else 2
    near = [(edits(section, name), name) for name in known if abs(len(name) - len(section)) <= allowed]
    distance, name = min(near, default=(allowed + 1, ""))
    return name if 0 < distance <= allowed else None


def edits(one: str, other: str) -> int:
    """Return how many letters must be added, removed, replaced or swapped with a neighbour."""
    before: list[int] = []
    last = list(range(len(other) + 1))
    for row, letter in enumerate(one, 1):
        current = [row]
        for column, wanted in enumerate(other, 1):
            cost = min(last[column] + 1, current[-1] + 1, last[column - 1] + (letter != wanted))
            if row > 1 and column > 1 and letter == other[column - 2] and one[row - 2] == wanted:
                cost = min(cost, before[column - 2] + 1)
            current.append(cost)
        before, last = last, current
    return last[-1]


def _is_similar(one: str, other: str) -> bool:
    matcher = difflib.SequenceMatcher(None, one, other)
    if matcher.real_quick_ratio() < _SIMILAR or matcher.quick_ratio() < _SIMILAR:
        return len(one) <= _SHORT and edits(one, other) == 1
    return edits(one, other) <= 2 or matcher.ratio() >= _SIMILAR


def _similarity(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()
