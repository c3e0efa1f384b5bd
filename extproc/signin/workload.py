"""Tokens of a job or a pod: what GitHub Actions, AKS and Kubernetes give a workload instead of a sign-in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import aiohttp

from extproc.address import url_fault
from extproc.errors import ConfigError, ExtprocError
from extproc.keys.fetch import FetchFailed, fetch_json
from extproc.secret import Secret
from extproc.signin.discovery import MAX_BYTES, TIMEOUT_SECONDS, is_endpoint
from extproc.signin.oauth import OAuthRefused, request_tokens

ENTRA = "https://login.microsoftonline.com/"
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523 section 2.2
_TENANT = re.compile(r"[A-Za-z0-9.-]+")
_TOKEN = re.compile(r"[!-~]+")


async def workload_token(environ: Mapping[str, str], audience: str, session: aiohttp.ClientSession) -> Secret | None:
    """Return the token of the job or pod that `environ` describes, None where it describes none.

    `audience` is what the gateway expects in `aud`; for Entra the application id or App ID URI of the gateway. Raises
    ExtprocError where the token is refused, ConfigError where the description is incomplete.
    """
    if environ.get("ACTIONS_ID_TOKEN_REQUEST_URL"):
        return await _of_actions(environ, audience, session)
    if environ.get("AZURE_FEDERATED_TOKEN_FILE"):
        return await _of_azure(environ, audience, session)
    return None


def token_of_file(path: Path) -> Secret:
    """Return the token in a file, such as a projected service account token, which Kubernetes replaces now and then."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES).decode("ascii", "replace")
    except OSError as error:
        raise ConfigError(f"{path}: the token file cannot be read ({error.strerror})") from None
    return checked_token(text, str(path))


def checked_token(text: str, source: str) -> Secret:
    """Return `text` as a token; raise ConfigError, which names the `source`, for what cannot be one."""
    token = text.strip()
    if not _TOKEN.fullmatch(token):
        raise ConfigError(f"{source}: expected one token on one line")
    return Secret(token)


async def _of_actions(environ: Mapping[str, str], audience: str, session: aiohttp.ClientSession) -> Secret:
    """Ask the runner (GitHub documentation, "OpenID Connect reference", methods for requesting the OIDC token)."""
    url, credential = environ["ACTIONS_ID_TOKEN_REQUEST_URL"], environ.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "")
    if not is_endpoint(url) or not _TOKEN.fullmatch(credential):
        raise ConfigError("ACTIONS_ID_TOKEN_REQUEST_URL and ACTIONS_ID_TOKEN_REQUEST_TOKEN are not what a runner sets")
    url += f"{'&' if '?' in url else '?'}audience={quote(audience, safe='')}"
    headers = {"Authorization": f"bearer {credential}"}
    try:
        answer = await fetch_json(session, url, timeout_seconds=TIMEOUT_SECONDS, max_bytes=MAX_BYTES, headers=headers)
    except FetchFailed as failure:
        raise ExtprocError(f"GitHub Actions gave no token: {failure}") from None
    value = answer.get("value")
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise ExtprocError("GitHub Actions gave no token: the answer holds none")
    return Secret(value)


async def _of_azure(environ: Mapping[str, str], audience: str, session: aiohttp.ClientSession) -> Secret:
    """Exchange the pod's token (Microsoft identity platform documentation, "client credentials flow", third case)."""
    missing = [name for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID") if not environ.get(name)]
    if missing:
        raise ConfigError(f"AZURE_FEDERATED_TOKEN_FILE is set, but not {' and '.join(missing)}")
    tenant, authority = environ["AZURE_TENANT_ID"], environ.get("AZURE_AUTHORITY_HOST") or ENTRA
    if fault := url_fault(authority):
        raise ConfigError(f"AZURE_AUTHORITY_HOST {fault}")
    if not _TENANT.fullmatch(tenant):
        raise ConfigError("AZURE_TENANT_ID is neither an id nor a domain")
    form = {
        "grant_type": "client_credentials",
        "client_id": environ["AZURE_CLIENT_ID"],
        "client_assertion_type": _ASSERTION_TYPE,
        "client_assertion": token_of_file(Path(environ["AZURE_FEDERATED_TOKEN_FILE"])).reveal(),
        "scope": f"{audience}/.default",
    }
    try:
        answer = await request_tokens(session, f"{authority.rstrip('/')}/{tenant}/oauth2/v2.0/token", form)
    except (FetchFailed, OAuthRefused) as failure:
        raise ExtprocError(f"Entra gave the workload no token: {failure}") from None
    return answer.access_token
