"""What the object store's messages are about, and what it is told to send."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from openmwaa.kit.secret import Secret
from openmwaa.services.feed import changed_object
from openmwaa.services.seaweedfs_config import build_notification_toml


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"key": "/buckets/b/dags/a.py", "event_type": "create"}, ("b", "dags/a.py")),
        ({"key": "/buckets/b/dags/a ü.py.versions/v_67", "message": {}}, ("b", "dags/a ü.py.versions/v_67")),
        ({"key": "/buckets/b/a.py"}, ("b", "a.py")),
        ({"key": "/buckets/b"}, None),
        ({"key": "/buckets/b/"}, None),
        ({"key": "/buckets/b/.uploads/1e2c/0001.part"}, None),
        ({"key": "/etc/iam/identities/x"}, None),
        ({"key": ["/buckets/b/x"]}, None),
        ({}, None),
        (["/buckets/b/x"], None),
        (None, None),
    ],
)
def test_a_message_names_bucket_and_path_or_nothing(message: Any, expected: tuple[str, str] | None) -> None:
    assert changed_object(message) == expected


def test_changes_of_buckets_are_sent_with_the_token() -> None:
    text = build_notification_toml(url="http://127.0.0.1:1/changes", token=Secret('quo"te'))
    webhook = tomllib.loads(text)["notification"]["webhook"]
    assert webhook["enabled"] is True
    assert webhook["endpoint"] == "http://127.0.0.1:1/changes"
    assert webhook["bearer_token"] == 'quo"te'
    assert webhook["path_prefixes"] == ["/buckets/"]
