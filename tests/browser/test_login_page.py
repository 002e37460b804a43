"""The sign-in page in a real browser, under its real content security policy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, expect

from tests.support.gateway_stack import GatewayStack, gateway_stack

PORT_BASE = 25200
SIGN_IN = "/aws_mwaa/aws-console-sso"


@pytest.fixture(scope="module")
def stack() -> Iterator[GatewayStack]:
    with gateway_stack(
        PORT_BASE,
        {"two": ("2.11.2", True, 1), "three": ("3.3.1", True, 1), "fresh": ("3.3.1", False, 0)},
    ) as running:
        yield running


@pytest.fixture
def page(browser: BrowserContext) -> Iterator[Page]:
    """A page without cookies, which must not break its own policy."""
    browser.clear_cookies()
    page = browser.new_page()
    complaints: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            complaints.append(message.text)

    page.on("console", listen)
    yield page
    page.close()
    assert complaints == []


@pytest.mark.parametrize(("name", "home"), [("two", "/home"), ("three", "/")])
@pytest.mark.parametrize("query", ["?login=true", ""])
def test_a_link_signs_in(stack: GatewayStack, page: Page, name: str, home: str, query: str) -> None:
    page.goto(stack.url(name, f"{SIGN_IN}{query}#{stack.web_token(name)}"))
    page.wait_for_url(stack.url(name, home))
    expect(page.locator("body")).to_contain_text("GET")  # what stands behind the gateway answered
    cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
    assert set(cookies) == {"_openmwaa_session", "session" if name == "two" else "_token"}
    assert all(cookie["httpOnly"] and cookie["secure"] for cookie in cookies.values())
    page.go_back()
    assert "#" not in page.url  # the token is not in the history


def test_without_a_link_the_page_says_how_to_get_one(stack: GatewayStack, page: Page) -> None:
    page.goto(stack.url("three", "/dags/etl"))
    assert page.url == stack.url("three", SIGN_IN)
    expect(page.get_by_role("heading", name="Sign in to three")).to_be_visible()
    expect(page.get_by_text("openmwaa env open three")).to_be_visible()
    expect(page.get_by_text("aws mwaa create-web-login-token --name three")).to_be_visible()
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_bad_link_says_so_and_a_new_one_works_in_the_same_tab(stack: GatewayStack, page: Page) -> None:
    page.goto(stack.url("three", f"{SIGN_IN}#{stack.web_token('two')}"))
    expect(page.get_by_role("alert")).to_contain_text("expired or is not for this environment")
    expect(page.get_by_role("heading", name="You are not signed in")).to_be_focused()
    expect(page.get_by_text("openmwaa env open three")).to_be_visible()
    assert page.url == stack.url("three", SIGN_IN)
    assert page.context.cookies() == []
    page.evaluate("fragment => { location.hash = fragment }", stack.web_token("three"))
    page.wait_for_url(stack.url("three", "/"))


def test_a_visitor_who_is_signed_in_can_go_on(stack: GatewayStack, page: Page) -> None:
    page.goto(stack.url("three", f"{SIGN_IN}#{stack.web_token('three')}"))
    page.wait_for_url(stack.url("three", "/"))
    page.goto(stack.url("three", SIGN_IN))
    expect(page.get_by_text("You are signed in as user/alice")).to_be_visible()
    page.get_by_role("link", name="Open Airflow").click()
    page.wait_for_url(stack.url("three", "/"))
    page.goto(stack.url("three", "/auth/logout"))
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    assert page.context.cookies() == []
    page.goto(stack.url("three", "/"))
    assert page.url == stack.url("three", SIGN_IN)


def test_nothing_in_the_fragment_runs(stack: GatewayStack, page: Page) -> None:
    page.goto(stack.url("three", f"{SIGN_IN}#<img src=x onerror=alert(1)>"))
    expect(page.get_by_role("alert")).to_be_visible()
    assert page.locator("img").count() == 0


def test_an_environment_that_is_being_created_says_so(stack: GatewayStack, page: Page) -> None:
    page.goto(stack.url("fresh", "/"))
    expect(page.get_by_role("heading", name="fresh is CREATING")).to_be_visible()
    with page.expect_navigation(timeout=10_000):
        pass  # the page tries again by itself


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1100, 320])
def test_the_page_fits(stack: GatewayStack, page: Page, tmp_path: Path, scheme: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    page.goto(stack.url("three", f"{SIGN_IN}#x"))
    expect(page.get_by_role("alert")).to_be_visible()
    overflow = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert page.evaluate(overflow) is False
    page.screenshot(path=tmp_path / f"{scheme}-{width}.png", full_page=True)
