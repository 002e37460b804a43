"""The id of a layer."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from openmwaa.environments.layer import layer_id

DIGESTS = st.one_of(st.none(), st.text("0123456789abcdef", min_size=64, max_size=64))


def test_without_files_there_is_no_layer() -> None:
    assert layer_id("3.3.1-abc", None, None, None) is None


def test_every_file_and_its_role_counts() -> None:
    """The same content as plugins and as requirements is not the same layer."""
    digests = [None, "a" * 64, "b" * 64]
    ids = [layer_id("3.3.1-abc", *three) for three in product(digests, repeat=3)]
    assert len(set(ids)) == len(ids)
    assert layer_id("3.3.1-abc", "a" * 64, None, None) != layer_id("3.3.1-abd", "a" * 64, None, None)


@given(DIGESTS, DIGESTS, DIGESTS)
def test_it_is_a_safe_name_below_the_runtime(
    requirements: str | None, plugins: str | None, startup: str | None
) -> None:
    made = layer_id("3.3.1-abc", requirements, plugins, startup)
    assert made == layer_id("3.3.1-abc", requirements, plugins, startup)
    if made is not None:
        runtime, digest = made.rsplit("-", 1)
        assert runtime == "3.3.1-abc"
        assert len(digest) == 12
        assert digest.isalnum()
