"""Lists, replay, findings and trace, over a record of ten thousand exchanges and what happens meanwhile."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import SignIn
from tests.browser.seed import LONG_SESSION
from tests.browser.stack import Stack

SECRET = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1eF3hJ"[:36].ljust(36, "x")


def test_a_list_of_thousands_is_paged_through_and_back(people: SignIn) -> None:
    page = people("carol")
    page.goto("/sessions?repository=acme/*")
    seen: set[str] = set()
    for _ in range(5):
        links = [link.get_attribute("href") or "" for link in page.locator("tbody tr a").all()]
        assert len(links) == 50
        assert not seen & set(links)
        seen |= set(links)
        page.get_by_role("link", name="Older").click()
        page.wait_for_load_state()
    page.get_by_role("link", name="Newer").click()
    page.wait_for_load_state()
    assert page.locator("tbody tr").count() == 50


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("User", "yuri", "yuri"),
        ("Model", "gemini-2.5-pro", "gemini-2.5-pro"),
        ("Repository", "acme/app5", "acme/app5"),
        ("Path", "src/module15*", "acme"),
        ("Text", "file number 4321", "dev"),
    ],
)
def test_each_filter_finds_and_stands_in_the_address(people: SignIn, field: str, value: str, wanted: str) -> None:
    page = people("carol")
    page.goto("/sessions")
    page.keyboard.press("/")
    page.get_by_label(field, exact=True).fill(value)
    page.keyboard.press("Enter")
    page.wait_for_url("**/sessions?*")
    expect(page.locator("tbody tr").first).to_contain_text(wanted)
    # Whoever gets the link sees the same.
    shown = page.locator("tbody tr a").first.get_attribute("href")
    other = people("carol")
    other.goto(page.url)
    assert other.locator("tbody tr a").first.get_attribute("href") == shown


def test_a_search_that_makes_no_sense_is_told_so(people: SignIn) -> None:
    page = people("carol")
    for query in ("since=tomorrow-ish", "after=garbage", "outcome=nope"):
        response = page.goto(f"/sessions?{query}")
        assert response is not None
        assert response.status < 500
        expect(page.get_by_role("alert")).to_be_visible()


def test_new_sessions_come_by_themselves_where_the_list_is_live(people: SignIn, stack: Stack) -> None:
    page = people("carol")
    page.goto("/sessions")
    page.get_by_role("link", name="Live: off").click()
    session = stack.recorded(stack.ask("live and direct"))["session"]
    expect(page.locator(f"a[href='/sessions/{session}']")).to_be_visible()


def test_a_session_of_a_thousand_exchanges_is_shown_in_parts(people: SignIn) -> None:
    page = people("carol")
    page.goto(f"/sessions/{LONG_SESSION}")
    assert page.locator("article.exchange").count() == 200
    page.get_by_role("link", name="Next exchanges").first.click()
    page.wait_for_url("**start=200")
    assert page.locator("article.exchange").count() == 200


def test_a_session_is_played_to_its_end(people: SignIn, stack: Stack) -> None:
    stack.ask("count to 12", user="bob")
    document = stack.recorded(stack.ask("count to 15", user="bob"))
    page = people("bob")
    page.goto(f"/sessions/{document['session']}")
    answer = page.locator(f"[id='{document['id']}']")
    expect(answer).to_be_visible()
    page.keyboard.press("Space")
    # From the beginning: what comes later is not there yet.
    expect(answer).to_be_hidden()
    for _ in range(4):
        page.keyboard.press("+")
    expect(answer).to_be_visible(timeout=60_000)
    expect(page.get_by_role("button", name="Play")).to_be_visible(timeout=60_000)
    expect(answer.locator("[data-rendered]")).to_contain_text("15")


def test_an_exchange_is_proved_by_a_button(people: SignIn, stack: Stack) -> None:
    document = stack.recorded(stack.ask("something worth a proof"))
    page = people("alice")
    page.goto(f"/sessions/{document['session']}")
    article = page.locator(f"[id='{document['id']}']")
    # A checkpoint is signed ten seconds after a new entry.
    for _ in range(30):
        article.get_by_role("button", name="Prove it").click()
        expect(article.locator("[data-proof]")).not_to_be_empty()
        if "Proven" in article.locator("[data-proof]").inner_text():
            break
        page.wait_for_timeout(1000)
    expect(article.locator("[data-proof]")).to_contain_text("Proven")
    with page.expect_download() as receipt:
        article.get_by_role("link", name="Receipt").click()
    assert receipt.value.path().read_bytes().startswith(b"{")


def test_findings_are_found_by_the_secret_which_is_never_shown(people: SignIn, stack: Stack) -> None:
    document = stack.recorded(stack.ask(f"why does CI fail with GITHUB_TOKEN={SECRET} set?"))
    (finding, *_) = document["findings"]
    page = people("alice")
    page.goto(f"/sessions/{document['session']}")
    mark = page.locator(f"[id='{document['id']}'] mark.finding").first
    expect(mark).to_contain_text("[MASKED:")
    assert finding["fingerprint"] in (mark.get_attribute("title") or "")
    page.goto("/findings")
    page.locator("input[type=password]").fill(SECRET)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**fingerprint={finding['fingerprint']}*")
    expect(page.locator("tbody")).to_contain_text(finding["rule"])
    assert SECRET not in page.content()
    assert SECRET not in page.url


def test_a_snippet_is_traced_to_the_suggestion_it_came_from(people: SignIn, stack: Stack) -> None:
    text = (
        'resource "aws_instance" "traced_web_server" {\\n  instance_type = "m5.large"\\n  monitoring_enabled = true\\n}'
    )
    document = stack.recorded(stack.ask(f"create src/web.hcl containing '{text}'", tools=("create",)))
    page = people("carol")
    page.goto("/trace")
    page.locator("textarea").fill(text.replace("\\n", "\n"))
    page.get_by_role("button", name="Trace").click()
    expect(page.locator(f"a[href='/sessions/{document['session']}#{document['id']}']").first).to_be_visible()
    expect(page.locator("tbody tr").first).to_contain_text("exact")
    expect(page.locator("tbody tr").first).to_contain_text("alice")
