"""One running service for all tests that need one, and a rule about what tests leave behind."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.support.dags import HELLO, SLOW, TALKATIVE
from tests.support.environment import VERSIONS, Environment
from tests.support.service import KEPT_HOME, RUNTIMES_FOLDER, Service, a_home, a_service, start
from tests.support.updates import mend

USE_SERVICE = (
    "tests/airflow/",
    "tests/browser/test_airflow_ui.py",
    "tests/faults/test_kill_each.py",
    "tests/faults/test_sabotage.py",
)
"""Where the shared service is used: a second process would start a second one at the same ports."""

PORT_BASE = int(os.environ.get("OPENMWAA_TEST_PORT_BASE", "28750"))
SETTINGS = "layer_build_timeout_s = 60\n"
"""Of the shared service. Packages of tests are built in seconds; a test of a build without end waits for this."""

_LAST_LINES = 60


def pytest_configure(config: pytest.Config) -> None:
    """Install each Airflow version once for all homes of the session."""
    if os.environ.get(RUNTIMES_FOLDER) is None:
        folder = (
            Path(KEPT_HOME) / "runtimes" if KEPT_HOME else Path(tempfile.mkdtemp(prefix="openmwaa-runtimes-"))
        )
        folder.mkdir(mode=0o755, exist_ok=True)
        folder.chmod(0o755)  # environments have users of their own
        os.environ[RUNTIMES_FOLDER] = str(folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what was installed, unless somebody wanted to keep it."""
    if hasattr(config, "workerinput"):
        return  # the others still need it
    folder = Path(os.environ.get(RUNTIMES_FOLDER, ""))
    if folder.name.startswith("openmwaa-runtimes-") and folder.parent == Path(tempfile.gettempdir()):
        shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest: everything that uses the shared service, in one process."""
    items.sort(key=lambda item: not item.nodeid.startswith(USE_SERVICE))


class _TwoStreams(LoadScopeScheduling):
    """Gives one process everything that uses the shared service, and the other all else, file by file."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "service" if path.startswith(USE_SERVICE) else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _TwoStreams:
    """Share the work out by what tests share."""
    return _TwoStreams(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the service's own processes said last when a test that uses it fails."""
    report = yield
    service = getattr(item, "funcargs", {}).get("service")
    if report.failed and isinstance(service, Service):
        for name in ("control", "node"):
            path = service.settings.layout.logs / f"{name}.log"
            lines = path.read_text(errors="replace").splitlines()[-_LAST_LINES:] if path.exists() else []
            report.sections.append((f"end of {name}.log", "\n".join(lines)))
    return report


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """A service started the way a user starts it, shared by the whole session.

    `OPENMWAA_TEST_HOME` names a home to use and leave running, for quick repetitions by hand.
    """
    if KEPT_HOME:
        yield start(Path(KEPT_HOME), PORT_BASE, settings=SETTINGS)
        return
    with a_home() as home, a_service(home, PORT_BASE, settings=SETTINGS) as running:
        yield running


class _Environments(dict[str, Environment]):
    """The shared environments by version; one that nobody asked for yet is created when it is."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service

    def __missing__(self, version: str) -> Environment:
        self.create([version])
        return self[version]

    def create(self, versions: Sequence[str]) -> None:
        """Create those that are missing at once and wait for all of them."""
        missing = [version for version in versions if version not in self]
        for version in missing:
            self[version] = self._create(version)
        for version in missing:
            self._service.available(self[version].name, within_s=600)

    def _create(self, version: str) -> Environment:
        service, name = self._service, f"v{version.replace('.', '-')}"
        if KEPT_HOME and name in service.client("mwaa").list_environments()["Environments"]:
            mend(service, name)
            arn = service.environment(name)["SourceBucketArn"]
            return Environment(name, version, arn.rpartition(":")[2])
        bucket = service.bucket({"hello.py": HELLO, "slow.py": SLOW, "talkative.py": TALKATIVE})
        service.create(name, bucket, AirflowVersion=version, EnvironmentClass="mw1.micro")
        return Environment(name, version, bucket)


@pytest.fixture(scope="session")
def environments(service: Service) -> Iterator[dict[str, Environment]]:
    """One environment per version, shared by the whole session; a version is created when a test asks for it."""
    made = _Environments(service)
    yield made
    for environment in () if KEPT_HOME else made.values():
        service.delete(environment.name)


@pytest.fixture(params=VERSIONS, scope="session")
def environment(request: pytest.FixtureRequest, environments: _Environments) -> Environment:
    """Each version in turn; all are created at once."""
    environments.create(VERSIONS)
    return environments[request.param]
