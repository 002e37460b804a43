"""Tokens for CreateCliToken and CreateWebLoginToken. The caller has authorised them already."""

from __future__ import annotations

from openmwaa.environments.record import EnvironmentRecord
from openmwaa.gateway.hosts import hostname_of
from openmwaa.gateway.tokens import TokenKind, Tokens
from openmwaa.identity.principals import Principal
from openmwaa.settings import Settings


class GatewayTokenIssuer:
    """Issues the two kinds of token that the AWS API gives out."""

    def __init__(self, settings: Settings, tokens: Tokens) -> None:
        self._settings = settings
        self._tokens = tokens

    def hostname(self, record: EnvironmentRecord) -> str:
        """Return `WebserverUrl`: host and port, no scheme."""
        return hostname_of(self._settings, record)

    async def cli_token(self, record: EnvironmentRecord, principal: Principal) -> tuple[str, str]:
        """Return CliToken and WebServerHostname."""
        token = self._tokens.mint(TokenKind.CLI, record.id, subject=principal.airflow_identity)
        return token, self.hostname(record)

    async def web_token(
        self, record: EnvironmentRecord, principal: Principal, airflow_role: str
    ) -> tuple[str, str]:
        """Return WebToken and WebServerHostname.

        Args:
            record: The environment.

            principal: Becomes the Airflow user `principal.airflow_identity`.

            airflow_role: Role that the caller's policies grant, e.g. `Admin`.
        """
        token = self._tokens.mint(
            TokenKind.WEB, record.id, subject=principal.airflow_identity, roles=(airflow_role,)
        )
        return token, self.hostname(record)
