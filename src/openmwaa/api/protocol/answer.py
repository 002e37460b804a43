"""An HTTP answer before it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.model import OperationModel


@dataclass(frozen=True)
class Answer:
    """Status, headers and body; `error` is the code that is told, for the log."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class Match:
    """The operation that a request asks for, and the path parameters it was found by, decoded."""

    operation: OperationModel
    labels: Mapping[str, str] = field(default_factory=dict)


Parameters = dict[str, Any]
