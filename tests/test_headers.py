from __future__ import annotations

from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.headers import (
    UPSTREAM_HEADER,
    carries_credential,
    carrying_credentials,
    client_facts,
    removed_from_request,
    removed_from_response,
    trace_id,
    without_credential_params,
)

REMOVED = [
    "authorization",
    "proxy-authorization",
    "x-gateway-authorization",
    "x-gateway-decision-id",
    "x-api-key",
    "api-key",
    "apikey",
    "x-goog-api-key",
    "x-goog-iam-authorization-token",
    "ocp-apim-subscription-key",
    "x-amz-security-token",
    "x-auth-token",
    "private-token",
    "x-github-token",
    "x-forwarded-access-token",
    "cf-access-client-secret",
    "cf-access-jwt-assertion",
    "cookie",
    "request-hmac",
    "copilot-edits-session",
    "forwarded",
    "via",
    "proxy-connection",
    "x-real-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "x-client-ip",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-client-cert",
    "x-envoy-external-address",
    "x-envoy-original-path",
    "x-http-method-override",
    "x-original-url",
    "x-rewrite-url",
]

# What Copilot clients were seen to send and the upstream needs, and names that only look like credentials.
KEPT = [
    ":method",
    ":path",
    ":authority",
    "host",
    "user-agent",
    "accept",
    "accept-encoding",
    "content-type",
    "content-length",
    "content-encoding",
    "copilot-integration-id",
    "copilot-harness-id",
    "editor-version",
    "editor-plugin-version",
    "copilot-language-server-version",
    "openai-intent",
    "openai-organization",
    "x-github-api-version",
    "x-initiator",
    "x-interaction-type",
    "x-interaction-id",
    "x-client-session-id",
    "x-agent-task-id",
    "x-client-machine-id",
    "x-github-repository-host",
    "x-github-repository-nwo",
    "x-stainless-helper-method",
    "anthropic-version",
    "anthropic-beta",
    "copilot-vision-request",
    "vscode-sessionid",
    "vscode-machineid",
    "x-request-id",
    "mcp-session-id",
    "x-mcp-toolsets",
    "copilot-session-token",
    "idempotency-key",
    "sec-websocket-key",
    "if-none-match",
    "author",
    "tokenizer",
    "x-token-count",
    "authorization-hint",
    "viable",
    "cookies-accepted",
]


@pytest.mark.parametrize("name", REMOVED)
def test_a_credential_or_proxy_header_does_not_go_upstream(name: str) -> None:
    assert removed_from_request(["accept", name, "user-agent"]) == [name]


@pytest.mark.parametrize("name", KEPT)
def test_a_header_the_upstream_needs_is_kept(name: str) -> None:
    assert removed_from_request([name]) == []


def test_removal_does_not_depend_on_the_case_of_a_name() -> None:
    assert removed_from_request(["Authorization", "X-API-KEY"]) == ["Authorization", "X-API-KEY"]


def test_a_repeated_header_is_named_once_and_the_order_is_kept() -> None:
    assert removed_from_request(["via", "cookie", "via", "accept", "cookie"]) == ["via", "cookie"]


def test_the_upstream_header_is_left_to_the_caller_but_nothing_that_begins_like_it() -> None:
    assert removed_from_request([UPSTREAM_HEADER, f"{UPSTREAM_HEADER}-x"]) == [f"{UPSTREAM_HEADER}-x"]


def test_credentials_and_ways_around_the_gateway_are_removed_from_a_response() -> None:
    names = ["date", "set-cookie", "copilot-edits-session", "x-gateway-decision-id", "alt-svc", "set-cookie"]
    assert removed_from_response(names) == ["set-cookie", "copilot-edits-session", "x-gateway-decision-id", "alt-svc"]


def test_the_headers_clients_rely_on_stay_in_a_response() -> None:
    names = "server connection x-github-request-id x-request-id retry-after x-quota-snapshot-chat x-ratelimit-remaining"
    assert removed_from_response(names.split()) == []


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/models", "/models"),
        ("/models?", "/models?"),
        ("/models?key=abc", "/models"),
        ("/models?key", "/models"),
        ("/a?x=1&key=abc&y=2", "/a?x=1&y=2"),
        ("/a?x=1&apiKey=a&API_KEY=b&Access_Token=c&token=d&AUTH=e", "/a?x=1"),
        ("/a?%6b%65%79=abc&x=%20+%2F&&=", "/a?x=%20+%2F&&="),
        ("/a?api%5Fkey=abc&x=1", "/a?x=1"),
        ("/a?+key=abc&token[]=a&token%5B0%5D=b&x=1", "/a?x=1"),
        ("/a?monkey=1&keys=2&tokens=3&author=4", "/a?monkey=1&keys=2&tokens=3&author=4"),
        ("/a?q=key=abc?token", "/a?q=key=abc?token"),
        ("/key=abc&token=d", "/key=abc&token=d"),
    ],
)
def test_only_credential_parameters_leave_a_target(target: str, expected: str) -> None:
    assert without_credential_params(target) == expected


_PARAM = st.from_regex(r"[a-z%+=\[\]0-9]{0,8}", fullmatch=True)


@given(st.lists(_PARAM), st.sampled_from(["key", "apiKey", "api-key", "access_token", "TOKEN", "auth"]), st.integers(0))
def test_a_credential_parameter_is_found_anywhere_and_the_rest_keeps_its_bytes(
    params: list[str], name: str, at: int
) -> None:
    escaped = "".join(quote(char, safe="") if at % 2 else f"%{ord(char):02X}" for char in name)
    plain = without_credential_params("/p?" + "&".join(params))
    with_secret = [*params]
    with_secret.insert(at % (len(params) + 1), f"{escaped}=s3cret-value")
    found = without_credential_params("/p?" + "&".join(with_secret))
    assert "s3cret-value" not in found
    assert parse_qsl(found.partition("?")[2]) == parse_qsl(plain.partition("?")[2])


def test_facts_are_read_from_a_command_line_client() -> None:
    facts = client_facts(
        [
            ("user-agent", "copilot/1.0.102"),
            ("editor-version", "copilot/1.0.102"),
            ("copilot-integration-id", "copilot-developer-cli"),
            ("x-initiator", "user"),
            ("x-interaction-id", "i-1"),
            ("x-interaction-type", "conversation-user"),
            ("x-client-session-id", "s-1"),
            ("openai-intent", "conversation-agent"),
            ("x-github-repository-nwo", "octo/repo"),
        ]
    )
    assert facts.user_agent == "copilot/1.0.102"
    assert facts.editor_version == "copilot/1.0.102"
    assert facts.editor_plugin_version is None
    assert facts.integration_id == "copilot-developer-cli"
    assert (facts.initiator, facts.interaction_id, facts.interaction_type) == ("user", "i-1", "conversation-user")
    assert (facts.session_id, facts.intent, facts.repository) == ("s-1", "conversation-agent", "octo/repo")


@pytest.mark.parametrize(
    ("header", "fact"),
    [
        ("x-agent-task-id", "task_id"),
        ("copilot-vision-request", "vision_request"),
        ("x-github-api-version", "api_version"),
        ("anthropic-version", "anthropic_version"),
        ("anthropic-beta", "anthropic_beta"),
    ],
)
def test_what_else_decides_over_a_request_is_a_fact(header: str, fact: str) -> None:
    assert getattr(client_facts([(header, "v 1")]), fact) == "v 1"
    assert getattr(client_facts([]), fact) is None


def test_absent_empty_and_placeholder_values_are_none() -> None:
    facts = client_facts([("user-agent", " \x00 "), ("x-github-repository-nwo", "__no_repository__")])
    assert (facts.user_agent, facts.repository, facts.session_id) == (None, None, None)


def test_the_session_is_the_first_known_header_whatever_the_order() -> None:
    headers = [("vscode-sessionid", "v"), ("x-session-id", "x"), ("x-client-session-id", "c")]
    assert client_facts(headers).session_id == "c"
    assert client_facts(headers[:2]).session_id == "x"
    assert client_facts(headers[:1]).session_id == "v"


def test_the_first_value_of_a_repeated_header_wins() -> None:
    assert client_facts([("x-initiator", "agent"), ("x-initiator", "user")]).initiator == "agent"


@given(st.text())
def test_a_fact_is_bounded_and_has_nothing_a_terminal_would_obey(value: str) -> None:
    fact = client_facts([("user-agent", value)]).user_agent
    assert fact is None or (fact.isprintable() and 0 < len(fact) <= 256)
    if value.isprintable() and 0 < len(value.strip()) <= 256:
        assert fact == value.strip()


def test_control_characters_are_removed_from_a_fact_before_it_is_cut() -> None:
    assert client_facts([("user-agent", "a\x1b\n\u202eb" + "c" * 300)]).user_agent == "ab" + "c" * 254


TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_trace_passes_and_its_id_is_known() -> None:
    parent = f"00-{TRACE}-{SPAN}-01"
    assert trace_id([("accept", "x"), ("traceparent", parent)]) == TRACE
    assert removed_from_request(["traceparent", "tracestate", "baggage"]) == []


@pytest.mark.parametrize("parent", [f"01-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-00-what-will-be"])
def test_later_versions_may_say_more(parent: str) -> None:
    assert trace_id([("traceparent", parent)]) == TRACE


@pytest.mark.parametrize(
    "parent",
    [
        "",
        TRACE,
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-0",
        f"01-{TRACE}-{SPAN}-01more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_what_is_no_traceparent_has_no_trace(parent: str) -> None:
    assert trace_id([("traceparent", parent)]) is None


def test_two_traceparents_are_none() -> None:
    parent = ("traceparent", f"00-{TRACE}-{SPAN}-01")
    assert trace_id([parent, parent]) is None
    assert trace_id([]) is None


@given(st.text(max_size=80))
def test_whatever_a_traceparent_says_an_id_has_32_hex_digits(parent: str) -> None:
    found = trace_id([("traceparent", parent)])
    assert found is None or (len(found) == 32 and set(found) <= set("0123456789abcdef"))


VALUES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["gho_" + "a" * 16, "gho_" + "a" * 15, "github_pat_" + "b" * 16, "eyJhbGciOiJS.eyJpc3MiOiJo.", "_"]
    ),
    st.sampled_from(["ghu_", "aaaaaaaaaaaaaaaa", "eyJhbGciOiJS.", "eyJpc3MiOiJo.", "x\ny"]),
)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", "d"]), VALUES), max_size=6))
def test_of_several_headers_those_carry_a_credential_that_do_so_by_themselves(headers: list[tuple[str, str]]) -> None:
    assert carrying_credentials(headers) == [name for name, value in headers if carries_credential(value)]


def test_what_is_known_of_the_names_of_one_request_does_not_pass_for_another() -> None:
    assert removed_from_request(["accept", "cookie"]) == ["cookie"]
    assert removed_from_request(["cookie", "accept", "via"]) == ["cookie", "via"]
    found = removed_from_request(["accept", "cookie"])
    found.append("mine")
    assert removed_from_request(["accept", "cookie"]) == ["cookie"]
