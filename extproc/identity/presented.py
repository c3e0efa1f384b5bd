"""Find the caller's token among the request headers. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence

from extproc.errors import Code, Refusal
from extproc.identity.token import COMPACT_FORM, MAX_TOKEN_BYTES
from extproc.secret import Secret

# Copilot CLI only accepts tokens that begin like GitHub's own; a JWT never does, since it begins with `{"` encoded.
_GITHUB_PREFIX = re.compile(r"gho_|ghu_|ghs_|github_pat_")

# In the order in which they decide.
_AUTHORIZATION_HEADERS = (
    ("x-gateway-authorization", frozenset({"bearer"})),
    ("authorization", frozenset({"bearer", "token"})),
)
_MESSAGES_PATH = "/v1/messages"


def present(
    headers: Sequence[tuple[str, str]], *, path: str, connect_authorization: str | None = None
) -> Secret | Refusal:
    """Return the token that the caller presents, without the prefix that imitates GitHub's tokens.

    `headers` are lower-case names and values in order, possibly repeated; `path` is the request target, with or
    without its query; `connect_authorization` is the Proxy-Authorization of the CONNECT around the request. The first
    source that is present decides: a malformed one is refused, never skipped for the next.
    """
    if connect_authorization is not None:
        return _checked("Proxy-Authorization", _connect_credential(connect_authorization))
    for name, schemes in _AUTHORIZATION_HEADERS:
        values = [value for header, value in headers if header == name]
        if values:
            return _only(name, [_credential(value, schemes) for value in values])
    if path.partition("?")[0] == _MESSAGES_PATH:
        keys = [value for header, value in headers if header == "x-api-key"]
        if keys:
            return _only("x-api-key", [key.strip(" ") for key in keys])
    return Refusal(
        401,
        Code.IDENTITY_MISSING,
        "No token was presented: send one of your identity provider as 'Authorization: Bearer <token>'.",
    )


def _only(name: str, credentials: Sequence[str | None]) -> Secret | Refusal:
    if len(credentials) > 1:
        return Refusal(401, Code.IDENTITY_MALFORMED, f"The {name} header was sent more than once; send exactly one.")
    return _checked(name, credentials[0])


def _checked(source: str, credential: str | None) -> Secret | Refusal:
    if credential is None:
        return Refusal(
            401, Code.IDENTITY_MALFORMED, f"The {source} header is not of the form '<scheme> <token>' expected here."
        )
    token = _GITHUB_PREFIX.sub("", credential, count=1) if _GITHUB_PREFIX.match(credential) else credential
    if len(token) > MAX_TOKEN_BYTES:
        return Refusal(401, Code.IDENTITY_MALFORMED, f"The token in {source} is longer than {MAX_TOKEN_BYTES} bytes.")
    if not COMPACT_FORM.fullmatch(token):
        return Refusal(
            401,
            Code.IDENTITY_MALFORMED,
            f"The credential in {source} is not a JWT of your identity provider; GitHub's own tokens do not count.",
        )
    return Secret(token)


def _credential(value: str, schemes: frozenset[str]) -> str | None:
    """Split `scheme SP credential` (RFC 9110 section 11.4); the scheme is compared without case."""
    scheme, _, credential = value.strip(" ").partition(" ")
    return credential.lstrip(" ") if scheme.lower() in schemes else None


def _connect_credential(value: str) -> str | None:
    """Accept Bearer, or Basic with the token as the password, which is what a proxy URL can carry (RFC 7617)."""
    basic = _credential(value, frozenset({"basic"}))
    if basic is None:
        return _credential(value, frozenset({"bearer"}))
    try:
        _user, colon, password = base64.b64decode(basic, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return password if colon else None
