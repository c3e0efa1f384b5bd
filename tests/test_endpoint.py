from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from extproc.endpoint import Endpoint, EndpointKind, Upstream, model_endpoint, path_fault, upstream_of


@pytest.mark.parametrize(
    ("host", "path", "upstream"),
    [
        ("api.github.com", "/chat/completions", Upstream.GITHUB_API),
        ("api.acme.ghe.com", "/", Upstream.GITHUB_API),
        ("copilot-proxy.githubusercontent.com", "/", Upstream.COPILOT_PROXY),
        ("proxy.business.githubcopilot.com", "/", Upstream.COPILOT_PROXY),
        ("api.githubcopilot.com", "/repos/a/b", Upstream.COPILOT_API),
        ("api.business.githubcopilot.com", "/user", Upstream.COPILOT_API),
        ("copilot-api.acme.ghe.com", "/user", Upstream.COPILOT_API),
        ("127.0.0.1", "/chat/completions", Upstream.COPILOT_API),
        ("gateway.example", "/models", Upstream.COPILOT_API),
        ("gateway.example", "/repos/acme/app", Upstream.GITHUB_API),
        ("gateway.example", "/user", Upstream.GITHUB_API),
        ("gateway.example", "/user/repos", Upstream.GITHUB_API),
        ("gateway.example", "/username", Upstream.COPILOT_API),
        ("gateway.example", "/copilot_internal/v2/token", Upstream.GITHUB_API),
        ("gateway.example", "/search/code", Upstream.GITHUB_API),
        ("gateway.example", "/search", Upstream.COPILOT_API),
        ("gateway.example", "/v1/engines/gpt/completions", Upstream.COPILOT_PROXY),
        # Only whole host names are GitHub's.
        ("api.github.com.evil.example", "/models", Upstream.COPILOT_API),
        ("evil-api.github.com", "/models", Upstream.COPILOT_API),
        ("", "/models", Upstream.COPILOT_API),
    ],
)
def test_host_and_then_path_choose_the_upstream(host: str, path: str, upstream: Upstream) -> None:
    assert upstream_of(host, path) is upstream


def test_chat_is_posted_to_either_of_its_paths_and_loses_its_version() -> None:
    expected = Endpoint(EndpointKind.CHAT, Upstream.COPILOT_API, "/chat/completions")
    assert model_endpoint("POST", Upstream.COPILOT_API, "/chat/completions") == expected
    assert model_endpoint("POST", Upstream.COPILOT_API, "/v1/chat/completions") == expected


@pytest.mark.parametrize(
    ("method", "upstream", "path"),
    [
        ("GET", Upstream.COPILOT_API, "/chat/completions"),
        ("post", Upstream.COPILOT_API, "/chat/completions"),
        ("POST", Upstream.GITHUB_API, "/chat/completions"),
        ("POST", Upstream.COPILOT_API, "/chat/completions/"),
        ("POST", Upstream.COPILOT_API, "/Chat/completions"),
        ("POST", Upstream.COPILOT_API, "/v2/chat/completions"),
        ("POST", Upstream.COPILOT_API, "/chat%2Fcompletions"),
        ("POST", Upstream.COPILOT_API, "/responses"),
    ],
)
def test_what_is_not_exactly_a_model_endpoint_is_none(method: str, upstream: Upstream, path: str) -> None:
    assert model_endpoint(method, upstream, path) is None


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/chat/completions",
        "/repos/a/b?page=2&q=a//b/../c%2F",
        "/repos/a.b/c..d/...",
        "/repos/acme/x%20y",
        "/.well-known/x",
        "/models/",
        "/a;b=c/d,e:f@g",
        "/?http://host/",
    ],
)
def test_plain_targets_are_accepted(target: str) -> None:
    assert path_fault(target) is None


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("", "slash"),
        ("*", "slash"),
        ("chat/completions", "slash"),
        ("http://api.github.com/user", "slash"),
        ("api.github.com:443", "slash"),
        ("?a=b", "slash"),
        ("//host/path", "empty segment"),
        ("/a//b", "empty segment"),
        ("/a/b//", "empty segment"),
        ("/a\\b", "backslash"),
        ("/..\\b", "backslash"),
        ("/..", "dot segment"),
        ("/.", "dot segment"),
        ("/a/../b", "dot segment"),
        ("/a/./b", "dot segment"),
        ("/a/..", "dot segment"),
        ("/a/..?x", "dot segment"),
        ("/a/%2e%2e/b", "dot segment"),
        ("/a/%2E./b", "dot segment"),
        ("/a/.%2e", "dot segment"),
        ("/a/%2e", "dot segment"),
        ("/a%2fb", "escaped separator"),
        ("/a%2Fb", "escaped separator"),
        ("/..%2fb", "escaped separator"),
        ("/a%5cb", "escaped separator"),
        ("/a%5Cb", "escaped separator"),
        ("/a%00b", "escaped separator"),
        ("/a%", "broken escape"),
        ("/a%2", "broken escape"),
        ("/a%zz", "broken escape"),
        ("/a%%32%66", "broken escape"),
        ("/a b", "not allowed"),
        ("/a\tb", "not allowed"),
        ("/a\r\nb", "not allowed"),
        ("/a\x00b", "not allowed"),
        ("/a\x7fb", "not allowed"),
        ("/aäb", "not allowed"),
        ("/a#b", "not allowed"),
        ("/a?b#c", "not allowed"),
        ("/a?b c", "not allowed"),
    ],
)
def test_ambiguous_targets_are_refused_with_what_is_wrong(target: str, fault: str) -> None:
    assert fault in (path_fault(target) or "")


TRICKY = st.text(st.sampled_from("/.%2e2E2f5c0\\?#ab;:@é \r\n\x00"), max_size=30)


@given(st.one_of(st.text(), TRICKY, TRICKY.map("/".__add__)))
@example("/%252e%252e/x")
@example("/a/%2e%2e;/b")
def test_what_is_accepted_means_one_path_to_everyone(target: str) -> None:
    if path_fault(target) is not None:
        return
    path = target.partition("?")[0]
    decoded = unquote(path)
    assert decoded.startswith("/")
    assert decoded.count("/") == path.count("/")
    assert not {".", ".."} & set(decoded.split("/"))
    assert not re.search(r"[\\\x00]|//", decoded)
    assert target.isascii()
    assert target.isprintable()


@pytest.mark.parametrize("target", ["/repos/acme/%73ecret", "/%72epos/a/b", "/models%2d1", "/a%5F", "/a%7e"])
def test_a_letter_that_is_escaped_without_need_is_refused(target: str) -> None:
    assert path_fault(target) == "the path escapes a character that needs no escape"
