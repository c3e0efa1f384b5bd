"""Sign in with a code that is typed into a browser anywhere: the device authorization grant (RFC 8628)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import aiohttp

from extproc.errors import ExtprocError
from extproc.keys.fetch import FetchFailed
from extproc.signin.discovery import Provider, is_endpoint
from extproc.signin.oauth import OAuthRefused, Tokens, post, request_tokens

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
POLL_SECONDS = 5.0
"""The interval where the issuer names none, and what `slow_down` adds (RFC 8628 sections 3.2 and 3.5)."""
MAX_WAIT_SECONDS = 1800.0
_MAX_CODE = 100


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a person needs: the address to open, the code to enter there, or one address that holds both."""

    address: str
    code: str
    address_with_code: str | None


async def sign_in(
    session: aiohttp.ClientSession,
    provider: Provider,
    client_id: str,
    scope: str,
    *,
    show: Callable[[Prompt], None],
    sleep: Callable[[float], Awaitable[None]],
    now: Callable[[], float],
) -> Tokens:
    """Show the prompt and return the tokens once a person has agreed.

    Raises OAuthRefused (refused, expired), FetchFailed, and ExtprocError where the issuer has no device flow.
    """
    if provider.device_authorization_endpoint is None:
        raise ExtprocError(f"{provider.issuer} has no device flow: sign in with `extproc login --browser`")
    begun = await post(session, provider.device_authorization_endpoint, {"client_id": client_id, "scope": scope})
    device_code, interval, lifetime = _text(begun, "device_code"), _seconds(begun, "interval"), begun.get("expires_in")
    wait = min(lifetime, MAX_WAIT_SECONDS) if isinstance(lifetime, int | float) else MAX_WAIT_SECONDS
    show(_prompt(begun))
    form = {"grant_type": GRANT_TYPE, "device_code": device_code, "client_id": client_id}
    ends_at = now() + wait
    while now() + interval < ends_at:
        await sleep(interval)
        try:
            return await request_tokens(session, provider.token_endpoint, form)
        except OAuthRefused as refused:
            if refused.error == "slow_down":
                interval += POLL_SECONDS
            elif refused.error != "authorization_pending":
                raise
        except FetchFailed:
            # RFC 8628 section 3.5: after a connection timeout, poll less often.
            interval *= 2
    raise OAuthRefused("expired_token", "nobody entered the code in time: begin again")


def _prompt(begun: Mapping[str, object]) -> Prompt:
    address, code, both = _text(begun, "verification_uri"), _text(begun, "user_code"), None
    # Both are printed and one is opened: neither may steer a terminal or lead elsewhere than to a web page.
    if not is_endpoint(address) or not code.isprintable() or len(code) > _MAX_CODE:
        raise ExtprocError("the issuer's answer holds no verification_uri and user_code that could be shown")
    if "verification_uri_complete" in begun and is_endpoint(_text(begun, "verification_uri_complete")):
        both = _text(begun, "verification_uri_complete")
    return Prompt(address, code, both)


def _text(begun: Mapping[str, object], name: str) -> str:
    value = begun.get(name)
    if not isinstance(value, str) or not value:
        raise ExtprocError(f"the issuer's answer holds no {name}")
    return value


def _seconds(begun: Mapping[str, object], name: str) -> float:
    value = begun.get(name, POLL_SECONDS)
    # Never more often than once a second, whatever the issuer permits.
    return max(1.0, value) if isinstance(value, int | float) else POLL_SECONDS
