"""Read GitHub's answer to a token exchange and decide whether its token may be used. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from extproc.credential import ExchangeSpec
from extproc.echo import MIN_SECRET_BYTES
from extproc.errors import ExtprocError
from extproc.secret import Secret

# Exchanged tokens have some hundred characters; Envoy's default for all headers together is 60 KiB.
_TOKEN = re.compile(rf"[!-~]{{{MIN_SECRET_BYTES},8192}}")
_API = re.compile(r"https://([A-Za-z0-9.-]+)(?::443)?/?")

# GitHub's own client adds this to `refresh_in` and takes the sum for the token's life, because clocks differ.
_GRACE_SECONDS = 60

# A share of the life that leaves time for several failed refreshes before the token expires.
_REFRESH_SHARE = 0.8


class GrantError(ExtprocError):
    """Say what makes an answer unusable, as the end of a sentence; never quotes the answer."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A Copilot token and its times (Unix seconds of our clock): use it before `expires`, renew it from `refresh`."""

    token: Secret
    authorization: Secret
    expires: float
    refresh: float
    api_host: str | None


class _Endpoints(msgspec.Struct):
    api: str | None = None


class _Envelope(msgspec.Struct):
    token: str
    expires_at: int | float
    refresh_in: int | float
    endpoints: _Endpoints | None = None


def grant_from(body: bytes, spec: ExchangeSpec, now: float) -> Grant:
    """Read the JSON `body` of a 200 answer that came at `now`. Raises GrantError.

    The token expires at the earlier of `expires_at` and `now + refresh_in + 60`, so that neither a wrong clock nor a
    wrong answer prolongs it. An API endpoint outside `spec.allowed_hosts` spoils the whole answer.
    """
    try:
        envelope = msgspec.json.decode(body, type=_Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise GrantError("GitHub's answer has no valid token, expires_at and refresh_in") from None
    if not _TOKEN.fullmatch(envelope.token):
        raise GrantError("the token in GitHub's answer has a length or a character that no token has")
    if envelope.refresh_in <= 0:
        raise GrantError("GitHub's answer has a refresh_in that is not positive")
    expires = min(envelope.expires_at, now + envelope.refresh_in + _GRACE_SECONDS)
    if expires <= now:
        raise GrantError("the token in GitHub's answer has expired already; check this machine's clock")
    return Grant(
        token=Secret(envelope.token),
        authorization=Secret(f"Bearer {envelope.token}"),
        expires=expires,
        refresh=min(now + envelope.refresh_in, now + _REFRESH_SHARE * (expires - now)),
        api_host=_api_host(envelope.endpoints.api if envelope.endpoints else None, spec.allowed_hosts),
    )


def _api_host(api: str | None, allowed: tuple[str, ...]) -> str | None:
    if api is None:
        return None
    # The specification lets only loopback origins be listed with a scheme.
    if api.startswith("http://") and (origin := api.removesuffix("/")) in allowed:
        return origin.removeprefix("http://")
    match = _API.fullmatch(api)
    if match and (host := match[1].lower()) in allowed:
        return host
    raise GrantError("GitHub's answer names an API endpoint that exchange.allowed_hosts does not list")


def status_cause(status: int) -> str:
    """Say, as the end of a sentence, what to check after GitHub refused an exchange with `status`."""
    match status:
        case 401:
            return "GitHub does not accept its token (401); it has expired or was revoked, replace it"
        case 403:
            return (
                "GitHub refused to exchange its token (403); check that its account has a Copilot seat and that it is "
                "not a fine-grained token (github_pat_), which is used without `exchange`"
            )
        case 404:
            return (
                "GitHub does not exchange tokens of its kind (404), such as those of the gh command (gho_); "
                "use it without `exchange`"
            )
        case _ if 300 <= status < 400:
            return f"GitHub answered the token exchange with a redirect ({status}), which is not followed"
        case _:
            return f"GitHub answered the token exchange with status {status}"
