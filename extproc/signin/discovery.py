"""Learn where to sign in: the gateway's profile, and the metadata of the issuer that it names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
import msgspec

from extproc.address import url_fault
from extproc.errors import ConfigError, ExtprocError
from extproc.keys.fetch import FetchFailed, fetch_json
from extproc.signin.profile import WELL_KNOWN, Profile

TIMEOUT_SECONDS = 10.0
MAX_BYTES = 256 * 1024
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # scope-token, RFC 6749 section 3.3


@dataclass(frozen=True, slots=True)
class Provider:
    """An issuer's endpoints (OpenID Connect Discovery 1.0 section 3); None where it has no such endpoint."""

    issuer: str
    token_endpoint: str
    authorization_endpoint: str | None = None
    device_authorization_endpoint: str | None = None
    revocation_endpoint: str | None = None
    names_itself: bool = False
    """Whether its authorization answers always carry `iss` (RFC 9207 section 3)."""
    scopes: frozenset[str] | None = None
    """The scopes that it lists, None where it lists none."""


async def fetch_profile(
    session: aiohttp.ClientSession, gateway: str, *, timeout_seconds: float = TIMEOUT_SECONDS
) -> Profile:
    """Return what the gateway tells of itself. Raises ConfigError for its address, ExtprocError for its answer."""
    if fault := url_fault(gateway):
        # The address is not repeated: what is wrong with it may be a password in it.
        raise ConfigError(f"the gateway's address {fault}; expected one such as https://gateway.example.com")
    url = gateway.rstrip("/") + WELL_KNOWN
    try:
        document = await fetch_json(session, url, timeout_seconds=timeout_seconds, max_bytes=MAX_BYTES)
    except FetchFailed as failure:
        untrusted = "CertificateError" in str(failure)
        advice = "name the file of its authority in SSL_CERT_FILE" if untrusted else "is this the gateway's address?"
        raise FetchFailed(f"{url}: {failure}; {advice}") from None
    try:
        profile = msgspec.convert(document, Profile)
    except msgspec.ValidationError as error:
        raise ExtprocError(f"{url}: {error}") from None
    check_profile(profile, url)
    return profile


def check_profile(profile: Profile, where: str) -> None:
    """Raise ConfigError, which names `where`, for a profile that no sign-in may follow."""
    # The proxy is told the token as well.
    for name, url in (("gateway", profile.gateway), ("issuer", profile.issuer), ("proxy", profile.proxy)):
        if url is not None and (fault := url_fault(url)):
            raise ConfigError(f"{where}: {name} {fault}")
    if not profile.client_id or not profile.client_id.isprintable():
        raise ConfigError(f"{where}: client_id must be printable text")
    if not all(_SCOPE.fullmatch(scope) for scope in profile.scopes):
        raise ConfigError(f"{where}: a scope must be printable ASCII without spaces, quotes and backslashes")


async def discover(session: aiohttp.ClientSession, issuer: str) -> Provider:
    """Return the issuer's endpoints. Raises FetchFailed without an answer, ExtprocError for one that is not its own."""
    if fault := url_fault(issuer):
        raise ConfigError(f"the issuer's address {fault}")
    url = issuer.rstrip("/") + "/.well-known/openid-configuration"
    try:
        document = await fetch_json(session, url, timeout_seconds=TIMEOUT_SECONDS, max_bytes=MAX_BYTES)
    except FetchFailed as failure:
        raise FetchFailed(f"{url}: {failure}") from None
    # OpenID Connect Discovery 1.0 section 4.3: identical, or somebody else's document stands there.
    if document.get("issuer") != issuer:
        raise ExtprocError(f"{url}: the document is of another issuer than {issuer}")
    token_endpoint = _endpoint(document, "token_endpoint", url)
    if token_endpoint is None:
        raise ExtprocError(f"{url}: token_endpoint is missing")
    scopes = document.get("scopes_supported")
    return Provider(
        issuer,
        token_endpoint,
        authorization_endpoint=_endpoint(document, "authorization_endpoint", url),
        device_authorization_endpoint=_endpoint(document, "device_authorization_endpoint", url),
        revocation_endpoint=_endpoint(document, "revocation_endpoint", url),
        names_itself=document.get("authorization_response_iss_parameter_supported") is True,
        scopes=frozenset(str(scope) for scope in scopes) if isinstance(scopes, list) else None,
    )


def scope_of(profile: Profile, provider: Provider) -> str:
    """Return the scopes to ask for: a refresh token too, unless the issuer's list shows that it does not know that."""
    wanted = ["openid", "offline_access", *profile.scopes]
    if provider.scopes is not None and "offline_access" not in provider.scopes:
        wanted.remove("offline_access")
    return " ".join(dict.fromkeys(wanted))


def is_endpoint(url: str) -> bool:
    """Say whether `url` may be asked or opened; an endpoint may have a query (RFC 6749 section 3.1)."""
    path, _, query = url.partition("?")
    return url_fault(path) is None and query.isprintable() and " " not in query and "#" not in query


def _endpoint(document: Mapping[str, object], name: str, where: str) -> str | None:
    value = document.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not is_endpoint(value):
        raise ExtprocError(f"{where}: {name} must be an https URL (http only for a loopback address)")
    return value
