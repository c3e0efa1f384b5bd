"""Turn a presented token into a verified principal."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import aiohttp
from jwt import PyJWK, PyJWS
from jwt.exceptions import InvalidAlgorithmError, InvalidKeyError, InvalidSignatureError, PyJWTError

from extproc.errors import Code, ConfigError, Refused
from extproc.identity.claims import needs_groups, principal_of
from extproc.identity.gateway_token import GatewayTokens, is_gateway_token
from extproc.identity.issuers import ASYMMETRIC, EntraIssuer, Issuer
from extproc.identity.principal import Principal
from extproc.identity.token import SIGN_IN, check_claims, parse, refused
from extproc.keys.jwks import JwksSource, KeyLimits, KeyState
from extproc.keys.lru import ExpiringLru
from extproc.secret import Secret

# Only signatures are left to PyJWT: it reads the system clock, ours is injected.
_JWS = PyJWS(algorithms=sorted(ASYMMETRIC))


class GroupSource(Protocol):
    """Know the groups of an Entra user whose token could not hold them."""

    async def groups(self, tenant: str, object_id: str) -> frozenset[str]:
        """Return all group ids; raise Refused with `identity.groups_unavailable`, never guess."""
        ...


@dataclass(frozen=True, slots=True)
class VerifierLimits:
    """Bound how long a verified principal is taken for granted (seconds), and how many are remembered."""

    cached_for: float = 60.0
    entries: int = 10_000


class Verifier:
    """Verify tokens of the trusted issuers, each issuer's only with that issuer's keys, and the gateway's own.

    Not checked: whether a token was revoked before its `exp`, and whether it is bound to a sender (RFC 8705, RFC 9449).
    """

    def __init__(
        self,
        issuers: Iterable[Issuer],
        *,
        session: aiohttp.ClientSession,
        now: Callable[[], float],
        graph: GroupSource | None = None,
        limits: VerifierLimits = VerifierLimits(),
        key_limits: KeyLimits | None = None,
        gateway_tokens: GatewayTokens | None = None,
    ) -> None:
        self._issuers: dict[str, tuple[Issuer, JwksSource]] = {}
        for issuer in issuers:
            if issuer.url in self._issuers:
                raise ConfigError(f"issuer {issuer.url!r} is configured twice")
            source = JwksSource(issuer, session=session, now=now, limits=key_limits or KeyLimits())
            self._issuers[issuer.url] = (issuer, source)
        if not self._issuers:
            raise ConfigError("at least one trusted issuer is required")
        self._now = now
        self._graph = graph
        self._gateway_tokens = gateway_tokens
        self._limits = limits
        self._principals: ExpiringLru[bytes, Principal] = ExpiringLru(limits.entries)

    def cached(self, token: Secret) -> Principal | None:
        """Return the principal of a token that was verified moments ago and has not expired since; never waits."""
        return self._principals.get(_fingerprint(token), self._now())

    async def verify(self, token: Secret) -> Principal:
        """Return the principal of `token`; raise Refused with an `identity.*` code. Failures are not remembered."""
        principal = self.cached(token)
        if principal is not None:
            return principal
        text = token.reveal()
        principal, expiry = self._own(text) if is_gateway_token(text) else await self._issued(text)
        self._principals.put(_fingerprint(token), principal, min(expiry, self._now() + self._limits.cached_for))
        return principal

    def key_states(self) -> Mapping[str, KeyState]:
        """Return for each issuer how its keys stand."""
        return {url: source.state() for url, (_, source) in self._issuers.items()}

    async def aclose(self) -> None:
        """Cancel what is under way in the background; the session is its owner's to close."""
        for _, source in self._issuers.values():
            await source.aclose()

    def _own(self, text: str) -> tuple[Principal, float]:
        """Return whom a gateway's token is for, and when it expires."""
        if self._gateway_tokens is None:
            raise _not_trusted()
        found = self._gateway_tokens.read(text, self._now())
        # Gateways that share a key need not trust the same issuers, and an issuer may be trusted no longer.
        if found.principal.issuer not in self._issuers:
            raise _not_trusted()
        return found.principal, found.expires_at

    async def _issued(self, text: str) -> tuple[Principal, float]:
        """Return whom an issuer's token is for, and when it expires."""
        unverified = parse(text)
        trusted = self._issuers.get(unverified.issuer)
        if trusted is None:
            raise _not_trusted()
        issuer, source = trusted
        if unverified.algorithm not in issuer.algorithms:
            raise refused(
                Code.IDENTITY_ALGORITHM, "The token is signed with an algorithm that is not allowed for its issuer."
            )
        key = await source.key(unverified.key_id, unverified.algorithm)
        _check_signature(text, key, unverified.algorithm)
        # From here on the claims are the issuer's own words.
        expiry = check_claims(issuer, unverified.claims, self._now())
        principal = principal_of(issuer, unverified.claims)
        if needs_groups(issuer, unverified.claims):
            principal = replace(principal, groups=await self._groups(issuer, principal))
        return principal, expiry

    async def _groups(self, issuer: Issuer, principal: Principal) -> frozenset[str]:
        if self._graph is None or not isinstance(issuer, EntraIssuer):
            raise refused(
                Code.IDENTITY_GROUPS_UNAVAILABLE,
                "The token has too many groups to hold them, and this gateway is not set up to ask for them elsewhere.",
                503,
            )
        return await self._graph.groups(issuer.tenant, principal.subject)


def _not_trusted() -> Refused:
    return refused(Code.IDENTITY_ISSUER, f"The token was issued by somebody this gateway does not trust; {SIGN_IN}.")


def _fingerprint(token: Secret) -> bytes:
    # A header may hold anything; what cannot be encoded is refused by `parse`, not here.
    return hashlib.sha256(token.reveal().encode(errors="surrogatepass")).digest()


def _check_signature(text: str, key: PyJWK, algorithm: str) -> None:
    try:
        _JWS.decode_complete(text, key, algorithms=[algorithm])
    except InvalidSignatureError:
        raise refused(
            Code.IDENTITY_SIGNATURE, f"The token's signature does not match its issuer's key; {SIGN_IN}."
        ) from None
    except (InvalidAlgorithmError, InvalidKeyError):
        raise refused(Code.IDENTITY_ALGORITHM, "The token's algorithm does not fit its issuer's key.") from None
    except PyJWTError:
        raise refused(Code.IDENTITY_MALFORMED, f"The token is not a well-formed JWT; {SIGN_IN}.") from None
