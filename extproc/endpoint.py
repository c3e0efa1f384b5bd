"""Name the Copilot or GitHub endpoint that a request line means, and the upstream it belongs to.

Pure. The paths are those Copilot clients use; a path that is not named here is only passed on when the policy file
lists it as metadata (`passthrough`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache


class Upstream(StrEnum):
    """The Envoy clusters an exchange may be sent to; the values are the cluster names in `envoy/`."""

    COPILOT_API = "copilot-api"
    COPILOT_PROXY = "copilot-proxy"
    GITHUB_API = "github-api"
    TELEMETRY = "copilot-telemetry"
    GITHUB_WEB = "github-web"
    TUNNEL = "tunnel"
    """Whatever host a CONNECT names whose traffic is passed on unread."""


API_UPSTREAMS = frozenset({Upstream.COPILOT_API, Upstream.COPILOT_PROXY, Upstream.GITHUB_API})
"""The upstreams of the API, which a credential and a metadata entry are for where they name none."""


class EndpointKind(StrEnum):
    """What policy rules call an endpoint."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    MESSAGES = "messages"
    EMBEDDINGS = "embeddings"
    AGENTS = "agents"
    MODELS = "models"
    MCP = "mcp"
    GITHUB = "github"
    GRAPHQL = "graphql"
    ACCOUNT = "account"
    """What clients ask about the account they use: its token, plan and settings."""
    TELEMETRY = "telemetry"
    METADATA = "metadata"
    TUNNEL = "tunnel"
    """A CONNECT to a host whose traffic the gateway does not read."""


MODEL_ENDPOINTS = frozenset(
    {
        EndpointKind.CHAT,
        EndpointKind.COMPLETIONS,
        EndpointKind.RESPONSES,
        EndpointKind.MESSAGES,
        EndpointKind.EMBEDDINGS,
        EndpointKind.AGENTS,
    }
)
"""The endpoints behind which a model answers; their clients show the message of a 422 and do not sign in again."""

UNREAD = frozenset({EndpointKind.METADATA, EndpointKind.ACCOUNT, EndpointKind.TELEMETRY})
"""The endpoints whose bodies are masked, but neither understood nor recorded."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a request goes.

    `path` is the upstream's path without the query; the leading `/v1` of OpenAI's SDKs is dropped where Copilot has
    none. `model` is the one that the path names, which goes before one that a body names; nearly always None.
    """

    kind: EndpointKind
    upstream: Upstream
    path: str
    model: str | None = None


_BY_HOST = (
    (Upstream.GITHUB_API, re.compile(r"api\.github\.com|api\.[a-z0-9-]+\.ghe\.com")),
    (Upstream.COPILOT_PROXY, re.compile(r"copilot-proxy\.githubusercontent\.com|proxy\.[a-z]+\.githubcopilot\.com")),
    (Upstream.COPILOT_API, re.compile(r"api(\.[a-z]+)?\.githubcopilot\.com|copilot-api\.[a-z0-9-]+\.ghe\.com")),
    (
        Upstream.TELEMETRY,
        re.compile(
            r"copilot-telemetry\.githubusercontent\.com|telemetry(\.[a-z]+)?\.githubcopilot\.com"
            r"|copilot-telemetry-service\.[a-z0-9-]+\.ghe\.com"
        ),
    ),
    (Upstream.GITHUB_WEB, re.compile(r"github\.com|[a-z0-9-]+\.ghe\.com")),
)

# In URL mode one host carries all upstreams, so the path decides (paths: GitHub REST and Copilot's internal API).
_BY_PATH = (
    (
        Upstream.GITHUB_API,
        re.compile(
            r"/(copilot_internal|copilot/mcp_registry|repos|user|users|orgs|graphql|rate_limit"
            r"|search/(code|issues|repositories)|meta|zen|emojis|notifications|gists|chunks"
            r"|embeddings/(models|code/search))(/|$)"
        ),
    ),
    (Upstream.COPILOT_PROXY, re.compile(r"/v1/engines/")),
    (Upstream.TELEMETRY, re.compile(r"/telemetry$")),
)


@dataclass(frozen=True, slots=True)
class _Route:
    """One row of the table: group 1 of `path`, or all of it, is the upstream's path; group `model` names a model."""

    kind: EndpointKind
    upstreams: frozenset[Upstream]
    methods: frozenset[str]
    path: re.Pattern[str]


def _route(kind: EndpointKind, upstreams: str, methods: str, path: str) -> _Route:
    return _Route(
        kind,
        frozenset(Upstream(name) for name in upstreams.split()),
        frozenset(methods.split()),
        re.compile(path.replace("ID", "[A-Za-z0-9._:-]+"), re.ASCII),
    )


_MODEL_HOSTS = "copilot-api copilot-proxy"

# Compared as they are written: what is spelled in any other way is unknown. Completions and next edits go to the proxy;
# embeddings to the Copilot API and, for the index of a repository, to the GitHub API.
_ROUTES = (
    _route(EndpointKind.CHAT, _MODEL_HOSTS, "POST", r"(?:/v1)?(/chat/completions)"),
    _route(EndpointKind.MESSAGES, _MODEL_HOSTS, "POST", r"/v1/messages(?:/count_tokens)?"),
    _route(EndpointKind.RESPONSES, _MODEL_HOSTS, "POST", r"(?:/v1)?(/responses)"),
    _route(EndpointKind.COMPLETIONS, _MODEL_HOSTS, "POST", r"(/v1/engines/(?P<model>ID)/completions)"),
    _route(EndpointKind.COMPLETIONS, _MODEL_HOSTS, "POST", r"(?:/v1)?(/completions)"),
    _route(EndpointKind.EMBEDDINGS, "copilot-api", "POST", r"(?:/v1)?(/embeddings)"),
    _route(EndpointKind.EMBEDDINGS, "github-api", "POST", r"/embeddings|/embeddings/code/search|/chunks"),
    _route(EndpointKind.MODELS, _MODEL_HOSTS, "GET", r"(?:/v1)?(/models(?:/ID)?)"),
    _route(EndpointKind.MODELS, _MODEL_HOSTS, "POST", r"/models/session(?:/intent)?|/models/ID/policy|/auto"),
    _route(EndpointKind.MODELS, "github-api", "GET", r"/embeddings/models"),
    _route(EndpointKind.AGENTS, "copilot-api", "GET POST PUT", r"/agents(?:/.*)?"),
    _route(EndpointKind.MCP, "copilot-api", "GET POST DELETE", r"/mcp(?:/.*)?"),
    _route(EndpointKind.GRAPHQL, "github-api", "POST", r"/graphql"),
    _route(EndpointKind.ACCOUNT, "github-api", "GET", r"/copilot_internal/(?:v2/token|user|managed_settings)"),
    _route(EndpointKind.ACCOUNT, "github-api", "GET", r"/copilot_internal/team_customizations|/copilot/mcp_registry"),
    _route(EndpointKind.ACCOUNT, "github-api", "GET", r"/copilot_internal/content_exclusion"),
    _route(EndpointKind.TELEMETRY, "copilot-telemetry", "GET POST", r"/telemetry"),
)

_REST_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
# Everything else at the GitHub API is REST, but for these first segments: Copilot's internal API, whose answers can be
# credentials, GraphQL, the prefix of GitHub's own servers, and where models would answer.
_REST_PATH = re.compile(r"/|/([a-z_-]+)(?:/.*)?")
_NOT_REST = frozenset({"copilot_internal", "copilot", "graphql", "api"}) | frozenset(
    {"chat", "completions", "responses", "messages", "embeddings", "chunks", "mcp"}
)


def upstream_of(host: str, path: str) -> Upstream:
    """Choose the upstream from the host where that is one of GitHub's, else from the path.

    `host` is the `:authority` without its port, in lower case.
    """
    by_host = (upstream for upstream, pattern in _BY_HOST if pattern.fullmatch(host))
    by_path = (upstream for upstream, pattern in _BY_PATH if pattern.match(path))
    return next(by_host, None) or next(by_path, Upstream.COPILOT_API)


def endpoint_of(method: str, upstream: Upstream, path: str) -> Endpoint | None:
    """Return the endpoint that `method path` means at `upstream`, or None where no dialect speaks it.

    `path` is as received, without its query.
    """
    for route in _ROUTES:
        if upstream in route.upstreams and method in route.methods and (found := route.path.fullmatch(path)):
            named = found.groupdict().get("model")
            return Endpoint(route.kind, upstream, found[1] if route.path.groups else path, named)
    rest = _REST_PATH.fullmatch(path)
    if upstream is Upstream.GITHUB_API and method in _REST_METHODS and rest and rest[1] not in _NOT_REST:
        return Endpoint(EndpointKind.GITHUB, upstream, path)
    return None


_HIDDEN_DOT = re.compile(r"%2e", re.IGNORECASE)
# Separators, and control characters, at which one reader may stop and another go on.
_ESCAPED_SEPARATOR = re.compile(r"%(2f|5c|[01][0-9a-f]|7f)", re.IGNORECASE)
# A letter that is escaped without need is the same letter to some readers and not to others (RFC 3986 section 6.2.2.2).
_NEEDLESS_ESCAPE = re.compile(r"%(2d|2e|5f|7e|3[0-9]|4[1-9a-f]|5[0-9a]|6[1-9a-f]|7[0-9a])", re.IGNORECASE)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_VISIBLE = re.compile(r"[\x21-\x7e]+")


# Clients ask for the same few paths over and over.
@lru_cache(maxsize=1024)
def path_fault(target: str) -> str | None:  # noqa: PLR0911 - one return for each kind of fault
    """Say what makes a request target ambiguous (RFC 3986 section 6.2.2), or None where two servers must agree on it.

    `target` is the `:path` pseudo-header, query included. Ambiguous targets are refused, not repaired: whoever reads
    the path next could understand another resource than the one that was decided on.
    """
    path = target.partition("?")[0]
    if not path.startswith("/"):
        return "the path does not begin with a slash"
    if not _VISIBLE.fullmatch(target) or "#" in target:
        return "the path has a character that is not allowed in one"
    if "//" in path or "\\" in path:
        return "the path has an empty segment or a backslash"
    if _ESCAPED_SEPARATOR.search(path) or _BAD_ESCAPE.search(path):
        return "the path has an escaped separator or a broken escape"
    if any(_HIDDEN_DOT.sub(".", segment) in {".", ".."} for segment in path.split("/")):
        return "the path has a dot segment"
    if _NEEDLESS_ESCAPE.search(path):
        return "the path escapes a character that needs no escape"
    return None
