"""Names under which a caller appears."""

from __future__ import annotations

import re

import pytest

from openmwaa.identity.policy import FULL_ACCESS
from openmwaa.identity.principals import Principal, new_access_key


def principal(resource: str) -> Principal:
    service = "sts" if resource.startswith("assumed-role") else "iam"
    return Principal(f"arn:aws:{service}::123456789012:{resource}", FULL_ACCESS, "AKIAEXAMPLE")


@pytest.mark.parametrize(
    ("resource", "iam", "airflow"),
    [
        ("user/jane", "user/jane", "user/jane"),
        ("user/division/team/jane", "user/jane", "user/jane"),
        (
            "assumed-role/Engineers/jane@example.com",
            "assumed-role/Engineers/jane@example.com",
            "assumed-role/Engineers",
        ),
        ("root", "root", "root"),
    ],
)
def test_identities(resource: str, iam: str, airflow: str) -> None:
    caller = principal(resource)
    assert caller.account == "123456789012"
    assert caller.iam_identity == iam
    assert caller.airflow_identity == airflow


def test_a_long_name_becomes_a_stable_hash_of_at_most_64() -> None:
    long, other = principal("user/" + "x" * 64), principal("user/" + "y" * 64)
    assert len(long.airflow_identity) == 64
    assert long.airflow_identity == principal("user/" + "x" * 64).airflow_identity != other.airflow_identity
    assert principal("user/" + "x" * 59).airflow_identity == "user/" + "x" * 59


def test_unique_ids_have_iams_form() -> None:
    assert re.fullmatch(r"AIDA[A-Z2-7]{17}", principal("user/jane").user_id)
    assert re.fullmatch(r"AROA[A-Z2-7]{17}:me", principal("assumed-role/R/me").user_id)
    assert (
        principal("assumed-role/R/a").user_id.split(":")[0]
        == principal("assumed-role/R/b").user_id.split(":")[0]
    )
    assert principal("root").user_id == "123456789012"


def test_new_keys_have_awss_form_and_differ() -> None:
    one, two = (new_access_key("arn:aws:iam::123456789012:user/a", FULL_ACCESS) for _ in range(2))
    assert re.fullmatch(r"AKIA[A-Z2-7]{16}", one.id)
    assert re.fullmatch(r"[A-Za-z0-9+/]{40}", one.secret.reveal())
    assert one.id != two.id
    assert one.secret != two.secret
