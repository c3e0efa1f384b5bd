"""Sign people in to the console: the authorization code flow of OpenID Connect with PKCE (OpenID Connect Core 1.0)."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx2
from authlib.integrations.starlette_client import OAuth, OAuthError  # type: ignore[import-untyped]
from authlib.oidc.core import CodeIDToken  # type: ignore[import-untyped]
from joserfc.errors import JoseError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from extproc.config import Config
from extproc.config_console import ConsoleSignIn
from extproc.console.browser_sessions import end, renew
from extproc.console.issuer_transport import BoundedTransport
from extproc.console.page import PageFault, checked_form, page
from extproc.credentials.source import FileSource
from extproc.errors import ConfigError, Refused
from extproc.identity.claims import principal_of
from extproc.identity.issuers import EntraIssuer, Issuer
from extproc.identity.principal import Principal
from extproc.identity.token import SIGN_IN
from extproc.keys.verifier import Verifier
from extproc.secret import Secret
from extproc.signin.discovery import is_endpoint
from extproc.signin.oauth import shown

log = logging.getLogger("extproc.console")

REQUEST_SECONDS: Final = 10.0
"""How long one request to the issuer may take, and"""

TOTAL_SECONDS: Final = 20.0
"""all those of one step of a sign-in."""

METADATA_SECONDS: Final = 3600.0
"""How long what the issuer says of itself, and its keys, are taken for granted."""

MAX_NEXT: Final = 2000
"""Longest path that is gone back to; the session keeps it meanwhile."""

_NAME: Final = "console"
_OURS: Final = frozenset({"/sign-in", "/signed-in", "/sign-out"})
_NOT_BEGUN: Final = "This sign-in was not begun in this browser, took too long, or is over already. Sign in again."
_BAD_ANSWER: Final = "The issuer's answer is not what OpenID Connect prescribes, so nobody is signed in."


def sign_in_of(config: Config, verifier: Verifier, now: Callable[[], float]) -> SignIn | None:
    """Return how people sign in, None where the settings do not say it; raises ConfigError for the client's secret."""
    told = config.settings.console.sign_in
    if told is None:
        return None
    secret = None
    if told.client_secret_file is not None:
        try:
            secret = FileSource("console", config.base / told.client_secret_file).read()
        except Refused as refused:
            raise ConfigError(f"console.sign_in.client_secret_file: {refused.refusal.message}") from None
    issuer = next(one for one in config.issuers if one.url == told.issuer)
    return SignIn(told, url=config.settings.console.url, secret=secret, issuer=issuer, verifier=verifier, now=now)


class SignIn:
    """Sign people in and out; who somebody is, is decided as for the gateway, by the verifier.

    Afterwards the session has `principal` (Principal), `csrf` (the token that forms carry) and `signed_in_at` (unix
    seconds). Signing in needs `BrowserSessions`, and PageFault to be answered as a page.
    """

    def __init__(
        self,
        settings: ConsoleSignIn,
        *,
        url: str,
        secret: Secret | None,
        issuer: Issuer,
        verifier: Verifier,
        now: Callable[[], float],
    ) -> None:
        self._settings = settings
        # Not from the Host header, which anybody can write.
        self._redirect_uri = f"{url}/signed-in"
        self._secret = secret
        self._issuer = issuer
        self._verifier = verifier
        self._now = now
        self._transport = BoundedTransport()
        self._client: tuple[Any, float] | None = None

    def routes(self) -> list[Route]:
        """Return the routes, which are open to everybody."""
        return [
            Route("/sign-in", self.begin, methods=["GET"]),
            Route("/signed-in", self.finish, methods=["GET"]),
            Route("/sign-out", self.sign_out, methods=["POST"]),
        ]

    async def begin(self, request: Request) -> Response:
        """Send the browser to the issuer; `next` is where it goes afterwards."""
        try:
            async with asyncio.timeout(TOTAL_SECONDS):
                client = await self._ready()
                begun = await client.create_authorization_url(self._redirect_uri)
        except (httpx2.HTTPError, OSError) as error:
            raise _unreachable(error) from None
        where = local_path(request.query_params.get("next", "/"))
        await client.save_authorize_data(request, redirect_uri=self._redirect_uri, next=where, **begun)
        return RedirectResponse(begun["url"], 303)

    async def finish(self, request: Request) -> Response:
        """Take the issuer's answer, and sign in whom it is about; whatever is wrong with it, nobody is signed in."""
        query = request.query_params
        # RFC 6749 section 3.1: parameters must not be repeated.
        if len(query.multi_items()) != len(query):
            raise PageFault(400, _BAD_ANSWER)
        try:
            async with asyncio.timeout(TOTAL_SECONDS):
                client = await self._ready()
                begun = await client.framework.get_state_data(request.session, query.get("state"))
                if begun is None:
                    raise PageFault(400, _NOT_BEGUN)
                # This browser's own sign-in ends here, whoever was signed in before; no answer is good twice.
                request.session.clear()
                principal = await self._answered(client, request.query_params, begun)
        except (httpx2.HTTPError, OSError) as error:
            raise _unreachable(error) from None
        renew(request)
        request.session.update(principal=principal, csrf=secrets.token_urlsafe(32), signed_in_at=self._now())
        log.info("somebody signed in", extra={"fields": {"principal": principal.id}})
        return RedirectResponse(local_path(begun["next"]), 303)

    async def sign_out(self, request: Request) -> Response:
        """Forget the session; that at the issuer is not ours to end."""
        await checked_form(request)
        end(request)
        return page(request, "signed_out.html")

    async def _answered(self, client: Any, query: Mapping[str, str], begun: Mapping[str, str]) -> Principal:  # noqa: ANN401 - authlib has no types
        """Return whom an answer is about that carries the state of this browser's sign-in; raises PageFault."""
        # RFC 9207 section 2.4: an answer of another issuer must not be used, nor one without `iss` that should have it.
        iss = query.get("iss")
        if iss != self._issuer.url and (iss is not None or client.server_metadata["names_itself"]):
            raise _refused(403, "The answer in the browser is of another issuer than the one that was asked.")
        if (refusal := query.get("error")) is not None:
            raise _refused_by_issuer(refusal, query.get("error_description", ""))
        if not query.get("code"):
            raise PageFault(400, _BAD_ANSWER)
        try:
            told = {name: begun[name] for name in ("redirect_uri", "code_verifier")}
            answer = await client.fetch_access_token(code=query["code"], **told)
            claims = await self._id_token(client, answer, begun["nonce"])
        except OAuthError as error:
            what = shown(f"{error.error}")
            raise _refused(502, f"The issuer gave no token for its own answer ({what}). Sign in again.") from None
        # What authlib and its parsers raise of an answer in which something has another type than it must have.
        except (JoseError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise _refused(502, _BAD_ANSWER, error) from None
        return await self._verified(claims, answer.get(self._settings.use))

    async def _id_token(self, client: Any, answer: Mapping[str, Any], nonce: str) -> Mapping[str, Any] | None:  # noqa: ANN401 - authlib has no types
        """Return the claims of a valid ID token, None where there is no token; raises JoseError and others."""
        wanted = {
            "iss": {"essential": True, "value": self._issuer.url},
            "aud": {"essential": True, "value": self._settings.client_id},
        }

        def claims_of(claims: Any, header: Any, options: Any, params: dict[str, Any]) -> _IdToken:  # noqa: ANN401
            # authlib checks `at_hash` only where it is told the access token, which it is not with claims of our own.
            made = _IdToken(claims, header, options, {**params, "access_token": answer["access_token"]})
            made.clock = self._now
            return made

        leeway = self._issuer.leeway_seconds
        found: Mapping[str, Any] | None = await client.parse_id_token(
            answer, nonce=nonce, claims_options=wanted, claims_cls=claims_of, leeway=leeway
        )
        return found

    async def _verified(self, claims: Mapping[str, Any] | None, token: object) -> Principal:
        """Return who it is: by the token that the settings name, and by the ID token's claims the same person."""
        if claims is None or not isinstance(token, str):
            raise _refused(502, _BAD_ANSWER)
        try:
            principal = await self._verifier.verify(Secret(token))
            who = principal_of(self._issuer, claims).id
        except Refused as refused:
            refusal = refused.refusal
            why = refusal.message.replace(f"; {SIGN_IN}", "")
            status = 503 if refusal.status == 503 else 403
            raise _refused(status, f"The issuer knows you, but what it says is not accepted: {why}", refused) from None
        if who != principal.id:
            raise _refused(502, "The issuer's ID token and access token are about different people.")
        return principal

    # --- What authlib is told, and what it may learn -----------------------------------------------------------------

    async def _ready(self) -> Any:  # noqa: ANN401 - authlib has no types
        """Return the client with the issuer's metadata; raises httpx2.HTTPError, OSError and PageFault."""
        now = self._now()
        if self._client is None or not self._client[1] <= now < self._client[1] + METADATA_SECONDS:
            client = self._new_client()
            try:
                told = await client.load_server_metadata()
            except (ValueError, TypeError) as error:
                raise _refused(502, "What stands at the issuer's address is no metadata of an issuer.", error) from None
            # All that authlib finds there becomes arguments of its HTTP client: it finds nothing but what was checked.
            client.server_metadata = self._checked(told) | {"_loaded_at": now}
            self._client = client, now
        return self._client[0]

    def _new_client(self) -> Any:  # noqa: ANN401 - authlib has no types
        # Entra's tokens hold the object id, by which it knows people, only for this scope.
        profile = ["profile"] if isinstance(self._issuer, EntraIssuer) else []
        return OAuth().register(
            _NAME,
            client_id=self._settings.client_id,
            client_secret=None if self._secret is None else self._secret.reveal(),
            server_metadata_url=f"{self._issuer.url.rstrip('/')}/.well-known/openid-configuration",
            client_kwargs={
                "scope": " ".join(dict.fromkeys(["openid", *profile, *self._settings.scopes])),
                "code_challenge_method": "S256",
                "transport": self._transport,
                "timeout": REQUEST_SECONDS,
                "headers": {"accept-encoding": "identity"},
                "follow_redirects": False,
                "trust_env": False,
            },
        )

    def _checked(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is needed of the issuer's metadata (OpenID Connect Discovery 1.0 section 3)."""
        # Section 4.3: identical, or somebody else's document stands there.
        if told.get("issuer") != self._issuer.url:
            raise _refused(502, "What stands at the issuer's address is the metadata of another issuer.")
        checked = {
            "issuer": self._issuer.url,
            "authorization_endpoint": told.get("authorization_endpoint"),
            "token_endpoint": told.get("token_endpoint"),
            "jwks_uri": self._issuer.jwks_url or told.get("jwks_uri"),
        }
        if not all(isinstance(one, str) and is_endpoint(one) for one in checked.values()):
            raise _refused(502, "The issuer's metadata lacks an endpoint, or names one that is no https address.")
        methods = told.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        by_post = "client_secret_basic" not in methods and "client_secret_post" in methods
        return checked | {
            "id_token_signing_alg_values_supported": sorted(self._issuer.algorithms),
            "names_itself": told.get("authorization_response_iss_parameter_supported") is True,
            **({"token_endpoint_auth_method": "client_secret_post"} if by_post and self._secret else {}),
        }


class _IdToken(CodeIDToken):  # type: ignore[misc]
    """An ID token's claims, whose times are those of an injected clock."""

    clock: Callable[[], float]

    def validate(self, now: float | None = None, leeway: float = 0) -> None:
        """Check everything; raises JoseError."""
        super().validate(self.clock() if now is None else now, leeway)


def local_path(text: str) -> str:
    """Return a path of the console with its query, and "/" for everything that leads a browser anywhere else.

    Browsers read a host behind two slashes, take a backslash for one, and drop tabs and line ends (URL Standard).
    """
    path = text.partition("?")[0]
    is_local = text.startswith("/") and "//" not in path and "\\" not in text and text.isprintable()
    return text if is_local and len(text) <= MAX_NEXT and path not in _OURS else "/"


# --- Why not ---------------------------------------------------------------------------------------------------------


def _refused(status: int, sentence: str, error: Exception | None = None) -> PageFault:
    # Of an error only its kind: its text can quote the token.
    kind = {} if error is None else {"error": type(error).__name__}
    log.warning("a sign-in failed: %s", sentence, extra={"fields": kind})
    return PageFault(status, sentence)


def _unreachable(error: Exception) -> PageFault:
    return _refused(502, "The issuer, where you would sign in, does not answer as it should. Try again soon.", error)


def _refused_by_issuer(error: str, description: str) -> PageFault:
    status = 403 if error == "access_denied" else 502
    said = f"{error}: {description}" if description else error
    return _refused(status, f"The issuer did not sign you in ({shown(said)}).")
