"""A real Chromium in front of the real console, behind which runs everything of `make run`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.browser.seed import seed
from tests.browser.stack import Stack, chromium_path
from tests.needing import not_tested


class SignIn(Protocol):
    """Sign a demo user in, in a browser of their own with these options of its context."""

    def __call__(self, user: str, **options: Any) -> Page: ...


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = chromium_path()
    if path is None:
        not_tested("there is no Chromium on this machine (Debian: chromium): no page was seen in a browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    running = Stack(seed)
    yield running
    running.stop()


@pytest.fixture
def people(chromium: Browser, stack: Stack) -> Iterator[SignIn]:
    """Sign demo users in, each in a browser of their own; what the browser complains about fails the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def sign_in(user: str, **options: Any) -> Page:
        context = chromium.new_context(base_url=stack.url, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: complaints.append(f"{user}: {error}"))
        page.on("console", lambda message: complaints.extend([message.text] if message.type == "error" else []))
        enter(page, user)
        return page

    yield sign_in
    for context in contexts:
        context.close()
    # A refused page is said to be an error, too; those that tests provoke are none of the page's own faults.
    assert [one for one in complaints if "Failed to load resource" not in one] == []


def enter(page: Page, user: str) -> None:
    """Sign in at the development issuer."""
    page.goto("/")
    page.locator(f"button[name=user][value={user}]").click()
    page.wait_for_selector("header .who form")
