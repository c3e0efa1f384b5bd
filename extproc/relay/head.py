"""Read and write the heads of CONNECT requests and their answers (RFC 9110 section 9.3.6, RFC 9112). Pure."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from extproc.secret import Secret

MAX_HEAD_BYTES = 16 * 1024
"""A head that is longer is refused; a proxy's password and a target fit many times."""

_REQUEST_LINE = re.compile(r"([A-Z]{1,20}) (\S+) HTTP/1\.[01]")
_STATUS_LINE = re.compile(r"HTTP/1\.[01] ([1-5][0-9]{2})(?: .*)?")
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~A-Za-z0-9-]+):[ \t]*([^\r\n]*?)[ \t]*")
_VISIBLE = re.compile(r"[\x20-\x7e]{1,256}")

_REASONS = {
    400: "Bad Request",
    403: "Forbidden",
    405: "Method Not Allowed",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A CONNECT that may be sent on: its target as `HOST:PORT`, and who the client says it is."""

    authority: str
    user_agent: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is no tunnel; the connection ends with it."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the answer as it is sent."""
        head = {**self.headers, "content-length": str(len(self.body)), "connection": "close"}
        lines = [f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Refused')}"]
        lines += [f"{name}: {value}" for name, value in head.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


def refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Return an answer of our own, in the shape of the gateway's."""
    body = json.dumps({"error": {"message": message, "code": "relay.refused"}}).encode()
    return Answer(status, body, {"content-type": "application/json", **(headers or {})})


def read_request(head: bytes, password: Secret) -> Tunnel | Answer:
    """Return the tunnel that a request asks for, or why there is none; `head` ends with its empty line."""
    first, *rest = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    headers = _headers(rest)
    if line is None or headers is None:
        return refusal(400, "This is no request to an HTTP proxy.")
    if line[1] != "CONNECT":
        plain = "This proxy passes on HTTPS only (CONNECT): plain HTTP has no place to carry who is calling."
        return refusal(405, plain, {"allow": "CONNECT"})
    if not _knows(headers.get("proxy-authorization", []), password):
        challenge = {"proxy-authenticate": 'Basic realm="extproc run"'}
        return refusal(407, "This proxy belongs to another `extproc run`: its password is needed.", challenge)
    if not _AUTHORITY.fullmatch(line[2]):
        return refusal(400, "The target of a CONNECT is HOST:PORT.")
    agent = headers.get("user-agent", [""])[0]
    return Tunnel(line[2], agent if _VISIBLE.fullmatch(agent) else None)


def write_request(tunnel: Tunnel, token: Secret) -> bytes:
    """Return the CONNECT for the gateway."""
    lines = [f"CONNECT {tunnel.authority} HTTP/1.1", f"Host: {tunnel.authority}"]
    lines.append(f"Proxy-Authorization: Bearer {token.reveal()}")
    if tunnel.user_agent is not None:
        lines.append(f"User-Agent: {tunnel.user_agent}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def read_status(head: bytes) -> tuple[int, dict[str, list[str]]] | None:
    """Return the status and the headers (lower-case names) of a gateway's answer, or None where it is no HTTP/1."""
    first, *rest = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    line = _STATUS_LINE.fullmatch(first)
    headers = _headers(rest)
    return None if line is None or headers is None else (int(line[1]), headers)


def _headers(lines: list[str]) -> dict[str, list[str]] | None:
    headers: dict[str, list[str]] = {}
    for line in lines:
        found = _FIELD.fullmatch(line)
        if found is None:
            return None
        headers.setdefault(found[1].lower(), []).append(found[2])
    return headers


def _knows(values: list[str], password: Secret) -> bool:
    """Say whether the one value is Basic with the password (RFC 7617); the user counts for nothing."""
    if len(values) != 1:
        return False
    scheme, _, credential = values[0].partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        _user, _, given = base64.b64decode(credential.strip(" "), validate=True).partition(b":")
    except binascii.Error:
        return False
    return hmac.compare_digest(given, password.reveal().encode())
