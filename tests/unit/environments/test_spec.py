"""Specs and manifests survive JSON."""

import json

from openmwaa.environments.manifest import Component, DagSource, FileProbe, HttpProbe, Kind, Manifest
from openmwaa.environments.spec import EnvironmentSpec, LogSetting, S3File
from tests.support.specs import a_spec


def test_a_spec_survives_json() -> None:
    """Writing and reading a spec changes nothing."""
    spec = a_spec(
        airflow_configuration_options={"core.parallelism": "7"},
        logging={"TaskLogs": LogSetting(enabled=True, level="DEBUG")},
        requirements=S3File("requirements.txt", "v1"),
    )
    assert EnvironmentSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_a_newer_releases_field_is_ignored() -> None:
    """A spec written by a newer release still loads."""
    data = a_spec().to_json() | {"field_of_tomorrow": 1}
    assert EnvironmentSpec.from_json(data) == a_spec()


def a_manifest(**changes: object) -> Manifest:
    """Return a manifest with both kinds of probe."""
    values = {
        "environment_id": "abcdefghijkl",
        "ordinal": 1,
        "runtime": "3.3.1-x",
        "variables": {"A": "1"},
        "secrets": {"S": "v1.a.b"},
        "components": (
            Component(Kind.WEBSERVER, 2, ("web", "{port}"), HttpProbe("/health"), port=8080),
            Component(Kind.WORKER, 1, ("work",), FileProbe("run/worker-{index}", 10.0)),
            Component(Kind.SCHEDULER, 1, ("schedule",)),
        ),
        "dags": DagSource("bucket", "dags/"),
    }
    return Manifest(**{**values, **changes})


def test_a_manifest_survives_json() -> None:
    """Writing and reading a manifest changes nothing."""
    manifest = a_manifest()
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest


def test_scaling_replaces_nothing_and_a_setting_replaces_everything() -> None:
    """A replica's hash ignores the replica count and follows every variable."""
    manifest = a_manifest()
    web = manifest.components[0]
    more = Component(Kind.WEBSERVER, 5, ("web", "{port}"), HttpProbe("/health"), port=8080)
    assert manifest.component_hash(web) == manifest.component_hash(more)
    assert a_manifest(variables={"A": "2"}).component_hash(web) != manifest.component_hash(web)
    assert a_manifest(secrets={"S": "v1.c.d"}).component_hash(web) != manifest.component_hash(web)
