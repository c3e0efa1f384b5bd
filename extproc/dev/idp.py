"""A development OpenID Connect issuer: anyone may be any demo user. Never for production.

It speaks discovery (OpenID Connect Discovery 1.0), the authorization code flow with PKCE S256 for public clients on
loopback redirect URIs (RFC 6749, RFC 7636, RFC 8252, RFC 9207), the device flow (RFC 8628), and refresh tokens that
rotate (RFC 9700) and can be revoked (RFC 7009) for clients that ask for `offline_access`. The access token carries the
gateway's audience, the ID token the client's id.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlencode

from aiohttp import web
from aiohttp.typedefs import Handler

from extproc.dev.grants import (
    DEVICE_SECONDS,
    POLL_SECONDS,
    AuthorizationCodes,
    DeviceCodes,
    Grant,
    OAuthError,
    RefreshTokens,
)
from extproc.dev.keys import SigningKey, mint
from extproc.dev.pages import device_page, login_page, message_page

TOKEN_SECONDS = 3600
_DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"  # RFC 8628 section 3.4
# RFC 8252 section 7.3: a loopback redirect may use any port. No IPv6: a CSP form-action cannot name such a host.
_LOOPBACK = re.compile(r"(https?://(?:127\.0\.0\.1|localhost)(?::[0-9]{1,5})?)(?:[/?][!-~]*)?")
_LOOPBACK_HOST = re.compile(r"(?:127\.0\.0\.1|localhost)(?::[0-9]{1,5})?")
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")  # a SHA-256 in base64url, RFC 7636 section 4.2
_FORM_FIELDS = {
    "client_id",
    "redirect_uri",
    "response_type",
    "code_challenge",
    "code_challenge_method",
    "scope",
    "state",
    "nonce",
}
_BACK_CHANNEL = {"/token", "/device_authorization", "/revoke"}


def make_app(
    key: SigningKey, *, issuer: str, audience: str, users: Mapping[str, tuple[str, ...]], now: Callable[[], float]
) -> web.Application:
    """Build the issuer: `users` maps each user to their groups, `now` tells Unix seconds."""
    idp = _Issuer(key, issuer=issuer, audience=audience, users=users, now=now)
    app = web.Application(middlewares=[_show_errors])
    app.add_routes(
        [
            web.get("/.well-known/openid-configuration", idp.discovery),
            web.get("/jwks", idp.jwks),
            web.get("/authorize", idp.ask_user),
            web.post("/authorize", idp.authorize),
            web.post("/device_authorization", idp.device_authorization),
            web.get("/device", idp.ask_device_code),
            web.post("/device", idp.decide_device),
            web.post("/token", idp.token),
            web.post("/revoke", idp.revoke),
        ]
    )
    return app


class _Issuer:
    def __init__(
        self,
        key: SigningKey,
        *,
        issuer: str,
        audience: str,
        users: Mapping[str, tuple[str, ...]],
        now: Callable[[], float],
    ) -> None:
        self._key = key
        self._issuer = issuer
        self._audience = audience
        self._users = users
        self._now = now
        self._codes = AuthorizationCodes()
        self._devices = DeviceCodes()
        self._refresh_tokens = RefreshTokens()

    async def discovery(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self._issuer,
                "authorization_endpoint": self._url("authorize"),
                "token_endpoint": self._url("token"),
                "device_authorization_endpoint": self._url("device_authorization"),
                "revocation_endpoint": self._url("revoke"),
                "jwks_uri": self._url("jwks"),
                "response_types_supported": ["code"],
                "response_modes_supported": ["query"],
                "grant_types_supported": ["authorization_code", "refresh_token", _DEVICE_GRANT],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["none"],
                "revocation_endpoint_auth_methods_supported": ["none"],
                "authorization_response_iss_parameter_supported": True,
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "scopes_supported": ["openid", "offline_access", "profile", "groups"],
                "claims_supported": ["sub", "name", "preferred_username", "groups"],
            }
        )

    async def jwks(self, _request: web.Request) -> web.Response:
        return web.json_response({"keys": [self._key.jwk()]})

    async def ask_user(self, request: web.Request) -> web.Response:
        params = _single(request.query.items())
        origin = _client_origin(params)
        fault = _request_fault(params)
        if fault is not None:
            return self._redirect(params, {"error": fault.error, "error_description": fault.description})
        fields = {name: value for name, value in params.items() if name in _FORM_FIELDS}
        return login_page(params["client_id"], self._users, fields, origin)

    async def authorize(self, request: web.Request) -> web.Response:
        params = await _form(request)
        _client_origin(params)
        fault = _request_fault(params)
        if fault is not None:
            return self._redirect(params, {"error": fault.error, "error_description": fault.description})
        grant = Grant(
            params["client_id"], self._known(params.get("user")), params.get("scope", "openid"), params.get("nonce")
        )
        redirect_uri, challenge = params["redirect_uri"], params["code_challenge"]
        code = self._codes.issue(grant, redirect_uri=redirect_uri, challenge=challenge, now=self._now())
        return self._redirect(params, {"code": code})

    async def device_authorization(self, request: web.Request) -> web.Response:
        params = await _form(request)
        client_id = _required(params, "client_id")
        device_code, user_code = self._devices.issue(client_id, params.get("scope", "openid"), now=self._now())
        return _no_store(
            {
                "device_code": device_code,
                "user_code": user_code,
                "verification_uri": self._url("device"),
                "verification_uri_complete": f"{self._url('device')}?{urlencode({'user_code': user_code})}",
                "expires_in": DEVICE_SECONDS,
                "interval": POLL_SECONDS,
            }
        )

    async def ask_device_code(self, request: web.Request) -> web.Response:
        return device_page(self._users, request.query.get("user_code", ""))

    async def decide_device(self, request: web.Request) -> web.Response:
        params = await _form(request)
        user = None if "deny" in params else self._known(params.get("user"))
        self._devices.decide(_required(params, "user_code"), user, now=self._now())
        message = "The sign-in was refused." if user is None else f"The program is now signed in as {user}."
        return message_page("Done", f"{message} You can close this page.")

    async def token(self, request: web.Request) -> web.Response:
        params = await _form(request)
        client_id, now = _required(params, "client_id"), self._now()
        match _required(params, "grant_type"):
            case "authorization_code":
                code, redirect_uri = _required(params, "code"), _required(params, "redirect_uri")
                verifier = _required(params, "code_verifier")
                grant = self._codes.redeem(
                    code, client_id=client_id, redirect_uri=redirect_uri, verifier=verifier, now=now
                )
            case grant_type if grant_type == _DEVICE_GRANT:
                grant = self._devices.redeem(_required(params, "device_code"), client_id=client_id, now=now)
            case "refresh_token":
                spent = _required(params, "refresh_token")
                grant, refresh_token = self._refresh_tokens.redeem(spent, client_id=client_id, now=now)
                return _no_store({**self._tokens(grant, now), "refresh_token": refresh_token})
            case _:
                raise OAuthError("unsupported_grant_type", f"use authorization_code, refresh_token or {_DEVICE_GRANT}")
        tokens = self._tokens(grant, now)
        # OpenID Connect Core 1.0 section 11.
        if "offline_access" in grant.scope.split():
            tokens["refresh_token"] = self._refresh_tokens.issue(grant, now=now)
        return _no_store(tokens)

    async def revoke(self, request: web.Request) -> web.Response:
        params = await _form(request)
        # RFC 7009 section 2.2: a token that is not known is answered alike.
        self._refresh_tokens.revoke(_required(params, "token"), client_id=_required(params, "client_id"))
        return web.Response(headers={"Cache-Control": "no-store"})

    def _tokens(self, grant: Grant, now: float) -> dict[str, object]:
        def sign(audience: str, extra: dict[str, str]) -> str:
            return mint(
                self._key,
                issuer=self._issuer,
                audience=audience,
                user=grant.user,
                groups=self._users[grant.user],
                now=now,
                lifetime_seconds=TOKEN_SECONDS,
                extra=extra,
            )

        return {
            "token_type": "Bearer",
            "expires_in": TOKEN_SECONDS,
            "scope": grant.scope,
            "access_token": sign(self._audience, {"client_id": grant.client_id, "scope": grant.scope}),
            "id_token": sign(grant.client_id, {} if grant.nonce is None else {"nonce": grant.nonce}),
        }

    def _redirect(self, params: Mapping[str, str], answer: Mapping[str, str]) -> web.Response:
        # The Location is written as it was asked for: a URL class would normalise it, and clients compare.
        uri, state = params["redirect_uri"], {"state": params["state"]} if "state" in params else {}
        location = f"{uri}{'&' if '?' in uri else '?'}{urlencode({**answer, **state, 'iss': self._issuer})}"
        headers = {"Location": location, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        return web.Response(status=303, headers=headers)

    def _known(self, user: str | None) -> str:
        if user is None or user not in self._users:
            raise OAuthError("invalid_request", "choose one of the demo users")
        return user

    def _url(self, path: str) -> str:
        return f"{self._issuer.rstrip('/')}/{path}"


@web.middleware
async def _show_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    # A page of the web that gives this address a name of its own (DNS rebinding) would be of the same origin.
    if not _LOOPBACK_HOST.fullmatch(request.host):
        return message_page("This request cannot be served", "the host must be 127.0.0.1 or localhost", status=421)
    try:
        return await handler(request)
    except OAuthError as error:
        if request.path in _BACK_CHANNEL:
            return _no_store({"error": error.error, "error_description": error.description}, status=400)
        return message_page("This request cannot be served", error.description, status=400)


def _client_origin(params: Mapping[str, str]) -> str:
    """Return the origin of the redirect URI; only when it is loopback may anything be sent there (RFC 6749 4.1.2.1)."""
    _required(params, "client_id")
    match = _LOOPBACK.fullmatch(_required(params, "redirect_uri"))
    if match is None or "#" in match[0]:
        raise OAuthError("invalid_request", "redirect_uri must be on http://127.0.0.1 or http://localhost")
    return match[1]


def _request_fault(params: Mapping[str, str]) -> OAuthError | None:
    if params.get("response_type") != "code":
        return OAuthError("unsupported_response_type", "response_type must be code")
    if params.get("code_challenge_method") != "S256":
        return OAuthError("invalid_request", "code_challenge_method must be S256")
    if not _CHALLENGE.fullmatch(params.get("code_challenge", "")):
        return OAuthError("invalid_request", "code_challenge must be 43 characters of base64url")
    return None


async def _form(request: web.Request) -> dict[str, str]:
    if request.content_type != "application/x-www-form-urlencoded":
        raise OAuthError("invalid_request", "send application/x-www-form-urlencoded")
    try:
        fields = await request.post()
    except (UnicodeDecodeError, LookupError) as error:
        raise OAuthError("invalid_request", "the form is not UTF-8") from error
    return _single((name, str(value)) for name, value in fields.items())


def _single(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    params: dict[str, str] = {}
    for name, value in pairs:
        if name in params:  # RFC 6749 section 3.1: parameters must not be included more than once
            raise OAuthError("invalid_request", f"a parameter is repeated: {name}")
        params[name] = value
    return params


def _required(params: Mapping[str, str], name: str) -> str:
    if not params.get(name):
        raise OAuthError("invalid_request", f"{name} is missing")
    return params[name]


def _no_store(body: dict[str, object], *, status: int = 200) -> web.Response:
    return web.json_response(body, status=status, headers={"Cache-Control": "no-store"})
