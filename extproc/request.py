"""The head of a request: read from what the client sent, rewritten into what the upstream gets. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from extproc.credential import Credential
from extproc.endpoint import Endpoint, Upstream, endpoint_of, path_fault, upstream_of
from extproc.errors import Code, Refusal
from extproc.events import Headers
from extproc.headers import (
    UPSTREAM_HEADER,
    ClientFacts,
    carries_credential,
    client_facts,
    removed_from_request,
    without_credential_params,
)

_REPOSITORY_PATH = re.compile(r"/repos/([^/]+/[^/]+)", re.IGNORECASE)
# Envoy finds no route for a request without it; the route itself removes it (envoy/envoy.yaml).
_ENVOY_NEEDS = {"x-forwarded-proto"}
_PSEUDO = (":method", ":path", ":authority")


@dataclass(frozen=True, slots=True)
class Request:
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


def read_request(headers: Headers) -> tuple[Request, Refusal | None]:
    """Read a request's head; the refusal says what makes it ambiguous, if anything does."""
    fields = dict(headers)
    method, target, authority = (fields.get(name, "") for name in _PSEUDO)
    host = authority.rpartition(":")[0] if re.search(r":\d+$", authority) else authority
    target = without_credential_params(target)
    path = target.partition("?")[0]
    upstream = upstream_of(host.lower(), path)
    request = Request(
        headers=headers,
        method=method,
        host=host.lower(),
        target=target,
        path=path,
        upstream=upstream,
        model_endpoint=endpoint_of(method, upstream, path),
        client=client_facts(headers),
    )
    return request, _fault(headers, fields.get(":path", ""))


def _fault(headers: Headers, target: str) -> Refusal | None:
    if fault := path_fault(target):
        return Refusal(400, Code.REQUEST_PATH, f"The request is refused: {fault}.")
    pseudo = [name for name, _ in headers if name in _PSEUDO]
    if len(pseudo) != len(set(pseudo)):
        return Refusal(400, Code.REQUEST_HEADERS, "The request names its method, path or host twice.")
    if any(name == "content-encoding" and value.strip().lower() != "identity" for name, value in headers):
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
    names = {name for name, _ in request.headers}
    suspect = [name for name, value in request.headers if name[0] != ":" and carries_credential(value)]
    path = endpoint.path + request.target[len(request.path) :]
    # What was decided on is what was read here, as it was read: no compression, JSON where a dialect read JSON.
    set_headers: Headers = [(":path", path), ("accept-encoding", "identity"), (UPSTREAM_HEADER, cluster)]
    if body_bytes is not None:
        set_headers.append(("content-length", str(body_bytes)))
        if request.model_endpoint is not None:
            set_headers.append(("content-type", "application/json"))
    if credential is not None:
        set_headers += credential.headers.items()
        set_headers += [(name, value) for name, value in credential.headers_if_missing.items() if name not in names]
        set_headers.append(("authorization", credential.authorization.reveal()))
    kept = {name for name, _ in set_headers} | _ENVOY_NEEDS
    removed = dict.fromkeys((*removed_from_request(names), *suspect))
    return set_headers, [name for name in removed if name not in kept]
