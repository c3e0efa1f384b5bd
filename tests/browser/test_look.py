"""That pages can be used: on a narrow screen, by keyboard, with enough contrast, in the dark."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import SignIn
from tests.browser.seed import LONG_SESSION

PATHS = ["/", "/sessions", f"/sessions/{LONG_SESSION}", "/approvals", "/findings", "/trace", "/configuration"]

# Of every text that can be seen: the contrast with what is behind it (WCAG 2.2, 1.4.3 and "relative luminance").
CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const linear = (one) => (one /= 255) <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = (node) => {
    for (let one = node; one; one = one.parentElement) {
      const found = parse(getComputedStyle(one).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const [text, node] = [walker.currentNode.data.trim(), walker.currentNode.parentElement];
    const skipped = ".skip, svg, script, [disabled], dialog:not([open])";
    if (!text || !node.checkVisibility() || node.closest(skipped)) continue;
    const style = getComputedStyle(node);
    const [one, two] = [light(parse(style.color)), light(behind(node))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (two + 0.05);
    if (ratio < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5)) bad.push(`${text.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return [...new Set(bad)];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_enough_contrast(people: SignIn, scheme: str) -> None:
    page = people("carol", color_scheme=scheme)
    for path in PATHS:
        page.goto(path)
        assert page.evaluate(CONTRAST) == [], path


def test_no_page_is_wider_than_a_narrow_screen(people: SignIn) -> None:
    page = people("carol", viewport={"width": 400, "height": 800})
    for path in PATHS:
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, path


def test_a_session_is_found_and_opened_with_the_keyboard_alone(people: SignIn) -> None:
    page = people("carol")
    page.keyboard.press("g")
    page.keyboard.press("s")
    page.wait_for_url("**/sessions")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    focused = page.evaluate("document.activeElement.getAttribute('href')")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{focused}")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_everything_that_can_be_used_has_a_name(people: SignIn) -> None:
    page = people("carol")
    for path in PATHS:
        page.goto(path)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("button, a, input:not([type=hidden]), select, textarea")]
            .filter((one) => one.checkVisibility() && !(one.getAttribute("aria-label") || one.innerText.trim()
              || one.title || (one.labels && one.labels.length))).map((one) => one.outerHTML.slice(0, 100))"""
        )
        assert nameless == [], path


def test_the_theme_can_be_chosen_and_stays(people: SignIn) -> None:
    page = people("carol", color_scheme="light")
    page.locator("[data-theme-switch]").click()
    page.goto("/sessions")
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
