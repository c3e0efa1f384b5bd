"""What is let go of an exchange, in which pieces and with which header fields. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from extproc.credential import Credential
from extproc.echo import without_secrets
from extproc.effects import (
    Effect,
    PassRequestBody,
    PassRequestHeaders,
    PassRequestTrailers,
    PassResponseBody,
    PassResponseHeaders,
    PassResponseTrailers,
)
from extproc.endpoint import Endpoint, Upstream
from extproc.events import Headers
from extproc.headers import removed_from_response
from extproc.replies import DECISION_HEADER, REQUEST_ID_HEADER
from extproc.request import Request, upstream_headers
from extproc.rules import Rules
from extproc.secret import Secret

PIECE_BYTES: Final = 65_536
"""Largest body piece we send in one reply, as Envoy's ext_proc documentation advises."""


def pieces(data: bytes) -> list[bytes]:
    """Cut a body as it may be sent; nothing of nothing."""
    return [data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)]


def released_request(
    request: Request,
    endpoint: Endpoint,
    credential: Credential | None,
    rules: Rules,
    *,
    body: bytes | None,
    trailers: list[str] | None,
    decision_id: str,
) -> list[Effect]:
    """Return what lets a request go to its upstream; `body` is None where it has none, `trailers` name its trailers."""
    cluster = rules.upstream_hosts[endpoint.upstream]
    if credential is not None and credential.api_host and endpoint.upstream is Upstream.COPILOT_API:
        cluster = credential.api_host
    size = None if body is None else len(body)
    set_headers, remove = upstream_headers(request, endpoint, credential, cluster, size)
    effects: list[Effect] = [PassRequestHeaders(set_headers, remove, decision_id)]
    if body is None:
        return effects
    parts = pieces(body) or [b""]
    effects += [PassRequestBody(piece, end_of_stream=False) for piece in parts[:-1]]
    effects.append(PassRequestBody(parts[-1], end_of_stream=trailers is None))
    if trailers is not None:
        effects.append(PassRequestTrailers(trailers))
    return effects


def released_headers(
    headers: Headers, secrets: tuple[Secret, ...], decision_id: str, *more: tuple[str, str], remove: Sequence[str] = ()
) -> PassResponseHeaders:
    """Let response headers go without `secrets`; `more` are set and `remove` are taken out, such as the length."""
    plain = [pair for pair in headers if pair[0][0] != ":"]
    names = [name for name, _ in plain]
    gone = removed_from_response(names)
    # Bodies go on decoded, whatever they came in.
    if "content-encoding" in names:
        gone.append("content-encoding")
    set_headers = [(DECISION_HEADER, decision_id)]
    if REQUEST_ID_HEADER not in names:
        set_headers.append((REQUEST_ID_HEADER, decision_id))
    set_headers += _without_secrets(plain, secrets)
    return PassResponseHeaders([*set_headers, *more], [*gone, *remove])


def _without_secrets(headers: Headers, secrets: tuple[Secret, ...]) -> Headers:
    """Return the fields that repeat one of `secrets`, without it."""
    # No credential goes over the end of a line: one look at all values acquits nearly every answer.
    values = "\n".join([value for _, value in headers])
    if without_secrets(values, secrets) == values:
        return []
    masked = [(name, without_secrets(value, secrets)) for name, value in headers]
    return [pair for pair, before in zip(masked, headers, strict=True) if pair != before]


def released_end(tail: bytes, trailers: list[str] | None) -> list[Effect]:
    """Return what ends a response body with `tail`, and with its trailers if it has any."""
    parts = pieces(tail) or ([b""] if trailers is None else [])
    effects: list[Effect] = [PassResponseBody(piece, end_of_stream=False) for piece in parts[:-1]]
    effects += [PassResponseBody(piece, end_of_stream=trailers is None) for piece in parts[-1:]]
    if trailers is not None:
        effects.append(PassResponseTrailers(trailers))
    return effects
