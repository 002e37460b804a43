"""IAM policies: Effect, Action or NotAction, Resource or NotResource, with wildcards.

What this release cannot decide (a Condition, a policy variable) is never ignored: such a
statement grants nothing, and if it denies, it counts as matching.

Source: "Policy evaluation logic" and "IAM JSON policy elements" in the IAM user guide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from openmwaa.environments.arns import role_arn

AIRFLOW_ROLES: Final = ("Admin", "Op", "User", "Viewer", "Public")
"""Roles that a policy can grant on `role/<environment>/<role>`, highest first (mwaa.md 1.9, 8.5)."""

FULL_ACCESS: Final[Mapping[str, Any]] = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}
"""What AWS's own AdministratorAccess says."""

_ARN_PARTS: Final = 6
_ELEMENTS: Final = frozenset({"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"})


class PolicyError(Exception):
    """The document is not an identity policy; the text says where."""


@dataclass(frozen=True)
class Decision:
    """Whether a call is allowed, and why not, in IAM's words."""

    allowed: bool
    reason: str = ""


@dataclass(frozen=True)
class _Statement:
    number: int
    allows: bool
    actions: tuple[str, ...]
    but_not_actions: bool
    resources: tuple[str, ...]
    but_not_resources: bool
    undecidable: str

    def matches(self, action: str, resource: str) -> bool:
        """Return whether the statement applies, or may apply where it holds a policy variable."""
        acts = any(_action_matches(pattern, action) for pattern in self.actions)
        hits = any(_resource_matches(pattern, resource) for pattern in self.resources)
        return acts is not self.but_not_actions and (
            hits is not self.but_not_resources or any("${" in pattern for pattern in self.resources)
        )


def authorize(policy: Mapping[str, Any], action: str, resource: str) -> Decision:
    """Decide one call as IAM does: an explicit deny wins, nothing is allowed by default.

    Args:
        policy: Identity policy of the caller, as JSON values.

        action: For example `airflow:GetEnvironment`.

        resource: ARN, or `*` for actions without a resource.
    """
    try:
        statements = parse(policy)
    except PolicyError as error:
        return Decision(allowed=False, reason=f"because the identity-based policy is not valid: {error}")
    applying = [statement for statement in statements if statement.matches(action, resource)]
    for statement in applying:
        if not statement.allows:
            because = f" ({statement.undecidable})" if statement.undecidable else ""
            return Decision(
                allowed=False, reason=f"with an explicit deny in an identity-based policy{because}"
            )
    if any(not statement.undecidable for statement in applying):
        return Decision(allowed=True)
    undecided = "; ".join(statement.undecidable for statement in applying)
    return Decision(
        allowed=False,
        reason=f"because no identity-based policy allows the {action} action"
        + (f" ({undecided})" if undecided else ""),
    )


def airflow_role(
    policy: Mapping[str, Any], action: str, *, region: str, account: str, environment: str
) -> str | None:
    """Return the highest Airflow role that a policy grants in an environment; None without any.

    Args:
        policy: Identity policy of the caller.

        action: `airflow:CreateWebLoginToken` or `airflow:InvokeRestApi`.

        region: Of the environment.

        account: Of the environment.

        environment: Its name; it need not exist.
    """
    for role in AIRFLOW_ROLES:
        if authorize(policy, action, role_arn(region, account, environment, role)).allowed:
            return role
    return None


def parse(policy: Mapping[str, Any]) -> tuple[_Statement, ...]:
    """Read a policy document.

    Raises:
        PolicyError: Names the statement and what is wrong with it.
    """
    statements = policy.get("Statement")
    if isinstance(statements, Mapping):
        statements = [statements]
    if not isinstance(statements, Sequence) or isinstance(statements, str):
        raise PolicyError("Statement must be an object or a list of objects")
    return tuple(_statement(number, entry) for number, entry in enumerate(statements, start=1))


def _statement(number: int, entry: Any) -> _Statement:
    where = f"statement {number}"
    if not isinstance(entry, Mapping):
        raise PolicyError(f"{where} is not an object")
    if unknown := set(entry) - _ELEMENTS:
        raise PolicyError(f"{where} has the unsupported element {min(unknown)}")
    if entry.get("Effect") not in ("Allow", "Deny"):
        raise PolicyError(f"{where}: Effect must be Allow or Deny")
    actions, but_not_actions = _either(entry, "Action", where)
    resources, but_not_resources = _either(entry, "Resource", where)
    undecidable = ""
    if "Condition" in entry:
        undecidable = f"{where} has a Condition, which is not supported"
    elif any("${" in pattern for pattern in resources):
        undecidable = f"{where} has a policy variable, which is not supported"
    return _Statement(
        number=number,
        allows=entry["Effect"] == "Allow",
        actions=actions,
        but_not_actions=but_not_actions,
        resources=resources,
        but_not_resources=but_not_resources,
        undecidable=undecidable,
    )


def _either(entry: Mapping[str, Any], name: str, where: str) -> tuple[tuple[str, ...], bool]:
    given = [element for element in (name, f"Not{name}") if element in entry]
    if len(given) != 1:
        raise PolicyError(f"{where} must have either {name} or Not{name}")
    value = entry[given[0]]
    patterns = [value] if isinstance(value, str) else value
    if not isinstance(patterns, Sequence) or not patterns or not all(isinstance(p, str) for p in patterns):
        raise PolicyError(f"{where}: {given[0]} must be a text or a list of texts")
    return tuple(patterns), given[0] != name


def _action_matches(pattern: str, action: str) -> bool:
    return _wildcard(pattern.lower()).fullmatch(action.lower()) is not None


def _resource_matches(pattern: str, resource: str) -> bool:
    """Compare part by part: a wildcard stays inside its part of an ARN; missing parts match all."""
    if pattern == "*":
        return True
    wanted = pattern.split(":", _ARN_PARTS - 1)
    wanted += ["*"] * (_ARN_PARTS - len(wanted))
    parts = resource.split(":", _ARN_PARTS - 1)
    return len(parts) == _ARN_PARTS and all(
        _wildcard(want).fullmatch(part) is not None for want, part in zip(wanted, parts, strict=True)
    )


@lru_cache(maxsize=1024)
def _wildcard(pattern: str) -> re.Pattern[str]:
    # Consecutive stars mean the same as one, and would make the match slow.
    pattern = re.sub(r"\*+", "*", pattern)
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(char) or re.escape(char) for char in pattern), re.DOTALL)
