"""One deployment for all browser tests of a process, and one Chromium for each module."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from playwright.sync_api import Browser, Dialog, Page, sync_playwright

from tests.browser.site import Site, running_site

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT_MS = 15_000
WIDE = 1366
HERE = Path(__file__).parent

ARGUMENTS = (
    "--no-sandbox",  # Chromium refuses to run as root with it
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # logos are on servers of others
)

OpenPage = Callable[..., Page]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder as slow."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def running(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """The deployment; a test uses `site`."""
    with django_db_blocker.unblock():
        directory = tmp_path_factory.mktemp("site")
        with running_site(directory, f"test_tenants_browser_{os.getpid()}") as site:
            django_db_blocker.restore()
            yield site
            django_db_blocker.unblock()


@pytest.fixture
def site(running: Site, django_db_blocker: Any) -> Iterator[Site]:
    """The deployment, whose database and local Clerk the test uses."""
    with django_db_blocker.unblock(), running.entered():
        running.require_worker()
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A running Chromium."""
    executable = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if executable is None:
        pytest.skip(f"no browser: none of {', '.join(CHROMIUMS)} is installed (apt-get install chromium)")
    # Playwright runs an event loop in this thread, and Django would take the test for asynchronous code.
    with patch.dict(os.environ, DJANGO_ALLOW_ASYNC_UNSAFE="true"), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser, site: Site) -> Iterator[OpenPage]:
    """Return a function that opens a window in which a member of a group is signed in ("" for nobody).

    At the end of the test, no window may have reported an error or a violation of the content policy.
    """
    complaints: list[str] = []
    contexts = []

    def open_page(group: str = "", *, width: int = WIDE, scheme: str = "light") -> Page:
        context = chromium.new_context(
            base_url=site.url,
            storage_state=site.signed_in(group) if group else None,
            viewport={"width": width, "height": 900},
            color_scheme=scheme,  # type: ignore[arg-type]
            reduced_motion="reduce",
        )
        contexts.append(context)
        context.set_default_timeout(TIMEOUT_MS)
        context.on("console", lambda message: report(message.type, message.text))
        context.on("dialog", dismiss)
        context.on("weberror", lambda error: report("error", str(error.error)))
        return context.new_page()

    def report(kind: str, text: str) -> None:
        # Chromium reports the status of each response that a test expects to fail.
        if kind == "error" and not text.startswith("Failed to load resource"):
            complaints.append(text)

    def dismiss(dialog: Dialog) -> None:
        complaints.append(f"{dialog.type}: {dialog.message}")
        dialog.dismiss()

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
