"""What the API needs from parts it does not know: wiring connects them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from openmwaa.environments.record import EnvironmentRecord
from openmwaa.environments.spec import EnvironmentSpec, S3File
from openmwaa.identity.principals import Principal


class Preflight(Protocol):
    """Checks the source bucket before an environment is accepted."""

    async def check(self, bucket: str, prefix: str) -> None:
        """Return if the bucket can be used as it is.

        Args:
            bucket: Its name.

            prefix: DAG folder as the user wrote it.

        Raises:
            InvalidRequestError: With MWAA's wording (mwaa.md 1.3).

            Retry: The bucket's server cannot answer now.
        """
        ...

    async def pin(self, bucket: str, path: str, version: str | None, *, max_bytes: int) -> S3File:
        """Look an object up and return it with its version, digest and size.

        Args:
            bucket: The source bucket.

            path: Key of the object.

            version: One of its versions; None: the newest.

            max_bytes: Larger ones are refused.

        Raises:
            InvalidRequestError: With MWAA's wording: it is not there, or too large.

            Retry: The bucket's server cannot answer now.
        """
        ...

    async def host(self, record: EnvironmentRecord | None, wanted: EnvironmentSpec) -> None:
        """Refuse what there is clearly no room for: disk, memory, ports, databases.

        Args:
            record: The environment; None for a new one.

            wanted: What is wanted of it.

        Raises:
            InvalidRequestError: Names what is needed and what is there.

            Retry: The database server does not answer.
        """
        ...


class TokenIssuer(Protocol):
    """Gives out the tokens of one environment, valid for 60 s."""

    async def cli_token(self, record: EnvironmentRecord, principal: Principal) -> tuple[str, str]:
        """Return a CLI token and the host name at which it is used, without a scheme."""
        ...

    async def web_token(
        self, record: EnvironmentRecord, principal: Principal, airflow_role: str
    ) -> tuple[str, str]:
        """Return a web login token for a role and the host name at which it is used, without a scheme."""
        ...


class RestAnswer(Protocol):
    """What Airflow's REST API answered: HTTP status and a JSON value, `{}` for an empty answer."""

    @property
    def status(self) -> int: ...

    @property
    def body(self) -> Any: ...


class RestInvoker(Protocol):
    """Calls the REST API of one environment in a principal's name."""

    async def invoke(
        self,
        record: EnvironmentRecord,
        principal: Principal,
        airflow_role: str,
        *,
        path: str,
        method: str,
        query: Mapping[str, Any] | None,
        body: Any | None,
    ) -> RestAnswer:
        """Send one request and return the answer, whatever its status.

        A call that takes longer than 10 s is answered 504, an answer over 6 MB becomes 502.

        Args:
            record: The environment.

            principal: Who calls.

            airflow_role: The highest role that the caller has there.

            path: As the caller gave it: relative to `/api/v1` or `/api/v2`.

            method: GET, PUT, POST, PATCH or DELETE.

            query: Values are JSON scalars or lists of them.

            body: JSON; an empty object is not sent with GET and DELETE, because Airflow's amazon
                provider always gives one (mwaa.md 13.4).

        Raises:
            InvalidRequestError: The path would leave the REST API.

            Retry: No web server can answer now.
        """
        ...
