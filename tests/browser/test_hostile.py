"""Recorded text is written by strangers: nothing of it may become markup, run, or turn other text around."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import SignIn, enter
from tests.browser.seed import HOSTILE, HOSTILE_SESSION
from tests.browser.stack import Stack

NOTHING_RAN = "window.hacked === undefined"
MARKUP = "main script:not([type='application/json']), main img, main iframe, main object, main svg:not(.plot, .share)"


@pytest.mark.parametrize("path", [f"/sessions/{HOSTILE_SESSION}", "/sessions?finding=*", "/findings", "/"])
def test_hostile_text_is_shown_as_text(people: SignIn, path: str) -> None:
    page = people("carol")
    page.goto(path)
    page.wait_for_load_state()
    assert page.evaluate(NOTHING_RAN)
    assert page.locator(MARKUP).count() == 0
    assert page.locator("a[href^='javascript:']").count() == 0
    if path != "/":
        expect(page.locator("main")).to_contain_text("<script>window.hacked = 1</script>")
        expect(page.locator("main")).to_contain_text("\u27e8U+202E\u27e9")
        assert "\u202e" not in page.inner_text("main")


def test_hostile_text_is_played_as_text(people: SignIn) -> None:
    page = people("carol")
    page.goto(f"/sessions/{HOSTILE_SESSION}")
    page.get_by_role("button", name="Faster").click(click_count=4)
    page.get_by_role("button", name="Play").click()
    page.get_by_role("button", name="End").click()
    assert page.evaluate(NOTHING_RAN)
    assert page.locator("article.exchange").count() == len(HOSTILE)


def test_hostile_searches_are_answered_as_text(people: SignIn) -> None:
    page = people("carol")
    for text in HOSTILE:
        page.goto("/sessions")
        page.get_by_label("Text").fill(text.replace("\x00", ""))
        page.get_by_role("button", name="Find").click()
        page.wait_for_load_state()
        assert page.evaluate(NOTHING_RAN)
        assert page.locator(MARKUP).count() == 0


def test_a_proposal_of_a_hostile_model_is_shown_to_approvers_as_text(people: SignIn, stack: Stack) -> None:
    page = people("bob")
    with stack.asking(
        'edit infra/prod.tf replacing "<img src=x onerror=window.hacked=1>" with "<script>1</script>"'
    ) as asked:
        page.goto("/approvals")
        page.locator("tr[data-approval] a").first.click()
        expect(page.locator("pre.diff")).to_contain_text("<script>1</script>")
        assert page.evaluate(NOTHING_RAN)
        assert page.locator(MARKUP).count() == 0
        page.get_by_label("Reason").fill("no")
        page.get_by_role("button", name="Deny").click()
        assert "<script>" not in asked.result(30).text


def test_the_browser_runs_nothing_that_is_not_ours(chromium: Browser, stack: Stack) -> None:
    # A context of its own, since here the browser is to complain.
    context = chromium.new_context(base_url=stack.url)
    page = context.new_page()
    enter(page, "carol")
    page.goto("/sessions")
    # Whoever found a way to put markup in would still not get it to run, nor to load or send anything.
    assert (
        page.evaluate(
            """() => { try { document.querySelector("main").innerHTML = "<b>x</b>"; return "made"; }
        catch (error) { return error.name; } }"""
        )
        == "TypeError"
    )
    ran = page.evaluate(
        """async () => { const script = document.createElement("script");
        try { script.textContent = "window.hacked = 1"; document.body.append(script); } catch (error) {}
        try { await fetch("http://127.0.0.1:1/"); return "sent"; } catch (error) { return String(window.hacked); } }"""
    )
    assert ran == "undefined"
    context.close()
