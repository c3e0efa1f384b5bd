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


class EndpointKind(StrEnum):
    """What policy rules call an endpoint."""

    CHAT = "chat"
    METADATA = "metadata"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a request goes: `path` is the upstream's path without the query (a leading `/v1` on chat is dropped)."""

    kind: EndpointKind
    upstream: Upstream
    path: str


_GITHUB_HOST = re.compile(r"api\.github\.com|api\.[a-z0-9-]+\.ghe\.com")
_PROXY_HOST = re.compile(r"copilot-proxy\.githubusercontent\.com|proxy\.[a-z]+\.githubcopilot\.com")
_COPILOT_HOST = re.compile(r"api(\.[a-z]+)?\.githubcopilot\.com|copilot-api\.[a-z0-9-]+\.ghe\.com")

# In URL mode one host carries all three upstreams, so the path decides (paths: GitHub REST and Copilot's internal API).
_GITHUB_PATH = re.compile(
    r"/(copilot_internal|copilot/mcp_registry|repos|user|users|orgs|graphql|rate_limit|search/(code|issues|repositories)"
    r"|meta|zen|emojis|notifications|gists)(/|$)"
)
_PROXY_PATH = re.compile(r"/v1/engines/")

_CHAT = {"/chat/completions": "/chat/completions", "/v1/chat/completions": "/chat/completions"}


def upstream_of(host: str, path: str) -> Upstream:
    """Choose the upstream from the host where that is one of GitHub's, else from the path.

    `host` is the `:authority` without its port, in lower case.
    """
    if _GITHUB_HOST.fullmatch(host):
        return Upstream.GITHUB_API
    if _PROXY_HOST.fullmatch(host):
        return Upstream.COPILOT_PROXY
    if _COPILOT_HOST.fullmatch(host):
        return Upstream.COPILOT_API
    if _GITHUB_PATH.match(path):
        return Upstream.GITHUB_API
    return Upstream.COPILOT_PROXY if _PROXY_PATH.match(path) else Upstream.COPILOT_API


def model_endpoint(method: str, upstream: Upstream, path: str) -> Endpoint | None:
    """Return the model endpoint that `method path` names at `upstream`, or None where no dialect speaks it."""
    if method == "POST" and upstream is not Upstream.GITHUB_API and path in _CHAT:
        return Endpoint(EndpointKind.CHAT, upstream, _CHAT[path])
    return None


_HIDDEN_DOT = re.compile(r"%2e", re.IGNORECASE)
_ESCAPED_SEPARATOR = re.compile(r"%(2f|5c|00)", re.IGNORECASE)
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
