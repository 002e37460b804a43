"""What the machine's operator asks and AWS has no call for. The socket's permissions are the authentication."""

from openmwaa.api.operator.app import create_operator
from openmwaa.api.operator.context import LogFolders, OperatorContext

__all__ = ["LogFolders", "OperatorContext", "create_operator"]
