from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.credential import ExchangeSpec
from extproc.credentials.grant import GrantError, grant_from, status_cause

NOW = 1_760_000_000.0
TOKEN = "tid=0123;exp=1760001800;sku=x:mac/+="
SPEC = ExchangeSpec()


def body(**changes: object) -> bytes:
    envelope = {"token": TOKEN, "expires_at": NOW + 1800, "refresh_in": 1500, "sku": "x", **changes}
    return json.dumps({name: value for name, value in envelope.items() if value is not ...}).encode()


def test_a_token_expires_a_minute_after_its_refresh_time_and_is_renewed_when_four_fifths_have_passed() -> None:
    grant = grant_from(body(), SPEC, NOW)
    assert (grant.token.reveal(), grant.authorization.reveal()) == (TOKEN, f"Bearer {TOKEN}")
    assert grant.expires == NOW + 1560
    assert grant.refresh == NOW + 0.8 * 1560
    assert grant.api_host is None


def test_the_refresh_time_counts_when_it_comes_first() -> None:
    assert grant_from(body(refresh_in=100), SPEC, NOW).refresh == NOW + 100


def test_an_early_expires_at_shortens_the_life() -> None:
    grant = grant_from(body(expires_at=NOW + 600), SPEC, NOW)
    assert (grant.expires, grant.refresh) == (NOW + 600, NOW + 480)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"<html>",
        b"\xff",
        body(token=...),
        body(expires_at=...),
        body(refresh_in=...),
        body(token=None),
        body(token=7),
        body(token=""),
        body(token="short"),
        body(token=f"{TOKEN}\r\nx-evil: 1"),
        body(token=f"{TOKEN} and more"),
        body(token="x" * 8193),
        body(expires_at="1760001800"),
        body(expires_at=True),
        body(expires_at=NOW),
        body(refresh_in="1500"),
        body(refresh_in=0),
        body(refresh_in=-5),
        body(endpoints="https://api.githubcopilot.com"),
        body(endpoints={"api": 1}),
    ],
)
def test_an_answer_that_is_not_a_token_is_refused_without_quoting_it(answer: bytes) -> None:
    with pytest.raises(GrantError) as caught:
        grant_from(answer, SPEC, NOW)
    assert "tid=" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("api", "host"),
    [
        ("https://api.githubcopilot.com", "api.githubcopilot.com"),
        ("https://api.business.githubcopilot.com/", "api.business.githubcopilot.com"),
        ("https://API.enterprise.githubcopilot.com:443", "api.enterprise.githubcopilot.com"),
    ],
)
def test_the_api_host_of_the_token_is_taken_from_the_answer(api: str, host: str) -> None:
    assert grant_from(body(endpoints={"api": api, "proxy": "https://p.example"}), SPEC, NOW).api_host == host


@pytest.mark.parametrize("endpoints", [None, {}, {"api": None}, {"proxy": "https://p.example"}])
def test_an_answer_without_an_api_endpoint_names_no_host(endpoints: object) -> None:
    assert grant_from(body(endpoints=endpoints), SPEC, NOW).api_host is None


@pytest.mark.parametrize(
    "api",
    [
        "",
        "api.githubcopilot.com",
        "//api.githubcopilot.com",
        "http://api.githubcopilot.com",
        "https://evil.example",
        "https://api.githubcopilot.com.evil.example",
        "https://evil-api.githubcopilot.com",
        "https://evilapi.githubcopilot.com",
        "https://user@api.githubcopilot.com",
        "https://api.githubcopilot.com@evil.example",
        "https://api.githubcopilot.com:8443",
        "https://api.githubcopilot.com:443:443",
        "https://api.githubcopilot.com.",
        "https://api.githubcopilot.com/v1",
        "https://api.githubcopilot.com?x",
        "https://api.githubcopilot.com#x",
        "https://api.githubcopilot.com\\@evil.example",
        "https://api.githubcopilot.com\n",
        " https://api.githubcopilot.com",
        "https://api.githubcopilot.com\u3002evil.example",
        "http://127.0.0.1:8090",
        "http://localhost",
    ],
)
def test_an_endpoint_that_is_not_exactly_an_allowed_host_spoils_the_answer(api: str) -> None:
    with pytest.raises(GrantError, match=r"exchange\.allowed_hosts"):
        grant_from(body(endpoints={"api": api}), SPEC, NOW)


def test_a_loopback_origin_is_accepted_only_as_it_is_listed() -> None:
    spec = ExchangeSpec(allowed_hosts=("http://127.0.0.1:8090",))
    assert grant_from(body(endpoints={"api": "http://127.0.0.1:8090/"}), spec, NOW).api_host == "127.0.0.1:8090"
    for api in ("http://127.0.0.1:8091", "https://127.0.0.1:8090", "http://127.0.0.1:8090/x", "127.0.0.1:8090"):
        with pytest.raises(GrantError):
            grant_from(body(endpoints={"api": api}), spec, NOW)


@given(st.text() | st.from_regex(r"https?://[a-z.@:/\\]*api\.githubcopilot\.com[a-z.@:/\\]*"))
def test_no_text_leads_to_a_host_that_is_not_allowed(api: str) -> None:
    try:
        host = grant_from(body(endpoints={"api": api}), SPEC, NOW).api_host
    except GrantError:
        return
    assert host in SPEC.allowed_hosts


@given(
    st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_any_other_answer_is_a_grant_error(answer: bytes) -> None:
    with pytest.raises(GrantError):
        grant_from(answer, SPEC, NOW)


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (401, "expired or was revoked"),
        (403, "github_pat_"),
        (404, "gho_"),
        (302, "redirect"),
        (429, "status 429"),
        (500, "status 500"),
    ],
)
def test_the_cause_says_what_to_check(status: int, hint: str) -> None:
    assert hint in status_cause(status)
    assert str(status) in status_cause(status)


def test_a_grant_does_not_show_its_token() -> None:
    assert "tid=" not in repr(grant_from(body(), SPEC, NOW))
