"""Airflow's own UI, opened with the link that `openmwaa env open` prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.support.environment import Environment
from tests.support.runs import wait_for_dag
from tests.support.service import Service

SCREENSHOTS = Path(__file__).parents[2] / "test-results"

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(params=["2.11.2", pytest.param("3.0.6", marks=pytest.mark.thorough), "3.3.1"])
def environment(request: pytest.FixtureRequest, environments: dict[str, Environment]) -> Environment:
    """Both generations; the other 3.x looks alike."""
    return environments[request.param]


def test_the_printed_link_opens_the_ui(
    service: Service,
    environment: Environment,
    browser: BrowserContext,
) -> None:
    """The printed URL signs in, the list of DAGs shows, and nothing on the way answers with an error."""
    wait_for_dag(service, environment.name, "hello")
    url = printed_url(service, environment)
    browser.clear_cookies()
    page = browser.new_page()
    errors: list[str] = []
    page.on(
        "response",
        lambda answer: errors.append(f"{answer.status} {answer.url}") if answer.status >= 500 else None,
    )
    try:
        page.goto(url)
        host = url.partition("/aws_mwaa")[0]
        page.wait_for_url(re.compile(re.escape(host) + r"/(home|dags)?$"), timeout=30_000)
        page.goto(f"{host}/{'home' if environment.generation == 2 else 'dags'}")
        expect(page.get_by_text("hello", exact=True).first).to_be_visible(timeout=30_000)
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"airflow-{environment.version}.png")
        assert errors == []
    finally:
        page.close()


def test_without_signing_in_there_is_only_the_sign_in_page(
    service: Service,
    environment: Environment,
    browser: BrowserContext,
) -> None:
    """A browser without a session is sent to the page that says how to sign in."""
    browser.clear_cookies()
    page = browser.new_page()
    try:
        page.goto(f"https://{service.environment(environment.name)['WebserverUrl']}/")
        expect(page).to_have_url(re.compile("/aws_mwaa/aws-console-sso"))
        expect(page.locator("body")).to_contain_text("openmwaa env open")
    finally:
        page.close()


def printed_url(service: Service, environment: Environment) -> str:
    """Return the URL that `openmwaa env open` prints."""
    found = re.search(r"https://\S+", service.run("env", "open", environment.name).stdout)
    assert found is not None
    return found.group(0)
