"""The head of a request: read from what the client sent, rewritten into what the upstream gets. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from extproc.credential import Credential
from extproc.endpoint import UNREAD, Endpoint, EndpointKind, Upstream, endpoint_of, path_fault, upstream_of
from extproc.errors import Code, Refusal
from extproc.events import Connect, Headers
from extproc.headers import (
    UPSTREAM_HEADER,
    ClientFacts,
    carrying_credentials,
    client_facts,
    removed_from_request,
    without_credential_params,
)

_REPOSITORY_PATH = re.compile(r"/repos/([^/]+/[^/]+)", re.IGNORECASE)
# Envoy finds no route for a request without it; the route itself removes it (envoy/envoy.yaml).
_ENVOY_NEEDS = {"x-forwarded-proto"}
_PSEUDO = (":method", ":path", ":authority")
_PORT = re.compile(r":\d+\Z")

_KNOWN_LINE_CHARS: Final = 512
"""Longer request lines are read anew each time."""


class Request(msgspec.Struct, frozen=True, gc=False):
    """What a request's head says. `target` is its path and query as they may go on: without credentials."""

    headers: Headers
    method: str
    host: str
    target: str
    path: str
    upstream: Upstream
    model_endpoint: Endpoint | None
    client: ClientFacts

    @property
    def authority(self) -> str:
        """Return the host as the client asked for it, with its port if it named one."""
        return self.field(":authority")

    @property
    def scheme(self) -> str:
        """Return how the client spoke to the gateway: `http` or `https`."""
        return self.field(":scheme")

    def field(self, name: str) -> str:
        """Return the values of a header field, joined by commas (RFC 9110 section 5.3); empty where there is none."""
        return ", ".join([value for header, value in self.headers if header == name])

    @property
    def repository(self) -> str | None:
        """Return `OWNER/NAME`: of a GitHub request from its path alone, else what the client says it works on."""
        if self.upstream is Upstream.GITHUB_API:
            named = _REPOSITORY_PATH.match(unquote(self.path))
            return None if named is None else named[1]
        return self.client.repository

    def recorded(self, kind: str | None) -> dict[str, Any]:
        """Return what the record keeps of the head."""
        return {
            "method": self.method,
            "host": self.host,
            "path": self.target,
            "upstream": self.upstream,
            "endpoint": kind,
            "repository": self.repository,
        }


class _Line(msgspec.Struct, frozen=True):
    """What follows from method, authority and path of a request alone."""

    host: str
    target: str
    path: str
    upstream: Upstream
    model_endpoint: Endpoint | None
    fault: str | None


def read_request(headers: Headers) -> tuple[Request, Refusal | None]:
    """Read a request's head; the refusal says what makes it ambiguous, if anything does."""
    fields = dict(headers)
    method, target, authority = fields.get(":method", ""), fields.get(":path", ""), fields.get(":authority", "")
    # Clients ask for the same few paths over and over; a query is seldom the same twice, and may hold a credential.
    is_short = len(method) + len(target) + len(authority) <= _KNOWN_LINE_CHARS
    line = (_known_line if is_short and "?" not in target else _read_line)(method, target, authority)
    request = Request(
        headers=headers,
        method=method,
        host=line.host,
        target=line.target,
        path=line.path,
        upstream=line.upstream,
        model_endpoint=line.model_endpoint,
        client=client_facts(headers),
    )
    return request, _fault(request, fields, line.fault)


def _read_line(method: str, target: str, authority: str) -> _Line:
    fault = path_fault(target)
    host = (authority.rpartition(":")[0] if _PORT.search(authority) else authority).lower()
    target = without_credential_params(target)
    path = target.partition("?")[0]
    upstream = upstream_of(host, path)
    return _Line(host, target, path, upstream, endpoint_of(method, upstream, path), fault)


_known_line = lru_cache(maxsize=1024)(_read_line)


def misdirected(request: Request, server_name: str, connect: Connect | None) -> Refusal | None:
    """Say whether a request came to a host by the tunnel or the TLS connection of another one (RFC 9110, 15.5.20).

    `server_name` is the one of TLS, empty without.
    """
    if connect is None:
        return None
    if request.scheme != "https":
        return Refusal(400, Code.REQUEST_MISDIRECTED, "Inside a tunnel the gateway takes HTTPS alone.")
    host = connect.authority.rpartition(":")[0].lower()
    if request.host != host or server_name.lower() not in {"", host}:
        return Refusal(
            421,
            Code.REQUEST_MISDIRECTED,
            "The host of the request, of its TLS connection and of the tunnel around it are not the same.",
        )
    return None


def _fault(request: Request, fields: Mapping[str, str], fault: str | None) -> Refusal | None:
    if fault is not None:
        return Refusal(400, Code.REQUEST_PATH, f"The request is refused: {fault}.")
    if len(fields) < len(request.headers):
        pseudo = [name for name, _ in request.headers if name in _PSEUDO]
        if len(pseudo) != len(set(pseudo)):
            return Refusal(400, Code.REQUEST_HEADERS, "The request names its method, path or host twice.")
    is_telemetry = request.model_endpoint is not None and request.model_endpoint.kind is EndpointKind.TELEMETRY
    encoding = request.field("content-encoding") if "content-encoding" in fields else ""
    if encoding.strip().lower() not in {"", "identity"} and not is_telemetry:
        return Refusal(
            400, Code.REQUEST_HEADERS, "Send the request body without content-encoding: it must be readable."
        )
    return None


def upstream_headers(
    request: Request, endpoint: Endpoint, credential: Credential | None, cluster: str, body_bytes: int | None
) -> tuple[Headers, list[str]]:
    """Return the header fields to set and to remove before the request goes to `cluster`.

    `body_bytes` is None for a request that has no body.
    """
    names = [name for name, _ in request.headers]
    removed = set(removed_from_request(names))
    if "content-encoding" in names:
        # What was compressed was decoded to be masked.
        removed.add("content-encoding")
    others = [pair for pair in request.headers if pair[0][0] != ":" and pair[0] not in removed]
    removed.update(carrying_credentials(others))
    path = endpoint.path + request.target[len(request.path) :]
    # What was decided on is what was read here, as it was read: no compression, JSON where a dialect read JSON.
    set_headers: Headers = [(":path", path), ("accept-encoding", "identity"), (UPSTREAM_HEADER, cluster)]
    if body_bytes is not None:
        set_headers.append(("content-length", str(body_bytes)))
        if endpoint.kind not in UNREAD:
            set_headers.append(("content-type", "application/json"))
    if credential is not None:
        set_headers += credential.headers.items()
        set_headers += [(name, value) for name, value in credential.headers_if_missing.items() if name not in names]
        set_headers.append(("authorization", credential.authorization.reveal()))
    kept = {name for name, _ in set_headers} | _ENVOY_NEEDS
    return set_headers, [name for name in removed if name not in kept]
