"""The AWS edge: requests in AWS's protocols, verified, validated and answered from AWS's own models."""

from openmwaa.api.app import create_api
from openmwaa.api.context import ApiContext

__all__ = ["ApiContext", "create_api"]
