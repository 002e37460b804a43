"""IAM's rules, on the policies that MWAA's user guide shows and on the corners of the language."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmwaa.identity.policy import AIRFLOW_ROLES, FULL_ACCESS, airflow_role, authorize

ALPHA = "arn:aws:airflow:us-east-1:000000000000:environment/alpha"
BETA = "arn:aws:airflow:us-east-1:000000000000:environment/beta"
WEB = "airflow:CreateWebLoginToken"


def allow(action: Any = "airflow:*", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: Any = "airflow:*", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {**allow(action, resource, **more), "Effect": "Deny"}


def allowed(
    *statements: dict[str, Any], action: str = "airflow:GetEnvironment", resource: str = ALPHA
) -> bool:
    return authorize({"Version": "2012-10-17", "Statement": list(statements)}, action, resource).allowed


def test_nothing_is_allowed_by_default() -> None:
    decision = authorize({"Statement": []}, "airflow:GetEnvironment", ALPHA)
    assert not decision.allowed
    assert decision.reason == "because no identity-based policy allows the airflow:GetEnvironment action"


def test_the_administrator_may_do_everything() -> None:
    assert authorize(FULL_ACCESS, "airflow:ListEnvironments", "*").allowed
    assert authorize(FULL_ACCESS, "airflow:DeleteEnvironment", ALPHA).allowed


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("airflow:GetEnvironment", True),
        ("AIRFLOW:getenvironment", True),
        ("airflow:Get*", True),
        ("airflow:G?tEnvironment", True),
        ("*", True),
        ("a*", True),
        ("airflow:List*", False),
        ("airflow:GetEnvironmen", False),
        ("airflow.GetEnvironment", False),
        ("airflow:G?etEnvironment", False),
    ],
)
def test_actions_have_wildcards_and_no_case(pattern: str, matches: bool) -> None:
    assert allowed(allow(pattern)) is matches


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        (ALPHA, True),
        ("arn:aws:airflow:*:*:environment/al*", True),
        ("arn:aws:airflow:us-east-1:000000000000:environment/?lpha", True),
        ("arn:aws:airflow:us-east-1:000000000000:*", True),
        ("arn:aws:airflow", True),
        (ALPHA.upper(), False),
        (BETA, False),
        ("arn:aws:airflow:*", True),
        ("arn:*:environment/alpha", False),
        ("arn:aws:airflow:us-east-1:111111111111:environment/alpha", False),
        ("arn:aws:airflow:us-east-1:000000000000:environment/alph", False),
        ("", False),
    ],
)
def test_resources_match_part_by_part(pattern: str, matches: bool) -> None:
    assert allowed(allow(resource=pattern)) is matches


def test_an_operation_without_resource_needs_a_star() -> None:
    assert allowed(allow(), action="airflow:ListEnvironments", resource="*")
    assert not allowed(
        allow(resource="arn:aws:airflow:*:*:*"), action="airflow:ListEnvironments", resource="*"
    )


def test_an_explicit_deny_wins_in_any_order() -> None:
    assert not allowed(allow(), deny("airflow:Get*", ALPHA))
    assert not allowed(deny("airflow:Get*", ALPHA), allow())
    assert allowed(allow(), deny("airflow:Get*", BETA))
    decision = authorize({"Statement": [allow(), deny()]}, "airflow:GetEnvironment", ALPHA)
    assert decision.reason == "with an explicit deny in an identity-based policy"


def test_not_action_and_not_resource() -> None:
    assert allowed({"Effect": "Allow", "NotAction": "airflow:Delete*", "Resource": "*"})
    assert not allowed({"Effect": "Allow", "NotAction": ["airflow:Get*", "s3:*"], "Resource": "*"})
    assert allowed({"Effect": "Allow", "Action": "*", "NotResource": BETA})
    assert not allowed({"Effect": "Allow", "Action": "*", "NotResource": [BETA, ALPHA]})
    assert not allowed(allow(), {"Effect": "Deny", "Action": "*", "NotResource": BETA})


def test_a_condition_grants_nothing_and_says_so() -> None:
    conditional = allow(Condition={"StringEquals": {"aws:ResourceTag/Team": "data"}})
    decision = authorize({"Statement": [conditional]}, "airflow:GetEnvironment", ALPHA)
    assert not decision.allowed
    assert "statement 1 has a Condition, which is not supported" in decision.reason
    assert allowed(conditional, allow())  # another statement grants it anyway


def test_a_condition_on_a_deny_denies() -> None:
    conditional = deny("airflow:Get*", Condition={"Bool": {"aws:SecureTransport": "false"}})
    decision = authorize({"Statement": [allow(), conditional]}, "airflow:GetEnvironment", ALPHA)
    assert not decision.allowed
    assert "Condition" in decision.reason
    assert allowed(allow(), conditional, action="airflow:ListEnvironments", resource="*")


def test_a_policy_variable_grants_nothing_and_denies() -> None:
    own = "arn:aws:airflow:*:*:environment/${aws:username}-*"
    assert not allowed(allow(resource=own))
    assert not allowed(allow(), deny(resource=own))
    assert not allowed({"Effect": "Allow", "Action": "*", "NotResource": own})


@pytest.mark.parametrize(
    "policy",
    [
        {},
        {"Statement": "all"},
        {"Statement": [1]},
        {"Statement": [{"Effect": "allow", "Action": "*", "Resource": "*"}]},
        {"Statement": [{"Effect": "Allow", "Action": "*"}]},
        {"Statement": [{"Effect": "Allow", "Resource": "*"}]},
        {"Statement": [{"Effect": "Allow", "Action": "*", "NotAction": "*", "Resource": "*"}]},
        {"Statement": [{"Effect": "Allow", "Action": [], "Resource": "*"}]},
        {"Statement": [{"Effect": "Allow", "Action": [1], "Resource": "*"}]},
        {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*", "Principal": "*"}]},
        {"Statement": [allow(), {"Effect": "Deny"}]},
    ],
)
def test_an_invalid_policy_denies_everything(policy: dict[str, Any]) -> None:
    decision = authorize(policy, "airflow:GetEnvironment", ALPHA)
    assert not decision.allowed
    assert "not valid" in decision.reason


def role(*statements: dict[str, Any], action: str = WEB, environment: str = "alpha") -> str | None:
    return airflow_role(
        {"Statement": list(statements)},
        action,
        region="us-east-1",
        account="000000000000",
        environment=environment,
    )


def roles_of(environment: str, name: str) -> str:
    return f"arn:aws:airflow:us-east-1:000000000000:role/{environment}/{name}"


def test_the_highest_granted_role_counts() -> None:
    assert role(allow(WEB, roles_of("alpha", "*"))) == "Admin"
    assert role(allow(WEB, [roles_of("alpha", "Viewer"), roles_of("alpha", "Op")])) == "Op"
    assert role(allow(WEB, roles_of("alpha", "*")), deny(WEB, roles_of("*", "Admin"))) == "Op"
    assert role(allow(WEB, roles_of("alpha", "Public"))) == "Public"


def test_a_role_is_for_one_environment_and_one_action() -> None:
    grant = allow(WEB, roles_of("alpha", "User"))
    assert role(grant, environment="beta") is None
    assert role(grant, action="airflow:InvokeRestApi") is None
    assert role(allow(WEB, roles_of("alpha", "DataEngineer"))) is None
    assert role(allow(WEB, ALPHA)) is None


@given(
    granted=st.sets(st.sampled_from(AIRFLOW_ROLES)),
    denied=st.sets(st.sampled_from(AIRFLOW_ROLES)),
)
def test_roles_left_over_after_denials(granted: set[str], denied: set[str]) -> None:
    statements = [allow(WEB, roles_of("alpha", name)) for name in granted]
    statements += [deny(WEB, roles_of("alpha", name)) for name in denied]
    left = [name for name in AIRFLOW_ROLES if name in granted - denied]
    assert role(*statements) == (left[0] if left else None)


def reference_match(pattern: str, text: str) -> bool:
    """Match by definition, one character after the other."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return reference_match(pattern[1:], text) or (bool(text) and reference_match(pattern, text[1:]))
    return bool(text) and pattern[0] in ("?", text[0]) and reference_match(pattern[1:], text[1:])


@given(pattern=st.text("ab*?.", max_size=8), text=st.text("ab.", max_size=8))
def test_wildcards_match_by_definition(pattern: str, text: str) -> None:
    assert allowed(allow(pattern), action=text) is reference_match(pattern, text)


def test_many_stars_are_fast() -> None:
    assert not allowed(allow("*" * 200 + "x"), action="a" * 2000)
