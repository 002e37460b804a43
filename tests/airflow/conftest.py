"""Three real environments side by side, one per Airflow version, shared by the whole session."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.dags import HELLO, SLOW, TALKATIVE
from tests.support.service import KEPT_HOME, Service

VERSIONS = ("2.11.2", "3.0.6", "3.3.1")


@dataclass(frozen=True)
class Environment:
    """A running environment."""

    name: str
    version: str
    bucket: str

    @property
    def generation(self) -> int:
        return int(self.version.partition(".")[0])


@pytest.fixture(scope="session")
def environments(service: Service) -> Iterator[dict[str, Environment]]:
    """Create one environment per version at once and wait for all of them."""
    made = {}
    for version in VERSIONS:
        name = f"v{version.replace('.', '-')}"
        if KEPT_HOME and name in service.client("mwaa").list_environments()["Environments"]:
            arn = service.environment(name)["SourceBucketArn"]
            made[version] = Environment(name, version, arn.rpartition(":")[2])
            continue
        bucket = service.bucket({"hello.py": HELLO, "slow.py": SLOW, "talkative.py": TALKATIVE})
        service.create(name, bucket, AirflowVersion=version, EnvironmentClass="mw1.micro")
        made[version] = Environment(name, version, bucket)
    for environment in made.values():
        service.available(environment.name, within_s=600)
    yield made
    for environment in () if KEPT_HOME else made.values():
        service.delete(environment.name)


@pytest.fixture(params=VERSIONS, scope="session")
def environment(request: pytest.FixtureRequest, environments: dict[str, Environment]) -> Environment:
    """Each version in turn."""
    return environments[request.param]
