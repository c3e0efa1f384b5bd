from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from extproc.endpoint import Endpoint, EndpointKind, Upstream, endpoint_of, path_fault, upstream_of


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
        ("gateway.example", "/chunks", Upstream.GITHUB_API),
        ("gateway.example", "/embeddings/models", Upstream.GITHUB_API),
        ("gateway.example", "/embeddings", Upstream.COPILOT_API),
        ("gateway.example", "/search", Upstream.COPILOT_API),
        ("gateway.example", "/v1/engines/gpt/completions", Upstream.COPILOT_PROXY),
        ("gateway.example", "/copilot_internal/user", Upstream.GITHUB_API),
        ("gateway.example", "/copilot/mcp_registry", Upstream.GITHUB_API),
        ("gateway.example", "/copilot/other", Upstream.COPILOT_API),
        ("gateway.example", "/telemetry", Upstream.TELEMETRY),
        ("gateway.example", "/telemetry/x", Upstream.COPILOT_API),
        ("copilot-telemetry.githubusercontent.com", "/telemetry", Upstream.TELEMETRY),
        ("telemetry.githubcopilot.com", "/", Upstream.TELEMETRY),
        ("telemetry.business.githubcopilot.com", "/models", Upstream.TELEMETRY),
        ("copilot-telemetry-service.acme.ghe.com", "/telemetry", Upstream.TELEMETRY),
        ("api.github.com", "/telemetry", Upstream.GITHUB_API),
        ("github.com", "/acme/app.git/info/refs", Upstream.GITHUB_WEB),
        ("acme.ghe.com", "/repos/acme/app", Upstream.GITHUB_WEB),
        # Only whole host names are GitHub's.
        ("api.github.com.evil.example", "/models", Upstream.COPILOT_API),
        ("evil-api.github.com", "/models", Upstream.COPILOT_API),
        ("www.github.com", "/x", Upstream.COPILOT_API),
        ("evilgithub.com", "/x", Upstream.COPILOT_API),
        ("a.b.ghe.com", "/x", Upstream.COPILOT_API),
        ("telemetry.githubcopilot.com.evil.example", "/x", Upstream.COPILOT_API),
        ("", "/models", Upstream.COPILOT_API),
    ],
)
def test_host_and_then_path_choose_the_upstream(host: str, path: str, upstream: Upstream) -> None:
    assert upstream_of(host, path) is upstream


COPILOT, PROXY, GITHUB = Upstream.COPILOT_API, Upstream.COPILOT_PROXY, Upstream.GITHUB_API
TELEMETRY, WEB = Upstream.TELEMETRY, Upstream.GITHUB_WEB


@pytest.mark.parametrize(
    ("method", "upstream", "path", "kind"),
    [
        ("POST", COPILOT, "/chat/completions", "chat"),
        ("POST", PROXY, "/chat/completions", "chat"),
        ("POST", COPILOT, "/completions", "completions"),
        ("POST", PROXY, "/v1/engines/gpt-41-copilot/completions", "completions"),
        ("POST", COPILOT, "/responses", "responses"),
        ("POST", COPILOT, "/v1/messages", "messages"),
        ("POST", COPILOT, "/v1/messages/count_tokens", "messages"),
        ("POST", COPILOT, "/embeddings", "embeddings"),
        ("POST", GITHUB, "/embeddings", "embeddings"),
        ("POST", GITHUB, "/embeddings/code/search", "embeddings"),
        ("POST", GITHUB, "/chunks", "embeddings"),
        ("POST", COPILOT, "/agents", "agents"),
        ("POST", COPILOT, "/agents/chat", "agents"),
        ("POST", COPILOT, "/agents/github-code-review", "agents"),
        ("GET", COPILOT, "/agents/sessions/1/logs", "agents"),
        ("PUT", COPILOT, "/agents/swe/internal/memory/v0/acme/app", "agents"),
        ("GET", COPILOT, "/models", "models"),
        ("GET", PROXY, "/models", "models"),
        ("GET", COPILOT, "/models/gpt-4.1", "models"),
        ("GET", GITHUB, "/embeddings/models", "models"),
        ("POST", COPILOT, "/models/session", "models"),
        ("POST", COPILOT, "/models/session/intent", "models"),
        ("POST", COPILOT, "/models/gpt-4.1/policy", "models"),
        ("POST", COPILOT, "/auto", "models"),
        ("POST", COPILOT, "/mcp", "mcp"),
        ("POST", COPILOT, "/mcp/", "mcp"),
        ("GET", COPILOT, "/mcp/readonly", "mcp"),
        ("DELETE", COPILOT, "/mcp/x/issues/readonly", "mcp"),
        ("GET", GITHUB, "/", "github"),
        ("GET", GITHUB, "/user", "github"),
        ("HEAD", GITHUB, "/repos/ACME/app", "github"),
        ("PUT", GITHUB, "/repos/acme/app/contents/a%20b/Copilot_internal.py", "github"),
        ("POST", GITHUB, "/repos/acme/app/copilot_internal/embeddings_index", "github"),
        ("PATCH", GITHUB, "/repos/acme/app/pulls/1", "github"),
        ("DELETE", GITHUB, "/repos/acme/app/git/refs/heads/x", "github"),
        ("GET", GITHUB, "/copilot_internal/v2/token", "account"),
        ("GET", GITHUB, "/copilot_internal/user", "account"),
        ("GET", GITHUB, "/copilot_internal/managed_settings", "account"),
        ("GET", GITHUB, "/copilot_internal/team_customizations", "account"),
        ("GET", GITHUB, "/copilot_internal/content_exclusion", "account"),
        ("GET", GITHUB, "/copilot/mcp_registry", "account"),
        ("GET", TELEMETRY, "/telemetry", "telemetry"),
        ("POST", TELEMETRY, "/telemetry", "telemetry"),
        ("POST", GITHUB, "/graphql", "graphql"),
    ],
)
def test_every_endpoint_of_copilot_and_github_is_known(method: str, upstream: Upstream, path: str, kind: str) -> None:
    model = "gpt-41-copilot" if "engines" in path else None
    assert endpoint_of(method, upstream, path) == Endpoint(EndpointKind(kind), upstream, path, model)


@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/responses", "/embeddings"])
def test_what_openai_sdks_post_loses_its_version(path: str) -> None:
    versioned = endpoint_of("POST", COPILOT, f"/v1{path}")
    assert versioned == endpoint_of("POST", COPILOT, path)
    assert versioned is not None
    assert endpoint_of("POST", COPILOT, f"/v1/v1{path}") is None


def test_models_are_listed_with_and_without_a_version() -> None:
    assert endpoint_of("GET", COPILOT, "/v1/models") == Endpoint(EndpointKind.MODELS, COPILOT, "/models")
    assert endpoint_of("GET", COPILOT, "/v1/models/o1") == Endpoint(EndpointKind.MODELS, COPILOT, "/models/o1")


@pytest.mark.parametrize(
    ("method", "upstream", "path"),
    [
        ("GET", COPILOT, "/chat/completions"),
        ("post", COPILOT, "/chat/completions"),
        ("POST", GITHUB, "/chat/completions"),
        ("POST", GITHUB, "/v1/chat/completions"),
        ("POST", COPILOT, "/chat/completions/"),
        ("POST", COPILOT, "/Chat/completions"),
        ("POST", COPILOT, "/v2/chat/completions"),
        ("POST", COPILOT, "/chat%2Fcompletions"),
        ("POST", COPILOT, "/chat/complet\u0131ons"),
        ("POST", COPILOT, "/chat/completions\n"),
        ("POST", COPILOT, "/messages"),
        ("POST", PROXY, "/embeddings"),
        ("POST", COPILOT, "/chunks"),
        ("POST", PROXY, "/v1/engines/a/b/completions"),
        ("POST", PROXY, "/v1/engines/\uff41/completions"),
        ("POST", COPILOT, "/models"),
        ("DELETE", COPILOT, "/models/gpt-4.1"),
        ("GET", COPILOT, "/models/gpt-4.1/policy"),
        ("DELETE", COPILOT, "/agents/sessions/1"),
        ("POST", COPILOT, "/agentsmith"),
        ("POST", PROXY, "/mcp"),
        ("POST", COPILOT, "/mcpx"),
        ("GET", COPILOT, "/repos/acme/app"),
        ("GET", COPILOT, "/_ping"),
        ("GET", GITHUB, "/graphql"),
        ("POST", GITHUB, "/graphql/"),
        ("POST", GITHUB, "/GraphQL"),
        ("POST", GITHUB, "/graphql;a"),
        ("POST", GITHUB, "/graphql.json"),
        ("POST", GITHUB, "/api/graphql"),
        ("GET", COPILOT, "/copilot/mcp_registry"),
        ("POST", GITHUB, "/copilot/mcp_registry"),
        ("GET", GITHUB, "/copilot/mcp_registry/"),
        ("GET", GITHUB, "/copilot/other"),
        ("GET", GITHUB, "/copilot_internal/user/x"),
        ("PUT", TELEMETRY, "/telemetry"),
        ("POST", TELEMETRY, "/telemetry/"),
        ("POST", TELEMETRY, "/v1/track"),
        ("GET", TELEMETRY, "/"),
        ("POST", COPILOT, "/telemetry"),
        ("POST", WEB, "/telemetry"),
        ("GET", WEB, "/acme/app"),
        ("GET", WEB, "/user"),
        ("POST", WEB, "/chat/completions"),
        ("CONNECT", Upstream.TUNNEL, ""),
        ("GET", Upstream.TUNNEL, "/"),
        ("OPTIONS", GITHUB, "/user"),
        ("TRACE", GITHUB, "/user"),
        ("GET", GITHUB, "user"),
        ("GET", GITHUB, ""),
        ("GET", GITHUB, "//user"),
    ],
)
def test_what_is_not_exactly_an_endpoint_is_none(method: str, upstream: Upstream, path: str) -> None:
    assert endpoint_of(method, upstream, path) is None


TOKEN_PATHS = [
    "/copilot_internal/v2/nltoken",
    "/copilot_internal/v2/token/",
    "/copilot_internal/v2/token/x",
    "/copilot_internal/V2/token",
    "/copilot_internal/v1/token",
    "/copilot_internal",
    "/Copilot_Internal/v2/token",
    "/copilot%5Finternal/v2/token",
    "/copilot%255Finternal/v2/token",
    "/copilot_internal;x/v2/token",
    "/copilot_internal.json",
    "/api/v3/copilot_internal/v2/token",
    "/\uff43opilot_internal/v2/token",
]


@pytest.mark.parametrize("path", TOKEN_PATHS)
@pytest.mark.parametrize("upstream", Upstream)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_other_spellings_of_token_endpoints_are_never_known(method: str, upstream: Upstream, path: str) -> None:
    assert endpoint_of(method, upstream, path) is None


@pytest.mark.parametrize("path", ["/copilot_internal/v2/token", "/copilot_internal/user"])
@pytest.mark.parametrize("upstream", Upstream)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "PUT", "DELETE", "get"])
def test_token_endpoints_are_known_for_get_at_the_github_api_alone(method: str, upstream: Upstream, path: str) -> None:
    found = endpoint_of(method, upstream, path)
    is_known = (method, upstream) == ("GET", GITHUB)
    assert found == (Endpoint(EndpointKind.ACCOUNT, GITHUB, path) if is_known else None)


@given(st.sampled_from(["GET", "POST", "PUT", "x"]), st.sampled_from(Upstream), st.text(), st.text())
def test_no_path_makes_routing_raise(method: str, upstream: Upstream, start: str, rest: str) -> None:
    for path in (start, f"/{start}/{rest}", f"/mcp/{rest}", f"/repos/{rest}"):
        found = endpoint_of(method, upstream, path)
        assert found is None or found.path == path


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
        ("/a%0Ab", "escaped separator"),
        ("/a%1fb", "escaped separator"),
        ("/a%7Fb", "escaped separator"),
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
