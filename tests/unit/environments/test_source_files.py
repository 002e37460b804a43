"""Which files of the bucket a request pins, keeps or clears."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from openmwaa.environments.errors import InvalidRequestError
from openmwaa.environments.source_files import Pin, files_after, pins_wanted
from openmwaa.environments.spec import S3File
from tests.support.specs import a_spec

BUCKET = "airflow-alpha"
MIB = 1024**2
KNOWN = S3File("requirements.txt", "v1", "digest", 10)
HAS_ONE = a_spec(requirements=KNOWN)


def test_a_path_without_a_version_means_the_newest() -> None:
    """The service fills in the version (mwaa.md 1.5)."""
    request = {"SourceBucketArn": f"arn:aws:s3:::{BUCKET}", "PluginsS3Path": "plugins.zip"}
    assert pins_wanted(request) == {"plugins": Pin(BUCKET, "plugins.zip", None, 1024 * MIB)}


@pytest.mark.parametrize(
    "request_", [{}, {"RequirementsS3Path": "requirements.txt"}, {"RequirementsS3ObjectVersion": "v1"}]
)
def test_what_is_sent_again_stays_as_it_is(request_: dict[str, Any]) -> None:
    """Uploading again does nothing until a new version is named; CloudFormation sends everything."""
    assert pins_wanted(request_, HAS_ONE) == {}
    assert files_after(request_, {}, HAS_ONE)["requirements"] == KNOWN


def test_a_new_version_of_the_known_path_is_looked_up() -> None:
    """The path need not be repeated."""
    wanted = {"requirements": Pin(BUCKET, "requirements.txt", "v2", MIB)}
    assert pins_wanted({"RequirementsS3ObjectVersion": "v2"}, HAS_ONE) == wanted


def test_an_empty_path_clears_the_setting() -> None:
    """What Terraform sends when a path leaves its configuration (mwaa.md 13.2)."""
    request = {"RequirementsS3Path": "", "RequirementsS3ObjectVersion": ""}
    assert pins_wanted(request, HAS_ONE) == {}
    assert files_after(request, {}, HAS_ONE)["requirements"] is None


def test_in_another_bucket_the_file_is_another() -> None:
    """Versions belong to a bucket."""
    wanted = {"requirements": Pin("other", "requirements.txt", None, MIB)}
    assert pins_wanted({"SourceBucketArn": "arn:aws:s3:::other"}, HAS_ONE) == wanted


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"StartupScriptS3ObjectVersion": "v"}, "StartupScriptS3ObjectVersion needs StartupScriptS3Path"),
        ({"PluginsS3Path": "", "PluginsS3ObjectVersion": "v"}, "PluginsS3ObjectVersion needs PluginsS3Path"),
        ({"RequirementsS3Path": "/requirements.txt"}, "RequirementsS3Path must be relative"),
        ({"RequirementsS3Path": "a/../b"}, "RequirementsS3Path must not hold"),
    ],
)
def test_what_names_no_object_is_refused(members: dict[str, Any], text: str) -> None:
    """By the name of the member."""
    with pytest.raises(InvalidRequestError, match=text):
        pins_wanted({"SourceBucketArn": f"arn:aws:s3:::{BUCKET}", **members})


def test_what_was_found_is_what_is_wanted() -> None:
    """Each file goes to its own field."""
    found = S3File("plugins.zip", "v7", "d", 1)
    after = files_after({"PluginsS3Path": "plugins.zip"}, {"plugins": found}, HAS_ONE)
    assert after == {"requirements": KNOWN, "plugins": found, "startup_script": None}
    assert dataclasses.replace(HAS_ONE, **after).plugins == found
