"""What a client sees of an error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError


@dataclass
class Seen:
    """The error of one call."""

    code: str = ""
    message: str = ""
    status: int = 0
    response: dict[str, Any] | None = None


@contextmanager
def an_error(code: str, status: int, text: str = "") -> Iterator[Seen]:
    """Expect a call to fail with this code and HTTP status, and `text` in its message."""
    seen = Seen()
    with pytest.raises(ClientError) as caught:
        yield seen
    response: Any = caught.value.response
    seen.response = response
    seen.code = response["Error"]["Code"]
    seen.message = response["Error"]["Message"]
    seen.status = response["ResponseMetadata"]["HTTPStatusCode"]
    assert (seen.code, seen.status) == (code, status), seen.message
    assert text in seen.message
    assert len(response["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]) == 36
