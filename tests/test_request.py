from __future__ import annotations

from dataclasses import replace

import pytest

from extproc.credential import Credential
from extproc.endpoint import Endpoint, EndpointKind, Upstream
from extproc.errors import Code, Refusal
from extproc.events import Connect, Headers
from extproc.request import Request, misdirected, read_request, upstream_headers
from extproc.secret import Secret

CREDENTIAL = Credential(
    authorization=Secret("Bearer upstream"),
    headers={"x-github-api-version": "2025-04-01"},
    headers_if_missing={"editor-version": "ours", "copilot-integration-id": "ours"},
    api_host=None,
    secrets=(Secret("upstream-secret"),),
)


def head(method: str, path: str, *fields: tuple[str, str], host: str = "gateway:8080") -> Headers:
    return [(":method", method), (":path", path), (":authority", host), *fields]


def read(method: str, path: str, *fields: tuple[str, str], host: str = "gateway:8080") -> Request:
    request, fault = read_request(head(method, path, *fields, host=host))
    assert fault is None
    return request


def test_a_head_is_read() -> None:
    request = read("POST", "/v1/chat/completions?a=1", ("user-agent", "copilot/1.0"), host="API.githubcopilot.com:443")
    assert (request.method, request.host, request.target) == (
        "POST",
        "api.githubcopilot.com",
        "/v1/chat/completions?a=1",
    )
    assert (request.path, request.upstream) == ("/v1/chat/completions", Upstream.COPILOT_API)
    assert request.model_endpoint == Endpoint(EndpointKind.CHAT, Upstream.COPILOT_API, "/chat/completions")
    assert request.client.user_agent == "copilot/1.0"


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("gateway", "gateway"),
        ("gateway:80", "gateway"),
        ("[::1]:8080", "[::1]"),
        ("[::1]", "[::1]"),
        ("gateway:", "gateway:"),
        ("", ""),
    ],
)
def test_the_host_is_the_authority_without_its_port(authority: str, host: str) -> None:
    assert read("GET", "/", host=authority).host == host


def test_a_credential_in_the_query_is_neither_kept_nor_recorded() -> None:
    request = read("GET", "/models?token=abc&page=2")
    assert request.target == "/models?page=2"
    assert "abc" not in repr(request.recorded("metadata"))


def test_the_repository_is_the_one_of_a_github_path_else_what_the_client_says() -> None:
    said = ("x-github-repository-nwo", "acme/said")
    assert read("GET", "/repos/acme/app/pulls", said).repository == "acme/app"
    assert read("POST", "/chat/completions", said).repository == "acme/said"
    assert read("GET", "/user").repository is None
    # The client's word does not count where GitHub goes by the path; and GitHub folds case.
    assert read("GET", "/user", said).repository is None
    assert read("GET", "/REPOS/acme/secret", said, host="api.github.com").repository == "acme/secret"
    # At the Copilot API the path names no repository.
    assert read("GET", "/repos/acme/app", host="api.githubcopilot.com").repository is None


def test_what_is_recorded_of_the_head() -> None:
    assert read("GET", "/repos/acme/app?page=2").recorded("metadata") == {
        "method": "GET",
        "host": "gateway",
        "path": "/repos/acme/app?page=2",
        "upstream": "github-api",
        "endpoint": "metadata",
        "repository": "acme/app",
    }


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        (head("GET", "/a/../b"), Code.REQUEST_PATH),
        (head("GET", "/a?token=x#y"), Code.REQUEST_PATH),
        (head("GET", ""), Code.REQUEST_PATH),
        ([(":method", "GET")], Code.REQUEST_PATH),
        (head("GET", "/a", (":path", "/a")), Code.REQUEST_HEADERS),
        (head("GET", "/a", (":method", "POST")), Code.REQUEST_HEADERS),
        (head("GET", "/a", (":authority", "other")), Code.REQUEST_HEADERS),
        (head("POST", "/a", ("content-encoding", "gzip")), Code.REQUEST_HEADERS),
        (head("POST", "/a", ("content-encoding", "identity"), ("content-encoding", "br")), Code.REQUEST_HEADERS),
    ],
)
def test_an_ambiguous_head_is_refused_but_still_read_for_the_record(headers: Headers, code: Code) -> None:
    request, fault = read_request(headers)
    assert fault is not None
    assert (fault.status, fault.code) == (400, code)
    assert request.recorded(None)["upstream"]


@pytest.mark.parametrize("host", ["gateway", "copilot-telemetry.githubusercontent.com"])
def test_telemetry_alone_may_come_compressed(host: str) -> None:
    assert read("POST", "/telemetry", ("content-encoding", "gzip"), host=host).model_endpoint is not None
    _, fault = read_request(head("POST", "/telemetry/x", ("content-encoding", "gzip"), host=host))
    assert fault is not None


def test_how_the_client_asked_for_the_host_is_kept() -> None:
    request = read("GET", "/", (":scheme", "https"), host="Gateway:8443")
    assert (request.authority, request.scheme, request.host) == ("Gateway:8443", "https", "gateway")


# --- the tunnel around it --------------------------------------------------------------------------------------------


def inside(tunnel: str | None, host: str, name: str, scheme: str = "https") -> Refusal | None:
    request = read("GET", "/user", (":scheme", scheme), host=host)
    return misdirected(request, name, None if tunnel is None else Connect("d1", tunnel, Secret("Basic eA==")))


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("name", ["", "other.example"])
def test_without_a_tunnel_nothing_is_misdirected(name: str, scheme: str) -> None:
    assert inside(None, "gateway:8080", name, scheme) is None


@pytest.mark.parametrize("name", ["", "api.github.com", "API.GITHUB.COM"])
@pytest.mark.parametrize("tunnel", ["api.github.com:443", "Api.GitHub.com:443"])
@pytest.mark.parametrize("host", ["api.github.com", "API.github.com", "api.github.com:443"])
def test_host_tunnel_and_name_of_tls_agree_in_any_case(tunnel: str, host: str, name: str) -> None:
    assert inside(tunnel, host, name) is None


@pytest.mark.parametrize(
    ("tunnel", "host", "name"),
    [
        ("api.github.com:443", "github.com", "api.github.com"),
        ("api.github.com:443", "api.github.com", "github.com"),
        ("github.com:443", "api.github.com", "api.github.com"),
        ("api.github.com:443", "api.github.com.", ""),
        ("api.github.com:443", "", ""),
    ],
)
def test_hosts_that_disagree_are_misdirected(tunnel: str, host: str, name: str) -> None:
    refusal = inside(tunnel, host, name)
    assert refusal is not None
    assert (refusal.status, refusal.code) == (421, Code.REQUEST_MISDIRECTED)


@pytest.mark.parametrize("scheme", ["http", "", "HTTPS", "ws"])
def test_inside_a_tunnel_anything_but_https_is_a_bad_request(scheme: str) -> None:
    refusal = inside("api.github.com:443", "api.github.com", "", scheme)
    assert refusal is not None
    assert (refusal.status, refusal.code) == (400, Code.REQUEST_MISDIRECTED)


def test_identity_is_no_encoding() -> None:
    assert read("POST", "/a", ("content-encoding", "Identity")).path == "/a"


# --- what goes upstream ----------------------------------------------------------------------------------------------


def sent(
    request: Request, credential: Credential | None = CREDENTIAL, body_bytes: int | None = None
) -> tuple[dict[str, str], list[str]]:
    endpoint = request.model_endpoint or Endpoint(EndpointKind.METADATA, request.upstream, request.path)
    set_headers, remove = upstream_headers(request, endpoint, credential, "api.githubcopilot.com", body_bytes)
    assert len({name for name, _ in set_headers}) == len(set_headers)
    return dict(set_headers), remove


def test_path_credential_and_cluster_are_set() -> None:
    fields, removed = sent(read("POST", "/v1/chat/completions?a=1", ("authorization", "Bearer caller")), body_bytes=12)
    assert fields == {
        ":path": "/chat/completions?a=1",
        "accept-encoding": "identity",
        "x-gateway-upstream": "api.githubcopilot.com",
        "content-length": "12",
        "content-type": "application/json",
        "x-github-api-version": "2025-04-01",
        "editor-version": "ours",
        "copilot-integration-id": "ours",
        "authorization": "Bearer upstream",
    }
    assert removed == []


def test_what_the_client_says_of_its_editor_is_left_to_it() -> None:
    fields, _ = sent(read("POST", "/chat/completions", ("editor-version", "vscode/1.104")))
    assert "editor-version" not in fields
    assert fields["copilot-integration-id"] == "ours"


def test_metadata_without_a_body_has_no_length_and_no_content_type() -> None:
    fields, _ = sent(read("GET", "/models"))
    assert not {"content-length", "content-type"} & set(fields)
    assert sent(read("POST", "/models"), body_bytes=0)[0]["content-length"] == "0"


def test_what_was_compressed_goes_on_decoded_and_with_the_type_it_had() -> None:
    extra = [("content-encoding", "gzip"), ("content-type", "application/x-json-stream")]
    fields, removed = sent(read("POST", "/telemetry", *extra), None, body_bytes=7)
    assert removed == ["content-encoding"]
    assert fields["content-length"] == "7"
    assert "content-type" not in fields


def test_credentials_and_forged_names_are_removed_and_what_envoys_route_needs_is_kept() -> None:
    extra = [
        ("x-gateway-authorization", "Bearer caller"),
        ("cookie", "a=b"),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-proto", "http"),
        ("x-gateway-upstream", "forged"),
        ("x-http-method-override", "DELETE"),
        ("x-plain", "1"),
    ]
    fields, removed = sent(read("GET", "/models", *extra))
    assert set(removed) == {"x-gateway-authorization", "cookie", "x-forwarded-for", "x-http-method-override"}
    assert fields["x-gateway-upstream"] == "api.githubcopilot.com"


def test_without_a_credential_of_ours_the_callers_still_does_not_pass() -> None:
    fields, removed = sent(read("GET", "/models", ("authorization", "Bearer caller")), None)
    assert "authorization" not in fields
    assert removed == ["authorization"]


def test_a_header_that_is_set_is_not_removed_as_well() -> None:
    credential = replace(CREDENTIAL, headers={"x-odd-token": "ours"})
    fields, removed = sent(read("GET", "/models", ("x-odd-token", "theirs")), credential)
    assert fields["x-odd-token"] == "ours"
    assert removed == []


@pytest.mark.parametrize("value", ["gho_" + "a" * 20, "x github_pat_" + "b" * 20, "eyJhbGciOiJS.eyJpc3MiOiJo.sig"])
def test_a_header_of_any_name_that_carries_a_credential_is_removed(value: str) -> None:
    _, removed = sent(read("GET", "/models", ("x-unheard-of", value), ("x-plain", "gho is a prefix")))
    assert "x-unheard-of" in removed
    assert "x-plain" not in removed


def test_a_request_line_reads_the_same_again_and_each_part_of_it_counts() -> None:
    lines = [
        ("POST", "/chat/completions", "api.githubcopilot.com"),
        ("GET", "/chat/completions", "api.githubcopilot.com"),
        ("POST", "/chat/completions", "api.github.com"),
        ("POST", "/responses", "api.githubcopilot.com"),
        ("POST", "/" + "x" * 600, "api.githubcopilot.com"),
        ("POST", "/chat//completions", "api.githubcopilot.com"),
    ]
    read_first = [read_request(head(method, path, host=host)) for method, path, host in lines]
    assert [read_request(head(method, path, host=host)) for method, path, host in lines] == read_first
    endpoints = [None if one.model_endpoint is None else one.model_endpoint.kind for one, _ in read_first]
    assert endpoints == [EndpointKind.CHAT, None, None, EndpointKind.RESPONSES, None, None]
    assert [fault is not None for _, fault in read_first] == [False] * 5 + [True]


@pytest.mark.parametrize("name", [":method", ":path", ":authority"])
def test_a_head_that_names_its_line_twice_is_refused(name: str) -> None:
    fields = head("GET", "/models")
    _, fault = read_request([*fields, next(pair for pair in fields if pair[0] == name)])
    assert fault is not None
    assert fault.code is Code.REQUEST_HEADERS
    # A field may come twice.
    assert read_request([*fields, ("accept", "a"), ("accept", "b")])[1] is None
