"""Values of any shape of a service model, for property-based tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StringShape, StructureShape
from hypothesis import strategies as st

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def values(shape: Shape) -> st.SearchStrategy[Any]:
    """Return values whose types fit; lengths and patterns need not."""
    if isinstance(shape, StructureShape):
        if shape.is_document_type:
            return st.dictionaries(TEXT, JSON, max_size=3)
        members = {name: values(member) for name, member in shape.members.items()}
        needed = {name: values for name, values in members.items() if name in shape.required_members}
        rest = {name: values for name, values in members.items() if name not in needed}
        return st.fixed_dictionaries(needed, optional=rest)
    if isinstance(shape, ListShape):
        return st.lists(values(shape.member), min_size=1, max_size=3)
    if isinstance(shape, MapShape):
        return st.dictionaries(values(shape.key), values(shape.value), max_size=3)
    if isinstance(shape, StringShape):
        return st.sampled_from(shape.enum) if shape.enum else TEXT
    scalars: dict[str, st.SearchStrategy[Any]] = {
        "integer": st.integers(-(2**31), 2**31 - 1),
        "double": st.floats(allow_nan=False, allow_infinity=False),
        "boolean": st.booleans(),
        "timestamp": st.integers(0, 4_000_000_000).map(lambda s: datetime.fromtimestamp(s, UTC)),
    }
    return scalars[shape.type_name]
