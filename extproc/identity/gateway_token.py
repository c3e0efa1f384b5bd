"""Mint and read the gateway's own short-lived tokens, which look like GitHub's Copilot tokens. Pure.

Clients exchange the token they signed in with for one of `tid=…;exp=…;…:mac` at `GET /copilot_internal/v2/token`, and
read some of its members (`CopilotToken` in the Copilot extension and language server). In ours, `gw` is the principal,
compressed and encrypted with AES-SIV (RFC 5297), and the part behind the colon is its authenticator, which also covers
all that can be read. Clients show the members to editors, but not what is behind the colon: without it they are of no
use to anybody.

A token is good at every gateway that has the key it was minted with, and at no other: gateways of different tenants
have different keys. It is bound to no sender, and cannot be revoked before it expires.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from extproc.errors import Code
from extproc.identity.principal import Principal
from extproc.identity.token import MAX_TOKEN_BYTES, SIGN_IN, expired, malformed, not_yet_valid, refused
from extproc.secret import Secret

KEY_BYTES: Final = 32
"""A gateway's key, of which the key of AES-SIV is derived."""

LIFETIME_SECONDS: Final = 1800
"""How long a token is good (that of GitHub's own: 30 minutes)."""

REFRESH_IN_SECONDS: Final = 1500
"""When a client is to ask for the next one. It takes a token to expire 60 s later, whatever `expires_at` says
(`CopilotTokenManager` of the Copilot extension): long before it does."""

LEEWAY_SECONDS: Final = 60
"""How far the clocks of gateways that share a key may differ; as for issuers."""

# What clients read in members that are not ours, with the values of a seat that may use everything: policy decides
# here, not the client. But for `rt`, which would make clients send prompts to GitHub's telemetry, and for
# `client_byok`, which is not there, so that clients offer no models behind the gateway's back.
_MEMBERS: Final = (
    "sku=copilot_for_business_seat;st=dotcom;ssc=1;chat=1;cit=1;malfil=1;editor_preview_features=1"
    ";agent_mode=1;mcp=1;ccr=1;rt=0;8kp=1"
)

# What is sealed in this version of the form; another version has another number and another key.
_VERSION: Final = "1"
_PURPOSE: Final = b"copilot-extproc gateway token, version 1"

_TOKEN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FORM = re.compile(rf"(tid=[A-Za-z0-9_=;.-]+;gw={_VERSION}\.)([A-Za-z0-9_-]+):([0-9a-f]{{32}})")

# AES-SIV with two keys of 256 bits, and the length of its authenticator (RFC 5297 sections 2.2 and 2.4).
_SIV_KEY_BYTES = 64
_SIV_BYTES = 16

# Ten times what compresses to the longest token, and little enough to be held for any request.
_MAX_SEALED_BYTES = 10 * MAX_TOKEN_BYTES


@dataclass(frozen=True, slots=True)
class Minted:
    """A new token, when it expires (Unix seconds), and in how many seconds the client is to ask for the next."""

    token: Secret
    expires_at: int
    refresh_in: int


@dataclass(frozen=True, slots=True)
class Read:
    """Whom a token was minted for, and when it expires (Unix seconds)."""

    principal: Principal
    expires_at: int


@dataclass(frozen=True, slots=True)
class _Sealed:
    issued_at: int
    expires_at: int
    principal: Principal


def is_gateway_token(text: str) -> bool:
    """Tell by its form whether a text is a gateway's token, of whatever gateway.

    From such a token none is minted: who signed in once would never have to again.
    """
    return len(text) <= MAX_TOKEN_BYTES and _FORM.fullmatch(text) is not None


class GatewayTokens:
    """Mint tokens with the first key, and read those of every key (32 bytes each): so a key is replaced by another."""

    __slots__ = ("_ciphers",)

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"gateway tokens need a key of {KEY_BYTES} bytes")
        self._ciphers = [_cipher(key) for key in keys]

    def mint(self, principal: Principal, now: float, token_id: str) -> Minted:
        """Return a token for `principal`; `token_id` (1 to 64 of A-Z a-z 0-9 _ -) is new for each and can be read.

        Raises Refused with `identity.groups_unavailable` where the principal has too many groups for a token.
        """
        if not _TOKEN_ID.fullmatch(token_id):
            raise ValueError("a token id has 1 to 64 of the characters A-Z a-z 0-9 _ -")
        expires_at = int(now) + LIFETIME_SECONDS
        visible = f"tid={token_id};exp={expires_at};{_MEMBERS};gw={_VERSION}."
        plain = msgspec.json.encode(_Sealed(int(now), expires_at, principal), order="sorted")
        sealed = self._ciphers[0].encrypt(zlib.compress(plain), [visible.encode()])
        token = f"{visible}{_encoded(sealed[_SIV_BYTES:])}:{sealed[:_SIV_BYTES].hex()}"
        # What is too long to be read is not minted.
        if len(token) > MAX_TOKEN_BYTES or len(plain) > _MAX_SEALED_BYTES:
            raise refused(
                Code.IDENTITY_GROUPS_UNAVAILABLE, "You have too many groups for a token of this gateway to hold.", 403
            )
        return Minted(Secret(token), expires_at, REFRESH_IN_SECONDS)

    def read(self, token: str, now: float) -> Read:
        """Return what was sealed in `token`; raises Refused.

        Codes: `identity.malformed`, `identity.signature` (also for the token of a gateway with another key),
        `identity.expired`, `identity.not_yet_valid`.
        """
        form = _FORM.fullmatch(token) if len(token) <= MAX_TOKEN_BYTES else None
        sealed = _decoded(form[2]) if form else None
        if not form or sealed is None:
            raise malformed("is not of the form of this gateway's tokens")
        found = _unpacked(self._opened(bytes.fromhex(form[3]) + sealed, form[1]))
        if found.issued_at > now + LEEWAY_SECONDS:
            raise not_yet_valid(found.issued_at - now, "issued")
        if now >= found.expires_at:
            raise expired(now - found.expires_at)
        return Read(found.principal, found.expires_at)

    def _opened(self, sealed: bytes, visible: str) -> bytes:
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(sealed, [visible.encode()])
            except InvalidTag:
                continue
        raise refused(Code.IDENTITY_SIGNATURE, f"The token was not made by this gateway, or was changed; {SIGN_IN}.")


def _cipher(key: bytes) -> AESSIV:
    return AESSIV(HKDF(SHA256(), _SIV_KEY_BYTES, salt=None, info=_PURPOSE).derive(key))


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decoded(text: str) -> bytes | None:
    """Decode base64url without padding; None where other characters would stand for the same bytes."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    return raw if _encoded(raw) == text else None


def _unpacked(packed: bytes) -> _Sealed:
    """Read what is authentic; it may still have been sealed by a gateway of another release."""
    inflate = zlib.decompressobj()
    try:
        plain = inflate.decompress(packed, _MAX_SEALED_BYTES)
        if inflate.eof and not inflate.unused_data:
            return msgspec.json.decode(plain, type=_Sealed)
    # DecodeError and ValidationError of msgspec are ValueErrors.
    except (zlib.error, ValueError):
        pass
    raise malformed("holds nobody that this gateway understands")
