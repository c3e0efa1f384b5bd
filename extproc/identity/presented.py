"""Find the caller's token among the request headers. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence

from extproc.errors import Code, Refusal
from extproc.identity.gateway_token import is_gateway_token
from extproc.identity.token import COMPACT_FORM, MAX_TOKEN_BYTES, SIGN_IN
from extproc.secret import Secret

# Copilot CLI only accepts tokens that begin like GitHub's own; a JWT never does, since it begins with `{"` encoded.
_GITHUB_PREFIX = re.compile(r"gho_|ghu_|ghs_|github_pat_")

# In the order in which they decide.
_AUTHORIZATION_HEADERS = (
    ("x-gateway-authorization", frozenset({"bearer"})),
    ("authorization", frozenset({"bearer", "token", "basic"})),
)
_CARRYING = frozenset({"x-api-key", *(name for name, _ in _AUTHORIZATION_HEADERS)})
_CONNECT_SCHEMES = frozenset({"bearer", "basic"})
_MESSAGES_PATHS = {"/v1/messages", "/v1/messages/count_tokens"}


def present(
    headers: Sequence[tuple[str, str]], *, path: str, connect_authorization: str | None = None
) -> Secret | Refusal:
    """Return the token that the caller presents: a JWT, without a prefix that imitates GitHub's, or a gateway's token.

    `headers` are lower-case names and values in order, possibly repeated; `path` is the request target, with or
    without its query; `connect_authorization` is the Proxy-Authorization of the CONNECT around the request. The first
    source that is present decides: a malformed one is refused, never skipped for the next.
    """
    if connect_authorization is not None:
        return _checked("Proxy-Authorization", _credential(connect_authorization, _CONNECT_SCHEMES))
    headers = [pair for pair in headers if pair[0] in _CARRYING]
    for name, schemes in _AUTHORIZATION_HEADERS:
        values = [value for header, value in headers if header == name]
        if values:
            return _only(name, [_credential(value, schemes) for value in values])
    if path.partition("?")[0] in _MESSAGES_PATHS:
        keys = [value for header, value in headers if header == "x-api-key"]
        if keys:
            return _only("x-api-key", [key.strip(" ") for key in keys])
    return Refusal(
        401,
        Code.IDENTITY_MISSING,
        f"No token was presented: {SIGN_IN}, or send one of your identity provider as 'Authorization: Bearer <token>'.",
    )


def _only(name: str, credentials: Sequence[str | None]) -> Secret | Refusal:
    if len(credentials) > 1:
        return Refusal(401, Code.IDENTITY_MALFORMED, f"The {name} header was sent more than once; send exactly one.")
    return _checked(name, credentials[0])


def _checked(source: str, credential: str | None) -> Secret | Refusal:
    if credential is None:
        return Refusal(
            401,
            Code.IDENTITY_MALFORMED,
            f"The {source} header is not of the form '<scheme> <token>' expected here; {SIGN_IN}.",
        )
    token = _GITHUB_PREFIX.sub("", credential, count=1) if _GITHUB_PREFIX.match(credential) else credential
    if len(token) > MAX_TOKEN_BYTES:
        return Refusal(401, Code.IDENTITY_MALFORMED, f"The token in {source} is longer than {MAX_TOKEN_BYTES} bytes.")
    if not COMPACT_FORM.fullmatch(token) and not is_gateway_token(token):
        return Refusal(
            401,
            Code.IDENTITY_MALFORMED,
            f"The credential in {source} is not a token of your identity provider or of this gateway, and GitHub's"
            f" own do not count; {SIGN_IN}.",
        )
    return Secret(token)


def _credential(value: str, schemes: frozenset[str]) -> str | None:
    """Split `scheme SP credential` (RFC 9110 section 11.4); the scheme is compared without case."""
    scheme, _, credential = value.strip(" ").partition(" ")
    if scheme.lower() not in schemes:
        return None
    return _password(credential.lstrip(" ")) if scheme.lower() == "basic" else credential.lstrip(" ")


def _password(basic: str) -> str | None:
    """Return the password, which may have colons (RFC 7617): what a proxy's URL, git and some SDKs put a token in."""
    try:
        _user, colon, password = base64.b64decode(basic, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return password if colon else None
