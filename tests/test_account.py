from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.account import endpoints_for, lead_here, token_answer
from extproc.identity.gateway_token import Minted
from extproc.intercepted import DEFAULT_HOSTS
from extproc.request import Request, read_request
from extproc.secret import Secret

GITHUBS = {
    "api": "https://api.githubcopilot.com",
    "proxy": "https://copilot-proxy.githubusercontent.com",
    "telemetry": "https://copilot-telemetry.githubusercontent.com",
}
HERE = dict.fromkeys(GITHUBS, "http://127.0.0.1:8080")
HOSTS = (*DEFAULT_HOSTS, "*.acme.ghe.com")


def asked(host: str, scheme: str = "https") -> Request:
    request, fault = read_request(
        [(":method", "GET"), (":path", "/copilot_internal/user"), (":authority", host), (":scheme", scheme)]
    )
    assert fault is None
    return request


def led(endpoints: Any, to: Any = HERE) -> Any:
    """Return the endpoints of an account as clients get them."""
    tree = {"login": "octocat", "endpoints": endpoints}
    assert lead_here(tree, to, HOSTS) is (tree["endpoints"] != endpoints)
    assert tree["login"] == "octocat"
    return tree["endpoints"]


# --- where clients are sent ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "scheme", "base"),
    [
        ("127.0.0.1:8080", "http", "http://127.0.0.1:8080"),
        ("gateway.example", "https", "https://gateway.example"),
        ("Gateway.example:8443", "https", "https://Gateway.example:8443"),
        ("[::1]:8443", "https", "https://[::1]:8443"),
    ],
)
def test_a_client_that_knows_the_gateway_is_sent_back_to_it_as_it_knows_it(host: str, scheme: str, base: str) -> None:
    assert endpoints_for(asked(host, scheme), None) == dict.fromkeys(GITHUBS, base)


def test_the_operator_may_say_what_the_gateway_is_called() -> None:
    found = endpoints_for(asked("10.0.0.1:8080", "http"), "https://gateway.example/copilot")
    assert found == dict.fromkeys(GITHUBS, "https://gateway.example/copilot")


@pytest.mark.parametrize("url", [None, "https://gateway.example"])
@pytest.mark.parametrize(
    "host", ["api.github.com", "api.github.com:443", "api.githubcopilot.com", "api.business.githubcopilot.com"]
)
def test_a_client_that_knows_github_alone_is_sent_to_hosts_that_are_intercepted(host: str, url: str | None) -> None:
    found = endpoints_for(asked(host), url)
    assert found == GITHUBS
    assert all(address.removeprefix("https://") in DEFAULT_HOSTS for address in found.values())


# --- the answer of the token endpoint --------------------------------------------------------------------------------


def test_a_token_comes_with_its_times_and_what_clients_read_beside_it() -> None:
    answer = json.loads(token_answer(Minted(Secret("tid=1;exp=2:mac"), expires_at=2, refresh_in=1500), HERE))
    assert (answer["token"], answer["expires_at"], answer["refresh_in"]) == ("tid=1;exp=2:mac", 2, 1500)
    assert answer["endpoints"] == HERE
    assert (answer["chat_enabled"], answer["telemetry"], answer["public_suggestions"]) == (True, "disabled", "disabled")


# --- the endpoints of a user -----------------------------------------------------------------------------------------


def test_every_address_of_a_user_becomes_the_gateways_where_the_client_knows_that() -> None:
    given_ = {**GITHUBS, "origin-tracker": "https://origin-tracker.githubusercontent.com"}
    assert led(given_) == {**HERE, "origin-tracker": HERE["api"]}


@pytest.mark.parametrize(
    "address",
    ["https://api.business.githubcopilot.com", "https://api.githubcopilot.com/a?b#c", "https://copilot.acme.ghe.com"],
)
def test_the_host_of_a_plan_stays_where_it_is_intercepted(address: str) -> None:
    assert led({"api": address, "proxy": GITHUBS["proxy"]}, endpoints_for(asked("api.github.com"), None)) == {
        "api": address,
        "proxy": GITHUBS["proxy"],
    }


HOSTILE = [
    *("https://evil.example", "http://api.githubcopilot.com", "https://api.githubcopilot.com:8443", "//evil.example"),
    *("https://me@api.githubcopilot.com", "https://api.githubcopilot.com@evil.example", "javascript:alert(1)", ""),
    *("https://evil.example\\@api.githubcopilot.com", "https://evil.example\\.acme.ghe.com", "https://[::1", "https:"),
    *("https://localhost\\.acme.ghe.com", "https://localhost\\.acme.ghe.com/x", "https://a.b.acme.ghe.com"),
    *("https://api.githubcopilot.com.evil.example", "https://API.githubcopilot.com", "https://api.githubcopilot.com."),
    *(None, 7, True, ["https://evil.example"], {"api": "https://evil.example"}),
]


@pytest.mark.parametrize("address", HOSTILE, ids=repr)
def test_no_other_address_stays_whatever_it_looks_like(address: Any) -> None:
    githubs = endpoints_for(asked("api.github.com"), None)
    assert led({"telemetry": address}, githubs) == {"telemetry": GITHUBS["telemetry"]}
    assert led({"new": address}, githubs) == {"new": GITHUBS["api"]}
    assert led({"api": address}) == {"api": HERE["api"]}


@pytest.mark.parametrize("tree", [None, [], "x", 1, {}, {"endpoints": None}, {"endpoints": ["https://a"]}])
def test_what_names_no_endpoints_stays_as_it_is(tree: Any) -> None:
    before = json.dumps(tree)
    assert lead_here(tree, HERE, HOSTS) is False
    assert json.dumps(tree) == before


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.from_regex(r"https://[a-z.\\@:/]{0,30}"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=9), json_values, max_size=4), st.booleans())
def test_whatever_a_user_answers_only_addresses_of_ours_are_left(
    endpoints: dict[str, Any],
    intercepted: bool,  # noqa: FBT001
) -> None:
    to = endpoints_for(asked("api.github.com" if intercepted else "127.0.0.1:8080", "http"), None)
    tree = {"endpoints": endpoints}
    lead_here(tree, to, DEFAULT_HOSTS)
    hosts = {address.split("/")[2] for address in tree["endpoints"].values()}
    assert hosts <= ({*DEFAULT_HOSTS} if intercepted else {"127.0.0.1:8080"})
    assert tree["endpoints"].keys() == endpoints.keys()
