"""Access to environments: sign-on, forward authentication, the CLI endpoint and REST calls.

The proxy in front asks this package about every request to an environment and connects to
the upstream that the answer names. Nothing reaches Airflow without an identity minted here.
"""

from openmwaa.gateway.app import create_gateway
from openmwaa.gateway.context import GatewayContext
from openmwaa.gateway.directory import EnvironmentDirectory
from openmwaa.gateway.issuer import GatewayTokenIssuer
from openmwaa.gateway.keys import GatewayKey, load_gateway_key
from openmwaa.gateway.rest import GatewayRestInvoker, RestAnswer
from openmwaa.gateway.tokens import Tokens
from openmwaa.gateway.upstreams import ReadyUpstreams

__all__ = [
    "EnvironmentDirectory",
    "GatewayContext",
    "GatewayKey",
    "GatewayRestInvoker",
    "GatewayTokenIssuer",
    "ReadyUpstreams",
    "RestAnswer",
    "Tokens",
    "create_gateway",
    "load_gateway_key",
]
