"""Read a JWT before its signature is verified, and check its times and audience afterwards. Pure.

The rules are those of RFC 7519 and RFC 8725. The clock is an argument everywhere.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from extproc.errors import Code, Refusal, Refused
from extproc.identity.issuers import ASYMMETRIC, Issuer

# Far above what issuers mint (Entra stops at 200 groups, about 8 KiB), and below Envoy's 60 KiB of headers.
MAX_TOKEN_BYTES = 16 * 1024

# A JWS in compact form (RFC 7515 section 3.1). The signature may be empty here so that an unsigned token
# (`alg: none`) is refused for its algorithm, which tells more than its form.
COMPACT_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")

SIGN_IN: Final = "run `extproc login`"
"""What a person does about a token that is not accepted."""

# A logout token or a DPoP proof of a trusted issuer is signed as well as an access token is, but says something else
# (RFC 8725 section 3.11); these are the types of ID and access tokens.
_TYPES = frozenset({"", "jwt", "at+jwt", "application/jwt", "application/at+jwt"})

# Beyond this, seconds are no time that anybody meant, and float arithmetic stops being exact.
_MAX_SECONDS = 2**53


@dataclass(frozen=True, slots=True)
class Unverified:
    """What a token claims before anybody has checked it; only good for choosing the key."""

    algorithm: str
    key_id: str | None
    issuer: str
    claims: Mapping[str, object]


def refused(code: Code, message: str, status: int = 401) -> Refused:
    """Make the exception that carries a refusal of an identity."""
    return Refused(Refusal(status, code, message))


def malformed(what: str) -> Refused:
    """Make the refusal of a token of which `what` is said."""
    return refused(Code.IDENTITY_MALFORMED, f"The token {what}; {SIGN_IN}.")


def expired(seconds: float) -> Refused:
    """Make the refusal of a token that expired so many seconds ago."""
    return refused(Code.IDENTITY_EXPIRED, f"The token expired {_span(seconds)} ago; {SIGN_IN}.")


def not_yet_valid(seconds: float, why: str) -> Refused:
    """Make the refusal of a token that becomes valid in so many seconds, as `why` says."""
    return refused(
        Code.IDENTITY_NOT_YET_VALID, f"The token becomes valid in {_span(seconds)} ({why}); check the clocks."
    )


def parse(token: str) -> Unverified:
    """Split a compact JWS into its claims; raise Refused for anything two readers could understand differently."""
    if len(token) > MAX_TOKEN_BYTES or not COMPACT_FORM.fullmatch(token):
        raise malformed("is not a JWT of three base64url parts")
    parts = token.split(".")
    header, claims = _object(parts[0], "header"), _object(parts[1], "payload")
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ASYMMETRIC:
        raise refused(Code.IDENTITY_ALGORITHM, "The token is not signed with an asymmetric algorithm.")
    # We understand no extension (RFC 7515 section 4.1.11) and no detached payload (RFC 7797).
    if "crit" in header or "b64" in header:
        raise malformed("asks for a JWS extension that is not supported")
    kind = header.get("typ", "")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise malformed("is of a type that is neither an ID token nor an access token")
    key_id = header.get("kid")
    if key_id is not None and not isinstance(key_id, str):
        raise malformed("has a key id that is not a string")
    issuer = claims.get("iss")
    if not isinstance(issuer, str):
        raise refused(Code.IDENTITY_ISSUER, "The token does not name its issuer (iss).")
    return Unverified(algorithm, key_id, issuer, claims)


def check_claims(issuer: Issuer, claims: Mapping[str, object], now: float) -> float:
    """Check times and audience of a token whose signature is verified, and return when it expires (Unix seconds).

    Raises Refused. `exp` is required; `nbf` and `iat` count where they are present; each gets the issuer's leeway.
    """
    expiry = _time(claims, "exp")
    if expiry is None:
        raise refused(Code.IDENTITY_CLAIMS, "The token never expires (it has no exp), which is not accepted.")
    if now >= expiry + issuer.leeway_seconds:
        raise expired(now - expiry)
    for name in ("nbf", "iat"):
        begin = _time(claims, name)
        if begin is not None and begin > now + issuer.leeway_seconds:
            raise not_yet_valid(begin - now, name)
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if not all(isinstance(name, str) for name in named) or issuer.audiences.isdisjoint(named):
        raise refused(
            Code.IDENTITY_AUDIENCE, f"The token was issued for another audience (aud) than this gateway; {SIGN_IN}."
        )
    return expiry


def _object(part: str, what: str) -> dict[str, object]:
    try:
        raw = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
        value = json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_not_a_number)
    except (ValueError, RecursionError):
        raise malformed(f"has a {what} that is not well-formed JSON") from None
    if not isinstance(value, dict):
        raise malformed(f"has a {what} that is not a JSON object")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    # RFC 7519 section 4 lets a reader refuse repeated names or take the last; two readers who differ can be played off.
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name is repeated")
    return value


def _not_a_number(_constant: str) -> NoReturn:
    raise ValueError("not a JSON number")


def _time(claims: Mapping[str, object], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    # Said as "not within" rather than "beyond", so that NaN, which is neither, is refused as well.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _MAX_SECONDS:
        raise refused(Code.IDENTITY_CLAIMS, f"The token's {name} claim is not a time in seconds.")
    return float(value)


def _span(seconds: float) -> str:
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if count := int(seconds // size):
            return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
    return "less than a minute"
