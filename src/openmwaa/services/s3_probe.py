"""One signed request to S3 with the standard library alone.

The supervisor asks every few seconds whether the object store works; it must not carry the
whole AWS SDK in memory for that.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from openmwaa.kit.secret import Secret


@dataclass(frozen=True)
class S3Probe:
    """Sends signed requests to one S3 endpoint on this host. Blocking: call it in a thread."""

    port: int
    access_key_id: str
    secret_access_key: Secret
    region: str
    timeout_s: float = 5.0

    def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Send one request.

        Args:
            method: E.g. `PUT`.

            path: `/<bucket>` or `/<bucket>/<key>`.

            body: Sent as is.

        Returns:
            Status and body of the answer.

        Raises:
            OSError: No answer.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout_s)
        try:
            connection.request(method, quote(path), body, self._signed(method, quote(path), body))
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()

    def _signed(self, method: str, path: str, body: bytes) -> Mapping[str, str]:
        """Return the headers. Source: AWS "Signature Version 4 for API requests"."""
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        payload = hashlib.sha256(body).hexdigest()
        headers = {"host": f"127.0.0.1:{self.port}", "x-amz-content-sha256": payload, "x-amz-date": moment}
        names = ";".join(headers)
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        canonical = f"{method}\n{path}\n\n{lines}\n{names}\n{payload}"
        scope = f"{moment[:8]}/{self.region}/s3/aws4_request"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        key = f"AWS4{self.secret_access_key.reveal()}".encode()
        for part in (*scope.split("/"), f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"):
            key = hmac.digest(key, part.encode(), "sha256")
        credential = f"Credential={self.access_key_id}/{scope}"
        authorization = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={key.hex()}"
        return headers | {"authorization": authorization}
