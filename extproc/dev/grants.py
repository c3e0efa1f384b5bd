"""What the dev issuer has granted: authorization codes, device codes and refresh tokens. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

CODE_SECONDS = 60
DEVICE_SECONDS = 600
REFRESH_SECONDS = 12 * 3600
POLL_SECONDS = 5  # RFC 8628 section 3.2: the default interval; slow_down adds as much (section 3.5)
_MAX_OUTSTANDING = 1000
_USER_CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # RFC 8628 section 6.1: no vowels, so no words
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")  # RFC 7636 section 4.1


class OAuthError(Exception):
    """Refuse with an error code of RFC 6749 or RFC 8628 and one sentence for the developer."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description


@dataclass(frozen=True, slots=True)
class Grant:
    """Who signed in for which client; what a token is made of."""

    client_id: str
    user: str
    scope: str
    nonce: str | None = None


@dataclass(frozen=True, slots=True)
class _Code:
    grant: Grant
    redirect_uri: str
    challenge: str
    expires_at: float


class AuthorizationCodes:
    """Authorization codes with PKCE: each is good once, for 60 seconds."""

    def __init__(self) -> None:
        self._codes: dict[str, _Code] = {}

    def issue(self, grant: Grant, *, redirect_uri: str, challenge: str, now: float) -> str:
        """Return a new code bound to the client, the redirect URI and the S256 `challenge`."""
        self._codes = {code: entry for code, entry in self._codes.items() if entry.expires_at > now}
        _refuse_when_full(len(self._codes))
        code = secrets.token_urlsafe(32)
        self._codes[code] = _Code(grant, redirect_uri, challenge, now + CODE_SECONDS)
        return code

    def redeem(self, code: str, *, client_id: str, redirect_uri: str, verifier: str, now: float) -> Grant:
        """Return what `code` stands for. Whatever the outcome the code is spent (RFC 6749 section 4.1.2)."""
        entry = self._codes.pop(code, None)
        if entry is None or entry.expires_at <= now:
            raise OAuthError("invalid_grant", "the code is unknown, used or expired")
        if client_id != entry.grant.client_id or redirect_uri != entry.redirect_uri:
            raise OAuthError("invalid_grant", "client_id and redirect_uri are not those of the authorization request")
        if not _VERIFIER.fullmatch(verifier) or not hmac.compare_digest(s256(verifier), entry.challenge):
            raise OAuthError("invalid_grant", "code_verifier does not match the code_challenge")
        return entry.grant


@dataclass(slots=True)
class _Device:
    client_id: str
    scope: str
    user_code: str
    expires_at: float
    interval: int = POLL_SECONDS
    polled_at: float | None = None
    user: str | None = None
    denied: bool = False


class DeviceCodes:
    """Device codes (RFC 8628): pending until a person says who they are or refuses, good once, for ten minutes."""

    def __init__(self) -> None:
        self._devices: dict[str, _Device] = {}

    def issue(self, client_id: str, scope: str, *, now: float) -> tuple[str, str]:
        """Return a new device code and the user code that a person types, such as `BCDF-GHJK`."""
        # Expired ones stay a while, so that a client that still polls is told so and not "unknown".
        keep = now - DEVICE_SECONDS
        self._devices = {code: device for code, device in self._devices.items() if device.expires_at > keep}
        _refuse_when_full(len(self._devices))
        letters = "".join(secrets.choice(_USER_CODE_LETTERS) for _ in range(8))
        device_code, user_code = secrets.token_urlsafe(32), f"{letters[:4]}-{letters[4:]}"
        self._devices[device_code] = _Device(client_id, scope, user_code, now + DEVICE_SECONDS)
        return device_code, user_code

    def decide(self, typed: str, user: str | None, *, now: float) -> None:
        """Sign `user` in on the device that shows the code `typed`, or refuse when `user` is None; once only."""
        wanted = _letters(typed)
        for device in self._devices.values():
            undecided = device.user is None and not device.denied
            if _letters(device.user_code) == wanted and undecided and device.expires_at > now:
                device.user, device.denied = user, user is None
                return
        raise OAuthError("invalid_request", "this code is unknown, used or expired")

    def redeem(self, device_code: str, *, client_id: str, now: float) -> Grant:
        """Return the grant once a person has decided; until then raise what RFC 8628 section 3.5 names."""
        device = self._devices.get(device_code)
        if device is None or device.client_id != client_id:
            raise OAuthError("invalid_grant", "the device code is unknown, used, or another client's")
        if device.expires_at <= now:
            raise OAuthError("expired_token", "the device code has expired: begin again")
        if device.denied:
            raise OAuthError("access_denied", "the sign-in was refused")
        polled_at, device.polled_at = device.polled_at, now
        if polled_at is not None and now - polled_at < device.interval:
            device.interval += POLL_SECONDS
            raise OAuthError("slow_down", f"poll every {device.interval} seconds")
        if device.user is None:
            raise OAuthError("authorization_pending", "nobody has entered the user code yet")
        del self._devices[device_code]
        return Grant(device.client_id, device.user, device.scope)


@dataclass(slots=True)
class _Family:
    grant: Grant
    current: str
    expires_at: float


class RefreshTokens:
    """Refresh tokens, each good once; all that come of one sign-in are a family, which lives twelve hours.

    A token that is used a second time was copied, and nobody can tell by whom: that ends its family (RFC 9700 section
    4.14.2).
    """

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}

    def issue(self, grant: Grant, *, now: float) -> str:
        """Return the first refresh token of a new family."""
        self._families = {name: family for name, family in self._families.items() if family.expires_at > now}
        _refuse_when_full(len(self._families))
        name = secrets.token_urlsafe(16)
        self._families[name] = _Family(grant, _next_token(name), now + REFRESH_SECONDS)
        return self._families[name].current

    def redeem(self, token: str, *, client_id: str, now: float) -> tuple[Grant, str]:
        """Return what `token` stands for and the token that takes its place."""
        family = self._of(token, client_id)
        if family is None or family.expires_at <= now:
            raise OAuthError("invalid_grant", "the refresh token is unknown, revoked or expired")
        if not hmac.compare_digest(family.current.encode(), token.encode()):
            self.revoke(token, client_id=client_id)
            raise OAuthError("invalid_grant", "the refresh token was used before: the sign-in is revoked")
        family.current = _next_token(_family_name(token))
        return family.grant, family.current

    def revoke(self, token: str, *, client_id: str) -> None:
        """End the family of `token`, if there is one."""
        if self._of(token, client_id) is not None:
            del self._families[_family_name(token)]

    def _of(self, token: str, client_id: str) -> _Family | None:
        family = self._families.get(_family_name(token))
        return family if family is not None and family.grant.client_id == client_id else None


def s256(verifier: str) -> str:
    """Return the S256 code challenge of a code verifier (RFC 7636 section 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _next_token(family: str) -> str:
    return f"{family}.{secrets.token_urlsafe(32)}"


def _family_name(token: str) -> str:
    return token.partition(".")[0]


def _letters(user_code: str) -> str:
    # RFC 8628 section 6.1: the case and the separators a person types do not matter.
    return "".join(character for character in user_code.upper() if character in _USER_CODE_LETTERS)


def _refuse_when_full(outstanding: int) -> None:
    if outstanding >= _MAX_OUTSTANDING:
        raise OAuthError("temporarily_unavailable", f"{_MAX_OUTSTANDING} grants are outstanding already")
