"""Checks of input against the constraints in a service's model, in AWS's words.

`2 validation errors detected: Value '…' at 'maxWorkers' failed to satisfy constraint: Member
must have value greater than or equal to 1; …`. Collections whose entries break a constraint
are reported as a whole, with all constraints of an entry, as AWS's framework does.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, Final

from botocore.model import ListShape, MapShape, Shape, StringShape, StructureShape

from openmwaa.api.errors import ServiceError

_MEASURED: Final = ("string", "list", "map", "blob")
_LONGEST_ECHO: Final = 1024
_UNICODE_CLASS: Final = re.compile(r"\\p\{([LNZ])\}")
_FIRST_PLANES: Final = 0x40000


def validate(shape: Shape | None, parameters: Mapping[str, Any]) -> None:
    """Check the input members of an operation.

    Args:
        shape: Input shape of the operation; None if it has no input.

        parameters: Parsed input; types are right.

    Raises:
        ServiceError: ValidationException that lists everything that is wrong.
    """
    if shape is None:
        return
    problems = list(_problems(shape, parameters, ""))
    if problems:
        plural = "error" if len(problems) == 1 else "errors"
        raise ServiceError(
            "ValidationException", f"{len(problems)} validation {plural} detected: {'; '.join(problems)}"
        )


def _problems(shape: Shape, value: Any, path: str) -> Iterator[str]:
    for constraint in _broken(shape, value):
        yield _sentence(shape, value, path, constraint)
    if isinstance(shape, StructureShape):
        yield from _problems_in_structure(shape, value, path)
    elif isinstance(shape, ListShape):
        yield from _problems_in_list(shape, value, path)
    elif isinstance(shape, MapShape):
        yield from _problems_in_map(shape, value, path)


def _problems_in_structure(shape: StructureShape, value: Any, path: str) -> Iterator[str]:
    if shape.is_document_type:
        return
    for name, member in shape.members.items():
        below = _join(path, name[0].lower() + name[1:])
        if name in value:
            yield from _problems(member, value[name], below)
        elif name in shape.required_members:
            yield f"Value null at '{below}' failed to satisfy constraint: Member must not be null"


def _problems_in_list(shape: ListShape, value: Sequence[Any], path: str) -> Iterator[str]:
    if _is_scalar(shape.member):
        if any(_broken(shape.member, entry) for entry in value):
            yield _sentence(shape, value, path, f"Member must satisfy constraint: {_listed(shape.member)}")
        return
    for number, entry in enumerate(value, start=1):
        yield from _problems(shape.member, entry, _join(path, f"{number}.member"))


def _problems_in_map(shape: MapShape, value: Mapping[str, Any], path: str) -> Iterator[str]:
    if any(_broken(shape.key, key) for key in value):
        yield _sentence(shape, value, path, f"Map keys must satisfy constraint: {_listed(shape.key)}")
    if _is_scalar(shape.value):
        if any(_broken(shape.value, entry) for entry in value.values()):
            yield _sentence(shape, value, path, f"Map value must satisfy constraint: {_listed(shape.value)}")
        return
    for key, entry in value.items():
        yield from _problems(shape.value, entry, _join(path, f"{key}.member"))


def _constraints(shape: Shape) -> Iterator[tuple[str, str, Any]]:
    """Yield each constraint of a shape: trait, AWS's sentence, limit."""
    traits = shape.metadata
    measure = "length" if shape.type_name in _MEASURED else "value"
    if "max" in traits:
        yield "max", f"Member must have {measure} less than or equal to {traits['max']}", traits["max"]
    if "min" in traits:
        yield "min", f"Member must have {measure} greater than or equal to {traits['min']}", traits["min"]
    if "pattern" in traits:
        sentence = f"Member must satisfy regular expression pattern: {traits['pattern']}"
        yield "pattern", sentence, traits["pattern"]
    if isinstance(shape, StringShape) and shape.enum:
        yield "enum", f"Member must satisfy enum value set: [{', '.join(shape.enum)}]", shape.enum


def _broken(shape: Shape, value: Any) -> list[str]:
    size = len(value) if shape.type_name in _MEASURED else value
    broken: list[str] = []
    for trait, sentence, limit in _constraints(shape):
        if not _holds(trait, limit, value, size):
            broken.append(sentence)
            if trait == "max":
                break  # a pattern on a text of any length could take for ever
    return broken


def _holds(trait: str, limit: Any, value: Any, size: Any) -> bool:
    match trait:
        case "max":
            return bool(size <= limit)
        case "min":
            return bool(size >= limit)
        case "pattern":
            return _compile(limit).fullmatch(value) is not None
        case _:
            return value in limit


def _listed(shape: Shape) -> str:
    return f"[{', '.join(sentence for _, sentence, _ in _constraints(shape))}]"


def _sentence(shape: Shape, value: Any, path: str, constraint: str) -> str:
    shown = "" if _is_sensitive(shape) else f" '{_render(value)}'"
    return f"Value{shown} at '{path}' failed to satisfy constraint: {constraint}"


def _is_sensitive(shape: Shape) -> bool:
    parts = [shape]
    if isinstance(shape, MapShape):
        parts += [shape.key, shape.value]
    if isinstance(shape, ListShape):
        parts.append(shape.member)
    return any(part.metadata.get("sensitive", False) for part in parts)


def _is_scalar(shape: Shape) -> bool:
    return not isinstance(shape, StructureShape | ListShape | MapShape)


def _render(value: Any) -> str:
    """Write a value as Java's `toString` does, which is what AWS shows."""
    if isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}={_render(entry)}" for key, entry in value.items()) + "}"
    elif isinstance(value, list):
        text = "[" + ", ".join(_render(entry) for entry in value) + "]"
    elif isinstance(value, bool):
        text = str(value).lower()
    else:
        text = str(value)
    return text if len(text) <= _LONGEST_ECHO else f"{text[:_LONGEST_ECHO]}…"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


@lru_cache(maxsize=256)
def _compile(pattern: str) -> re.Pattern[str]:
    r"""Return a pattern of the model for Python: Java's classes are ASCII, and `\p{…}` is spelled out."""
    return re.compile(_UNICODE_CLASS.sub(lambda match: _ranges(match[1]), pattern), re.ASCII)


@cache
def _ranges(category: str) -> str:
    """Return the characters of a Unicode category, L, N or Z, as ranges inside a character class."""
    found = re.finditer(f"{category}+", _categories())
    return "".join(f"\\U{match.start():08x}-\\U{match.end() - 1:08x}" for match in found)


@cache
def _categories() -> str:
    """Return the first letter of every character's category; the planes above hold none that we look for."""
    return "".join(unicodedata.category(chr(point))[0] for point in range(_FIRST_PLANES))
