"""An edit to a privileged file waits while an unmodified OpenAI SDK does; a person decides in the browser."""

from __future__ import annotations

import json
import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import SignIn
from tests.browser.stack import Stack

EDIT = 'edit infra/prod.tf replacing "count = 2" with "count = 40"'


def _open_what_waits(page: Page) -> None:
    page.goto("/approvals")
    # It comes by itself: nobody loads the page again at 3 a.m.
    link = page.locator("tr[data-approval] a").first
    expect(link).to_be_visible()
    link.click()
    expect(page.locator("pre.diff .add")).to_contain_text("count = 40")
    expect(page.locator("pre.diff .del")).to_contain_text("count = 2")


def test_what_is_approved_in_the_browser_reaches_the_client(people: SignIn, stack: Stack) -> None:
    bob = people("bob")
    with stack.asking(EDIT) as asked:
        _open_what_waits(bob)
        expect(bob.locator("main")).to_contain_text("privileged-files")
        expect(bob.locator("main")).to_contain_text("alice asks")
        assert not asked.done()
        bob.get_by_label("Reason").fill("as agreed in the change meeting")
        bob.get_by_role("button", name="Approve").click()
        said = asked.result(30)
    # What the SDK got is the call, whole.
    assert json.loads(said.text)["new_str"] == "count = 40"
    expect(bob.get_by_role("status").first).to_contain_text("approved")
    document = stack.recorded(said)
    (approval,) = document["approvals"]
    assert (approval["state"], approval["verdicts"][0]["name"]) == ("approved", "bob")
    # It is in the history, and in the replay, with who decided and why.
    bob.goto("/approvals")
    expect(bob.locator("section[aria-labelledby=history]")).to_contain_text("approved")
    carol = people("carol")
    carol.goto(f"/sessions/{document['session']}#{document['id']}")
    expect(carol.locator(f"[id='{document['id']}']")).to_contain_text("as agreed in the change meeting")
    expect(carol.locator(f"[id='{document['id']}'] pre.diff .add").first).to_contain_text("count = 40")


def test_what_is_denied_never_reaches_the_client_and_needs_a_reason(people: SignIn, stack: Stack) -> None:
    bob = people("bob")
    with stack.asking(EDIT) as asked:
        _open_what_waits(bob)
        here = bob.url
        bob.get_by_role("button", name="Deny").click()
        assert bob.url == here
        assert not asked.done()
        bob.get_by_label("Reason").fill("not on a Sunday")
        bob.get_by_role("button", name="Deny").click()
        said = asked.result(30)
    assert "count = 40" not in said.text
    assert "not on a Sunday" in said.text
    expect(bob.get_by_role("status").first).to_contain_text("denied")


def test_who_asked_sees_it_wait_and_may_not_approve(people: SignIn, stack: Stack) -> None:
    alice, bob, carol, dave = people("alice"), people("bob"), people("carol"), people("dave")
    with stack.asking(EDIT) as asked:
        alice.goto("/approvals")
        link = alice.locator("section[aria-labelledby=others] tbody a").first
        expect(link).to_be_visible()
        link.click()
        address = re.sub(r"^https?://[^/]+", "", alice.url)
        assert alice.get_by_role("button", name="Approve").count() == 0
        carol.goto(address)
        expect(carol.locator("pre.diff")).to_be_visible()
        assert carol.get_by_role("button", name="Approve").count() == 0
        response = dave.goto(address)
        assert response is not None
        assert response.status == 403
        bob.goto(address)
        bob.get_by_role("button", name="Approve").click()
        asked.result(30)
        # The page of the other one says so by itself.
        expect(alice.locator("[data-ended=approved]")).to_be_visible()


def test_what_was_decided_meanwhile_is_said_not_decided_again(people: SignIn, stack: Stack) -> None:
    first, second = people("bob"), people("bob")
    with stack.asking(EDIT) as asked:
        _open_what_waits(first)
        second.goto(first.url)
        second.evaluate(
            "document.querySelectorAll('[data-live]').forEach((one) => one.setAttribute('data-paused', ''))"
        )
        first.get_by_role("button", name="Approve").click()
        asked.result(30)
        second.get_by_label("Reason").fill("too late")
        second.get_by_role("button", name="Deny").click()
        expect(second.get_by_role("alert")).to_contain_text("approved already")
