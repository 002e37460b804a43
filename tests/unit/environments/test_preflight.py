"""How many processes a spec means: as the manifest has them."""

from __future__ import annotations

import pytest

from openmwaa.airflow.versions import VERSIONS
from openmwaa.environments.manifest import Kind
from openmwaa.environments.preflight import added_replicas, wanted_replicas
from tests.support.specs import a_spec
from tests.unit.airflow.test_components import manifest_of


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("triggerer", ["true", "False"])
def test_a_spec_and_its_manifest_agree(version: str, triggerer: str) -> None:
    spec = a_spec(
        airflow_version=version,
        environment_class="mw1.large",
        schedulers=3,
        min_webservers=2,
        min_workers=4,
        airflow_configuration_options={"mwaa.triggerer_enabled": triggerer},
    )
    components = {component.kind: component.replicas for component in manifest_of(spec).components}
    assert {kind: count for kind, count in wanted_replicas(spec).items() if count} == components


def test_only_what_is_added_counts() -> None:
    small = a_spec(environment_class="mw1.small", schedulers=2, min_workers=3)
    assert added_replicas(None, small)[Kind.WORKER] == 3
    changed = a_spec(environment_class="mw1.small", schedulers=3, min_workers=1)
    assert added_replicas(small, changed) == {Kind.SCHEDULER: 1}
    assert added_replicas(small, small) == {}
