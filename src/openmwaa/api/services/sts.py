"""STS: who am I? The AWS CLI's first question, and Terraform's."""

from __future__ import annotations

from typing import Any

from openmwaa.api.context import Call


async def get_caller_identity(call: Call) -> dict[str, Any]:
    """Return account, ARN and unique id of the caller. Needs no permission, as with AWS."""
    return {
        "UserId": call.principal.user_id,
        "Account": call.principal.account,
        "Arn": call.principal.arn,
    }
