"""May this principal do this? By IAM's rules, with MWAA's resources (mwaa.md 1.9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from openmwaa.api.errors import ServiceError
from openmwaa.environments.arns import EnvironmentArn
from openmwaa.identity.policy import airflow_role, authorize
from openmwaa.identity.principals import Principal
from openmwaa.settings import Settings

BY_ROLE: Final = frozenset({"CreateWebLoginToken", "InvokeRestApi"})
"""Operations whose resource is a role in an environment."""

_WITHOUT_RESOURCE: Final = frozenset({"ListEnvironments"})
_NO_ROLE: Final = "No Airflow role granted in IAM"
"""Airflow's amazon provider looks for this text (mwaa.md 13.4)."""


def authorize_mwaa(
    settings: Settings, principal: Principal, operation: str, parameters: Mapping[str, Any]
) -> str | None:
    """Return the Airflow role that a call of MWAA's API is granted, for the operations that need one.

    Raises:
        ServiceError: AccessDeniedException in IAM's or MWAA's words.
    """
    if operation in BY_ROLE:
        role = airflow_role(
            principal.policy,
            f"airflow:{operation}",
            region=settings.region,
            account=settings.account_id,
            environment=parameters["Name"],
        )
        if role is None:
            raise ServiceError("AccessDeniedException", _NO_ROLE)
        return role
    resource = _resource(settings, operation, parameters)
    _require(principal, f"airflow:{operation}", resource)
    if operation == "CreateEnvironment" and parameters.get("Tags"):
        _require(principal, "airflow:TagResource", resource)
    return None


def _resource(settings: Settings, operation: str, parameters: Mapping[str, Any]) -> str:
    if operation in _WITHOUT_RESOURCE:
        return "*"
    if "ResourceArn" in parameters:
        return str(parameters["ResourceArn"])
    name = parameters.get("Name") or parameters["EnvironmentName"]
    return str(EnvironmentArn(settings.region, settings.account_id, name))


def _require(principal: Principal, action: str, resource: str) -> None:
    decision = authorize(principal.policy, action, resource)
    if not decision.allowed:
        raise ServiceError(
            "AccessDeniedException",
            f"User: {principal.arn} is not authorized to perform: {action} on resource: {resource} {decision.reason}",
        )
