"""The embedded object store's feed of changes: where it goes, and how its messages read.

It carries hints. It may lose, repeat and reorder, and nothing may depend on one message.
"""

from __future__ import annotations

from typing import Any, Final

from openmwaa.kit.secret import Secret
from openmwaa.services.secrets import ServiceSecrets
from openmwaa.settings import Settings

FEED_PATH: Final = "/changes"
_TOKEN: Final = "seaweedfs/feed-token"  # noqa: S105 - the name of a secret
_BUCKETS: Final = "/buckets/"
_PARTS: Final = ".uploads/"
"""Parts of uploads that are not finished."""


def feed_url(settings: Settings) -> str:
    """Return the address that the object store posts to."""
    return f"http://127.0.0.1:{settings.ports.feed}{FEED_PATH}"


def feed_token(settings: Settings) -> Secret:
    """Return what the object store proves itself with; made once."""
    return ServiceSecrets(settings).get_or_create(_TOKEN)


def changed_object(message: Any) -> tuple[str, str] | None:
    """Return bucket and path of what a message is about; None if it is about no object.

    The path begins like the object's key. In a versioned bucket more follows: the object is a
    folder of its versions there (`dags/a.py.versions/v_…`).

    Args:
        message: The decoded body: `{"key": "/buckets/<bucket>/<path>", …}`.
    """
    key = message.get("key") if isinstance(message, dict) else None
    if not isinstance(key, str) or not key.startswith(_BUCKETS):
        return None
    bucket, _, path = key.removeprefix(_BUCKETS).partition("/")
    if not path or path.startswith(_PARTS):
        return None
    return bucket, path
