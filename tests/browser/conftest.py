"""One headless Chromium for all browser tests. `make browser` installs it where it is missing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, sync_playwright

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    """A browser with a profile of its own. That certificates verify is tested with other clients."""
    assert CHROMIUM, "needs Chromium: tools/install_browser.sh"
    profile = tempfile.mkdtemp(prefix="openmwaa-chromium-")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=FLAGS, headless=True, ignore_https_errors=True
        )
        yield context
        context.close()
    shutil.rmtree(profile, ignore_errors=True)
