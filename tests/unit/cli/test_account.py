"""Bucket names made from names of environments."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from openmwaa.cli.account import bucket_name

ACCOUNT = "000000000000"
S3_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
names = st.from_regex(r"[a-zA-Z][0-9a-zA-Z_-]{0,79}", fullmatch=True)


def test_a_plain_name_stays_readable() -> None:
    """The example of the documentation."""
    assert bucket_name(ACCOUNT, "demo") == "openmwaa-000000000000-demo"


@given(names)
def test_every_name_gives_a_bucket_that_s3_accepts(name: str) -> None:
    """Letters, digits and hyphens, 3 to 63, no hyphen at an end."""
    assert S3_NAME.fullmatch(bucket_name(ACCOUNT, name))


@given(names, names)
def test_different_names_give_different_buckets(one: str, other: str) -> None:
    """Also where only capitals, underscores or the far end differ."""
    assert (bucket_name(ACCOUNT, one) == bucket_name(ACCOUNT, other)) == (one == other)


def test_close_names_do_not_meet() -> None:
    """The cases that a random search would not find."""
    long = "x" * 70
    close = ("etl", "Etl", "ETL", "e_l", "e-l", long, long + "y", "a-", "a")
    assert len({bucket_name(ACCOUNT, name) for name in close}) == len(close)
