"""MWAA's twelve operations. Input was validated and the caller authorised before."""

from __future__ import annotations

from typing import Any, Final

import structlog

from openmwaa.airflow.secrets import new_secrets
from openmwaa.api.context import ApiContext, Call
from openmwaa.api.errors import ServiceError
from openmwaa.api.services.mwaa_views import environment_view, name_in_token, next_token
from openmwaa.api.services.updates import Updates
from openmwaa.api.throttle import Throttle
from openmwaa.environments.arns import EnvironmentArn
from openmwaa.environments.errors import EnvironmentNotFoundError, InvalidRequestError
from openmwaa.environments.ids import new_environment_id
from openmwaa.environments.record import EnvironmentRecord
from openmwaa.environments.requests import MAX_TAGS, check_tags
from openmwaa.environments.status import USABLE

_log = structlog.get_logger(__name__)

_PAGE: Final = 25
_INVOKE_PER_SECOND: Final = 10


class MwaaService:
    """Handlers by operation, in the order of the user guide."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._environments = context.store.environments
        self._updates = Updates(context.store, context.preflight, context.limits, context.manifest)
        self._throttle = Throttle(_INVOKE_PER_SECOND)

    async def create_environment(self, call: Call) -> dict[str, Any]:
        """Accept a new environment: everything that can be checked at once is checked before."""
        context = self._context
        spec = await self._updates.new_spec(call.parameters)
        environment_id = new_environment_id()
        record = await self._environments.create(
            environment_id,
            spec,
            arn=EnvironmentArn(context.settings.region, context.settings.account_id, spec.name),
            tags=call.parameters.get("Tags", {}),
            secrets={
                name: context.keyring.seal(secret, context=f"environment/{environment_id}/{name}")
                for name, secret in new_secrets().items()
            },
            quota=context.settings.max_environments,
        )
        await self._updates.note_warnings(record)
        return {"Arn": str(record.arn)}

    async def get_environment(self, call: Call) -> dict[str, Any]:
        """Describe one environment."""
        record = await self._environments.get(call.parameters["Name"])
        return {"Environment": environment_view(record, self._context.web_host(record))}

    async def update_environment(self, call: Call) -> dict[str, Any]:
        """Accept a change; without a changed member every component is replaced."""
        record = await self._updates.accept(call.parameters["Name"], call.parameters, source=call.operation)
        return {"Arn": str(record.arn)}

    async def delete_environment(self, call: Call) -> dict[str, Any]:
        """Accept a deletion."""
        await self._environments.request_deletion(call.parameters["Name"])
        return {}

    async def list_environments(self, call: Call) -> dict[str, Any]:
        """Return the names of environments in every status, page by page."""
        limit = call.parameters.get("MaxResults", _PAGE)
        token = call.parameters.get("NextToken")
        records = await self._environments.list(
            after=name_in_token(token) if token else None, limit=limit + 1
        )
        names = [record.name for record in records[:limit]]
        page: dict[str, Any] = {"Environments": names}
        if len(records) > limit:
            page["NextToken"] = next_token(names[-1])
        return page

    async def list_tags_for_resource(self, call: Call) -> dict[str, Any]:
        """Return an environment's tags."""
        record = await self._environments.get(self._named(call))
        return {"Tags": dict(record.tags)}

    async def tag_resource(self, call: Call) -> dict[str, Any]:
        """Add tags; those of the same key are replaced."""
        tags = call.parameters["Tags"]
        check_tags(tags)
        await self._environments.set_tags(self._named(call), add=tags, limit=MAX_TAGS)
        return {}

    async def untag_resource(self, call: Call) -> dict[str, Any]:
        """Remove tags; keys that are not there are no error."""
        await self._environments.set_tags(self._named(call), remove=call.parameters["tagKeys"])
        return {}

    async def create_cli_token(self, call: Call) -> dict[str, Any]:
        """Return a token for one CLI command."""
        record = await self._environments.get(call.parameters["Name"])
        if record.status not in USABLE:
            # The only error that MWAA lists for this operation.
            raise EnvironmentNotFoundError(_not_usable(record))
        token, host = await self._context.tokens.cli_token(record, call.principal)
        return {"CliToken": token, "WebServerHostname": host}

    async def create_web_login_token(self, call: Call) -> dict[str, Any]:
        """Return a token for one log-in to the web server."""
        record = await self._usable(call.parameters["Name"])
        token, host = await self._context.tokens.web_token(record, call.principal, _role(call))
        return {
            "WebToken": token,
            "WebServerHostname": host,
            "IamIdentity": call.principal.iam_identity,
            "AirflowIdentity": call.principal.airflow_identity,
        }

    async def invoke_rest_api(self, call: Call) -> dict[str, Any]:
        """Call Airflow's REST API; its errors come back as two errors of MWAA (mwaa.md 8.4)."""
        parameters = call.parameters
        record = await self._usable(parameters["Name"])
        if not self._throttle.allow(record.id):
            raise ServiceError("ThrottlingException", "Rate exceeded")
        answer = await self._context.rest.invoke(
            record,
            call.principal,
            _role(call),
            path=parameters["Path"],
            method=parameters["Method"],
            query=parameters.get("QueryParameters"),
            body=parameters.get("Body"),
        )
        result = {"RestApiStatusCode": answer.status, "RestApiResponse": answer.body}
        if 200 <= answer.status < 300:
            return result
        side = "Client" if 400 <= answer.status < 500 else "Server"
        raise ServiceError(f"RestApi{side}Exception", members=result)

    async def publish_metrics(self, call: Call) -> dict[str, Any]:  # noqa: ARG002 - see below
        """Accept and drop the data: AWS's documentation says that it is ignored."""
        return {}

    async def _usable(self, name: str) -> EnvironmentRecord:
        record = await self._environments.get(name)
        if record.status not in USABLE:
            raise InvalidRequestError(_not_usable(record))
        return record

    def _named(self, call: Call) -> str:
        """Return the name in `ResourceArn`; the caller's policy already allows that ARN."""
        settings = self._context.settings
        arn = EnvironmentArn.parse(call.parameters["ResourceArn"])
        if arn.account != settings.account_id:
            raise ServiceError(
                "AccessDeniedException",
                f"User: {call.principal.arn} is not authorized to perform: airflow:{call.operation} on resource:"
                f" {arn} because no resource-based policy allows the airflow:{call.operation} action",
            )
        if arn.region != settings.region:
            raise EnvironmentNotFoundError(f"No environment found with the ARN {arn} in {settings.region}.")
        return arn.name


def _not_usable(record: EnvironmentRecord) -> str:
    return f"Environment {record.name} cannot be used while its status is {record.status}."


def _role(call: Call) -> str:
    assert call.airflow_role is not None  # noqa: S101 - authorisation of these operations returns one
    return call.airflow_role
