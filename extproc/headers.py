"""Decide which header fields and query parameters never pass the gateway, and which the record keeps. Pure.

Header names are in lower case, as Envoy delivers them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote_plus

# The one field of ours that goes on to Envoy's router. It is not in `removed_from_request` because the caller always
# overwrites it: a client's value cannot survive.
UPSTREAM_HEADER = "x-gateway-upstream"

# The rule, in the order of the alternatives:
# 1. credentials by the last words of their name, as in proxy-authorization, x-goog-api-key, x-amz-security-token;
# 2. credentials whose name does not say so;
# 3. who the caller is and how he came (RFC 7239, RFC 9110 section 7.6.3, and what proxies used before);
# 4. what could make the upstream understand another request than the one that was decided on;
# 5. names that belong to the gateway and to Envoy.
_REMOVED_FROM_REQUEST = re.compile(
    r"(?:.*-)?(?:authorization(?:-auxiliary)?|authentication|auth|bearer|dpop|api-?keys?|access-?key|subscription-key"
    r"|functions-key|session-key|token|secret|passw(?:or)?d|pat|credentials?|jwt|jwt-assertion)"
    r"|cookie2?|request-hmac|copilot-edits-session|sec-websocket-protocol"
    r"|forwarded|via|proxy-connection|(?:.*-)?(?:client|connecting|real)-ip|x-forwarded-.*"
    r"|x-http-method(?:-override)?|x-method-override|x-original-.*|x-rewrite-url|x-override-url|x-(?:http-)?host(?:-.*)?"
    r"|x-gateway-(?!upstream$).*|x-envoy-.*",
    re.IGNORECASE,
)

# Copilot mints this one in an answer that passed the gateway (`/models/session`, `/auto`) and expects it back in the
# next chat request; it works only together with the credential the gateway injects.
_KEPT_IN_REQUEST = frozenset({"copilot-session-token"})

# Credentials that the upstream hands to whoever holds the gateway's credential, names that are ours, and `alt-svc`
# (RFC 7838), which would show the client a way around the gateway.
_REMOVED_FROM_RESPONSE = re.compile(r"set-cookie2?|copilot-edits-session|alt-svc|x-gateway-.*", re.IGNORECASE)

# Compared after decoding, in lower case, without `-` and `_`.
_CREDENTIAL_PARAMS = frozenset(
    {"key", "apikey", "xapikey", "token", "accesstoken", "authtoken", "idtoken", "refreshtoken", "privatetoken"}
    | {"githubtoken", "oauthtoken", "bearer", "bearertoken", "jwt", "auth", "authorization", "clientsecret", "password"}
)

_FACT_CHARS = 256
_FACT_READ_CHARS = 4 * _FACT_CHARS  # so much is looked at: what is longer is no label
_SESSION_HEADERS = ("x-client-session-id", "x-session-id", "vscode-sessionid")
_FACT_HEADERS = frozenset(
    {"user-agent", "editor-version", "editor-plugin-version", "copilot-integration-id", "x-initiator"}
    | {"x-interaction-id", "x-interaction-type", "openai-intent", "x-github-repository-nwo", *_SESSION_HEADERS}
    # These too decide what a request costs or means; what goes upstream of them is what the client sent.
    | {"x-agent-task-id", "copilot-vision-request", "x-github-api-version", "anthropic-version", "anthropic-beta"}
)
_NO_REPOSITORY = "__no_repository__"  # what Copilot clients send outside a repository


# W3C Trace Context, section 3.2: version, trace id, parent id, flags. Later versions may add to it.
_TRACE = r"(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_TRACEPARENT = re.compile(rf"00-{_TRACE}|(?!00|ff)[0-9a-f]{{2}}-{_TRACE}(?:-.*)?")


@dataclass(frozen=True, slots=True)
class ClientFacts:
    """What a client says about itself, at most 256 characters each: labels for the record, never proof of identity."""

    user_agent: str | None
    editor_version: str | None
    editor_plugin_version: str | None
    integration_id: str | None
    initiator: str | None
    interaction_id: str | None
    interaction_type: str | None
    session_id: str | None
    intent: str | None
    repository: str | None
    task_id: str | None = None
    vision_request: str | None = None
    api_version: str | None = None
    anthropic_version: str | None = None
    anthropic_beta: str | None = None


def removed_from_request(names: Iterable[str]) -> list[str]:
    """Return which of the request header `names` must not go upstream, each once, in their order."""
    return list(_staying_here(tuple(names)))


_CREDENTIAL_VALUE = re.compile(r"(?:gh[opsur]_|github_pat_)\w{16}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.")


def carries_credential(value: str) -> bool:
    """Say whether a header's value holds a GitHub token or a JWT, whatever the header is called."""
    # Each alternative has one of these in it, and nearly no value has.
    if "eyJ" not in value and "_" not in value:
        return False
    return _CREDENTIAL_VALUE.search(value) is not None


def carrying_credentials(headers: Iterable[tuple[str, str]]) -> list[str]:
    """Return the names of `headers` whose values hold a GitHub token or a JWT."""
    headers = list(headers)
    # Neither goes on over the end of a line: one look at all values acquits nearly every request.
    if not carries_credential("\n".join([value for _, value in headers])):
        return []
    return [name for name, value in headers if carries_credential(value)]


# A client sends the same names in the same order nearly each time.
@lru_cache(maxsize=256)
def _staying_here(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple([name for name in dict.fromkeys(names) if _stays_here(name)])


# Clients send the same few names over and over; remembering the answer makes a request's check five times faster.
@lru_cache(maxsize=1024)
def _stays_here(name: str) -> bool:
    return name not in _KEPT_IN_REQUEST and _REMOVED_FROM_REQUEST.fullmatch(name) is not None


def removed_from_response(names: Iterable[str]) -> list[str]:
    """Return which of the response header `names` must not reach the client, each once, in their order."""
    return [name for name in dict.fromkeys(names) if _stays_from_client(name)]


@lru_cache(maxsize=1024)
def _stays_from_client(name: str) -> bool:
    return _REMOVED_FROM_RESPONSE.fullmatch(name) is not None


def without_credential_params(target: str) -> str:
    """Drop the query parameters of a request target that carry a credential; every other byte stays as it is."""
    path, mark, query = target.partition("?")
    if not mark:
        return target
    params = query.split("&")
    kept = [param for param in params if not _is_credential_param(param)]
    if len(kept) == len(params):
        return target
    return f"{path}?{'&'.join(kept)}" if kept else path


def _is_credential_param(param: str) -> bool:
    # `token[]` and `token[a]` are the parameter `token` to servers that read lists and maps from queries.
    name = unquote_plus(param.partition("=")[0]).partition("[")[0]
    return name.strip().lower().replace("-", "").replace("_", "") in _CREDENTIAL_PARAMS


def client_facts(headers: Sequence[tuple[str, str]]) -> ClientFacts:
    """Read the client's labels from request `headers`, given as (lower-case name, value); the first value wins."""
    return _facts(tuple([(name, value[:_FACT_READ_CHARS]) for name, value in headers if name in _FACT_HEADERS]))


# A client's labels hardly change from one request to the next.
@lru_cache(maxsize=1024)
def _facts(labels: tuple[tuple[str, str], ...]) -> ClientFacts:
    # Of a name that comes twice a dictionary keeps the last value that it is given.
    first = dict(reversed(labels))

    def fact(*names: str) -> str | None:
        return next((text for name in names if (text := _plain(first.get(name, "")))), None)

    repository = fact("x-github-repository-nwo")
    return ClientFacts(
        user_agent=fact("user-agent"),
        editor_version=fact("editor-version"),
        editor_plugin_version=fact("editor-plugin-version"),
        integration_id=fact("copilot-integration-id"),
        initiator=fact("x-initiator"),
        interaction_id=fact("x-interaction-id"),
        interaction_type=fact("x-interaction-type"),
        session_id=fact(*_SESSION_HEADERS),
        intent=fact("openai-intent"),
        repository=None if repository == _NO_REPOSITORY else repository,
        task_id=fact("x-agent-task-id"),
        vision_request=fact("copilot-vision-request"),
        api_version=fact("x-github-api-version"),
        anthropic_version=fact("anthropic-version"),
        anthropic_beta=fact("anthropic-beta"),
    )


def trace_id(headers: Iterable[tuple[str, str]]) -> str | None:
    """Return the id of the trace that a request belongs to, None where its `traceparent` is missing or malformed."""
    values = [value for name, value in headers if name == "traceparent"]
    return values[0][3:35] if len(values) == 1 and _TRACEPARENT.fullmatch(values[0]) else None


def _plain(value: str) -> str:
    # `isprintable` also rejects line separators and direction overrides, which forge what a terminal shows.
    text = value if value.isprintable() else "".join(char for char in value if char.isprintable())
    return text.strip()[:_FACT_CHARS]
