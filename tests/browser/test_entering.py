"""Who comes in, and what each sees: a real browser, the real console, the development issuer."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import SignIn, enter
from tests.browser.stack import Stack

PAGES = {
    "alice": ["Overview", "Sessions", "Approvals", "Findings", "Trace"],
    "bob": ["Overview", "Sessions", "Approvals", "Findings", "Trace"],
    "carol": ["Overview", "Sessions", "Approvals", "Findings", "Trace", "Configuration"],
    "dave": ["Overview", "Configuration"],
}
PATHS = ["/", "/sessions", "/approvals", "/findings", "/trace", "/configuration"]


@pytest.mark.parametrize("user", PAGES)
def test_each_sees_the_pages_of_their_roles_and_is_refused_the_others(people: SignIn, user: str) -> None:
    page = people(user)
    shown = page.locator("header nav a")
    assert shown.all_inner_texts() == PAGES[user]
    allowed = [link.get_attribute("href") for link in shown.all()]
    for path in PATHS:
        response = page.goto(path)
        assert response is not None
        assert response.status == (200 if path in allowed else 403), path
        expect(page.locator("h1")).to_be_visible()


def test_somebody_in_no_group_is_told_why_there_is_nothing(people: SignIn) -> None:
    page = people("mallory")
    expect(page.get_by_role("alert")).to_contain_text("Roles come from the groups in your token")
    assert page.locator("header nav a").count() == 0


def test_after_signing_in_one_is_where_one_wanted_to_be(chromium: Browser, stack: Stack) -> None:
    context = chromium.new_context(base_url=stack.url)
    page = context.new_page()
    page.goto("/sessions?model=gpt-5&since=7d")
    page.locator("button[name=user][value=carol]").click()
    expect(page).to_have_url(f"{stack.url}/sessions?model=gpt-5&since=7d")
    context.close()


def test_signing_out_ends_the_session_on_the_server(chromium: Browser, stack: Stack) -> None:
    context = chromium.new_context(base_url=stack.url)
    page = context.new_page()
    enter(page, "alice")
    (kept,) = context.cookies()
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("header .who form")).to_have_count(0)
    # A copy of the cookie is worth nothing any more.
    context.add_cookies([{"name": kept["name"], "value": kept["value"], "url": stack.url}])
    page.goto("/sessions")
    expect(page.locator("button[name=user][value=alice]")).to_be_visible()
    context.close()


def test_the_cookie_cannot_be_read_by_scripts_nor_sent_along_by_other_sites(chromium: Browser, stack: Stack) -> None:
    context = chromium.new_context(base_url=stack.url)
    page = context.new_page()
    enter(page, "alice")
    (cookie,) = context.cookies(stack.url)
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    assert page.evaluate("document.cookie") == ""
    context.close()


def _forged(page: Page, stack: Stack, path: str) -> int:
    """Send a form as a page of another origin would; return the status."""
    page.goto(f"http://127.0.0.1:{stack.ports.upstream}/__seen")
    with page.expect_response(re.compile(re.escape(path))) as answer:
        page.evaluate(
            """(url) => { const form = document.createElement("form"); form.method = "post"; form.action = url;
            const field = document.createElement("input"); field.name = "verdict"; field.value = "approve";
            form.append(field); document.body.append(form); form.submit(); }""",
            f"{stack.url}{path}",
        )
    # Else the next navigation could cross this one.
    page.wait_for_url(f"{stack.url}{path}")
    return answer.value.status


def test_another_site_cannot_send_forms_in_somebodys_name(people: SignIn, stack: Stack) -> None:
    page = people("bob")
    assert _forged(page, stack, "/approvals/whatever/verdict") == 403
    assert _forged(page, stack, "/sign-out") in {401, 403}
    page.goto(stack.url)
    expect(page.locator("header .who form")).to_be_visible()


def test_a_form_without_the_token_of_the_session_is_refused(people: SignIn) -> None:
    page = people("bob")
    status = page.evaluate(
        """async () => (await fetch("/approvals/whatever/verdict", {method: "POST", body: "verdict=approve",
        headers: {"content-type": "application/x-www-form-urlencoded"}})).status"""
    )
    assert status == 403


def test_nobody_sees_anothers_session(people: SignIn, stack: Stack) -> None:
    hers = stack.recorded(stack.ask("alice asks something of her own"))
    his = stack.recorded(stack.ask("bob asks something of his own", user="bob"))
    alice = people("alice")
    for path in (f"/sessions/{his['session']}", f"/exchanges/{his['id']}", f"/exchanges/{his['id']}/receipt"):
        response = alice.goto(path)
        assert response is not None
        assert response.status == 404, path
        assert "of his own" not in alice.content()
    alice.goto("/sessions?text=something")
    assert alice.locator(f"a[href='/sessions/{hers['session']}']").count() == 1
    assert alice.locator(f"a[href='/sessions/{his['session']}']").count() == 0
    # Not by naming him either: the filter is not hers to use.
    alice.goto("/sessions?user=bob")
    assert alice.locator(f"a[href='/sessions/{his['session']}']").count() == 0
    carol = people("carol")
    carol.goto(f"/sessions/{his['session']}")
    expect(carol.locator("main")).to_contain_text("bob asks something of his own")
