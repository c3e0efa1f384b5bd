"""`make screenshots`: what the README shows, taken from the running console into docs/images."""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, sync_playwright

from tests.browser.conftest import enter
from tests.browser.stack import Stack, chromium_path

IMAGES = Path("docs/images")
SECRET = "ghp_" + "Q7w2E9r4T1y6U3i8O5p0A7s2D9f4G1h6J3k8"
EDIT = 'edit infra/prod.tf replacing "count = 2" with "count = 40"'
CODE = (
    "import csv",
    "",
    "def total(path):",
    "    with open(path) as f:",
    "        return sum(int(r[1]) for r in csv.reader(f))",
)
WIDE: ViewportSize = {"width": 1280, "height": 860}
NARROW: ViewportSize = {"width": 400, "height": 860}


def main() -> int:
    """Take them all; returns 1 where there is no Chromium."""
    path = chromium_path()
    if path is None:
        print("there is no Chromium: install Debian's package `chromium`", file=sys.stderr)
        return 1
    IMAGES.mkdir(exist_ok=True)
    stack = Stack()
    try:
        session = _happen(stack)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
            auditor = browser.new_context(base_url=stack.url, viewport=WIDE, color_scheme="light").new_page()
            enter(auditor, "carol")
            for name, where in (
                *(("overview", "/"), ("sessions", "/sessions"), ("replay", f"/sessions/{session}")),
                *(("findings", "/findings"), ("configuration", "/configuration")),
            ):
                _take(auditor, where, name)
            _trace(auditor)
            narrow = browser.new_context(base_url=stack.url, viewport=NARROW, color_scheme="dark").new_page()
            enter(narrow, "carol")
            _take(narrow, "/sessions", "sessions-narrow-dark")
            approver = browser.new_context(base_url=stack.url, viewport=WIDE, color_scheme="dark").new_page()
            enter(approver, "bob")
            _decide(approver, stack)
            browser.close()
    finally:
        stack.stop()
    return 0


def _happen(stack: Stack) -> str:
    """Let people ask; return the session that is replayed."""
    for number in range(12):
        stack.ask(f"count to {number + 5}", user="bob", model=("gpt-5", "claude-sonnet-4.5")[number % 2])
    stack.ask("hello", user="mallory")
    stack.ask(f"why does CI fail with GITHUB_TOKEN={SECRET} set?", model="claude-sonnet-4.5")
    text = "\\n".join(CODE)
    said = stack.ask(f"create src/total.py containing '{text}'", tools=("create",))
    stack.ask("leak")
    return str(stack.recorded(said)["session"])


def _take(page: Page, where: str, name: str) -> None:
    page.goto(where)
    page.wait_for_load_state("networkidle") if not page.locator("[data-live]").count() else page.wait_for_timeout(3500)
    page.screenshot(path=IMAGES / f"{name}.png")


def _trace(page: Page) -> None:
    page.goto("/trace")
    page.locator("textarea").fill("\n".join(CODE))
    page.get_by_role("button", name="Trace").click()
    page.wait_for_load_state()
    page.screenshot(path=IMAGES / "trace.png")


def _decide(page: Page, stack: Stack) -> None:
    with stack.asking(EDIT) as asked:
        page.goto("/approvals")
        page.locator("tr[data-approval] a").first.wait_for()
        page.screenshot(path=IMAGES / "approvals.png")
        page.locator("tr[data-approval] a").first.click()
        page.get_by_role("button", name="Approve").wait_for()
        page.screenshot(path=IMAGES / "approval.png")
        page.get_by_label("Reason").fill("as agreed in the change meeting")
        page.get_by_role("button", name="Approve").click()
        asked.result(30)


if __name__ == "__main__":
    sys.exit(main())
