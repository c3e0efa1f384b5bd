"""The dev issuer's signing key and the tokens it signs. Whoever can read the key file can be anyone in development."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from extproc.dev import files
from extproc.errors import ConfigError
from extproc.keys.new_file import create_once

KEY_FILE = "issuer.pem"

_ALGORITHM = "RS256"
_KEY_BITS = 2048  # the least RFC 7518 section 3.3 allows for RS256


@dataclass(frozen=True)
class SigningKey:
    """An RSA key for RS256; `kid` is its RFC 7638 thumbprint (SHA-256, base64url without padding)."""

    private: rsa.RSAPrivateKey = field(repr=False)

    @cached_property
    def kid(self) -> str:
        """Return the thumbprint: the hash of the required members, sorted, without blanks (RFC 7638 section 3)."""
        members = json.dumps(self._public_members(), sort_keys=True, separators=(",", ":"))
        return _base64url(hashlib.sha256(members.encode()).digest())

    def jwk(self) -> dict[str, str]:
        """Return the public key as a JWK (RFC 7517) for a JWKS document."""
        return {**self._public_members(), "kid": self.kid, "use": "sig", "alg": _ALGORITHM}

    def _public_members(self) -> dict[str, str]:
        numbers = self.private.public_key().public_numbers()
        return {"kty": "RSA", "n": _base64url_number(numbers.n), "e": _base64url_number(numbers.e)}


def load_or_create(path: Path) -> SigningKey:
    """Read the PEM key at `path`, or make one there with mode 0600.

    The file appears whole or not at all, and of two processes that start at once both end up with the same key.
    Raises ConfigError when the file is there but is not an RSA private key.
    """
    try:
        pem = path.read_bytes()
    except FileNotFoundError:
        create_once(path, _new_key())
        pem = path.read_bytes()
    try:
        private = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        private = None
    if not isinstance(private, rsa.RSAPrivateKey):
        raise ConfigError(f"{path}: expected an unencrypted RSA private key in PEM; remove the file to get a new one")
    return SigningKey(private)


def mint(
    key: SigningKey,
    *,
    issuer: str,
    audience: str,
    user: str,
    groups: Iterable[str],
    now: float,
    lifetime_seconds: int = 3600,
    extra: Mapping[str, object] | None = None,
) -> str:
    """Sign a JWT for `user`, valid from `now` (Unix seconds); claims in `extra` are added and win over ours."""
    claims: dict[str, object] = {
        "iss": issuer,
        "aud": audience,
        "sub": user,
        "name": user.capitalize(),
        "preferred_username": user,
        "groups": list(groups),
        "iat": int(now),
        "nbf": int(now),
        "exp": int(now) + lifetime_seconds,
        "jti": secrets.token_urlsafe(16),
        **(extra or {}),
    }
    return jwt.encode(claims, key.private, algorithm=_ALGORITHM, headers={"kid": key.kid})


def token_for(state: Path, user: str, groups: Iterable[str], *, now: float, lifetime_seconds: int = 3600) -> str:
    """Sign a gateway token with the key of the development issuer in `state`; raises ConfigError where it has none."""
    issuer = files.ports_of(state).issuer_url
    return mint(
        load_or_create(state / KEY_FILE),
        issuer=issuer,
        audience=files.AUDIENCE,
        user=user,
        groups=groups,
        now=now,
        lifetime_seconds=lifetime_seconds,
    )


def _new_key() -> bytes:
    return rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _base64url_number(number: int) -> str:
    return _base64url(number.to_bytes((number.bit_length() + 7) // 8, "big"))
