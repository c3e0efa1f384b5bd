"""Sign in with the browser of this machine: the code flow with PKCE and a loopback redirect (RFC 8252, RFC 7636)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from extproc.errors import ExtprocError
from extproc.signin.discovery import Provider
from extproc.signin.oauth import OAuthRefused, Tokens, request_tokens

CALLBACK_PATH = "/callback"
TIMEOUT_SECONDS = 300.0
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    # The address of the page holds the code.
    "Referrer-Policy": "no-referrer",
}


async def sign_in(
    session: aiohttp.ClientSession,
    provider: Provider,
    client_id: str,
    scope: str,
    *,
    opener: Callable[[str], object],
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Tokens:
    """Have `opener` (which may block) open the issuer's page, and return the tokens once a person has signed in there.

    Raises OAuthRefused, FetchFailed, and ExtprocError (nobody signed in in time, an answer of another issuer).
    """
    if provider.authorization_endpoint is None:
        raise ExtprocError(f"{provider.issuer} has no authorization endpoint: sign in with `extproc login --device`")
    verifier, callback = secrets.token_urlsafe(32), _Callback(provider)
    async with _listening(callback) as redirect_uri:
        query = {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": redirect_uri,
            "scope": scope,
            "state": callback.state,
            "code_challenge": _s256(verifier),
            "code_challenge_method": "S256",
        }
        endpoint = provider.authorization_endpoint
        try:
            async with asyncio.timeout(timeout_seconds):
                address = f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"
                # Some browsers hold their caller until they are closed, which neither the answer nor the end waits for.
                threading.Thread(target=opener, args=(address,), daemon=True).start()
                code = await callback.code
        except TimeoutError:
            raise ExtprocError(f"nobody signed in within {timeout_seconds:.0f} seconds: begin again") from None
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "client_id": client_id,
        "code_verifier": verifier,
    }
    return await request_tokens(session, provider.token_endpoint, form)


class _Callback:
    """Take the one answer of the issuer; whatever does not carry our state is answered and forgotten."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self.state = secrets.token_urlsafe(32)
        self.code: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def answer(self, request: web.Request) -> web.Response:
        query = request.query
        # Any page in the browser can send requests here; only the issuer's answer knows the state. RFC 6749 section
        # 3.1: parameters must not be repeated.
        known = hmac.compare_digest(query.get("state", "").encode(), self.state.encode())
        if not known or len(query) != len(set(query)) or not {"code", "error"} & set(query):
            return _page("This is not an answer to the sign-in that was begun.", status=400)
        if not self.code.done():
            self._take(query.get("code"), query.get("error"), query.get("error_description", ""), query.get("iss"))
        if self.code.exception() is None:
            return _page("You are signed in. You can close this window.")
        return _page("The sign-in failed: the terminal says why. You can close this window.")

    def _take(self, code: str | None, error: str | None, description: str, issuer: str | None) -> None:
        # RFC 9207 section 2.4: an answer of another issuer must not be used, nor one without `iss` that should have it.
        if issuer != self._provider.issuer and (issuer is not None or self._provider.names_itself):
            self.code.set_exception(ExtprocError(f"the answer in the browser is not of {self._provider.issuer}"))
        elif code is None or error is not None:
            self.code.set_exception(OAuthRefused(error or "", description))
        else:
            self.code.set_result(code)


@asynccontextmanager
async def _listening(callback: _Callback) -> AsyncIterator[str]:
    """Serve the redirect URI on an ephemeral port of 127.0.0.1 (RFC 8252 section 7.3), and nothing else."""
    app = web.Application()
    app.router.add_get(CALLBACK_PATH, callback.answer, allow_head=False)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}{CALLBACK_PATH}"
    finally:
        await runner.cleanup()


def _page(text: str, *, status: int = 200) -> web.Response:
    page = f'<!doctype html><html lang="en"><title>extproc login</title><p>{text}</p></html>\n'
    return web.Response(text=page, content_type="text/html", status=status, headers=_HEADERS)


def _s256(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
