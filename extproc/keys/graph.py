"""Ask Microsoft Graph for the groups that did not fit into an Entra token."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from extproc.address import url_fault
from extproc.errors import Code, ConfigError
from extproc.identity.issuers import ENTRA_LOGIN_BASE
from extproc.identity.token import refused
from extproc.keys.fetch import FetchFailed, fetch_json
from extproc.keys.lru import ExpiringLru
from extproc.secret import Secret

_LOG = logging.getLogger(__name__)

GRAPH_BASE = "https://graph.microsoft.com"

_MAX_ANSWER_BYTES = 1024 * 1024
# Graph returns at most 11,000 memberships of one object (Graph documentation, "getMemberObjects"), in far fewer pages.
_MAX_PAGES = 50
# An app token is given up this long before it expires, so that it does not expire on its way.
_TOKEN_MARGIN_SECONDS = 60
_MAX_TOKEN_SECONDS = 86_400  # what Entra grants at most
_OBJECT_ID = re.compile(r"[0-9A-Za-z-]{1,64}")


@dataclass(frozen=True, slots=True)
class GraphLimits:
    """Bound the time of one request and the memory for answers; times in seconds."""

    timeout: float = 5.0
    groups_for: float = 300.0
    entries: int = 10_000
    tenants: int = 100


class Graph:
    """Know the transitive group memberships of Entra users, asked with the gateway's own application.

    The application needs the permission GroupMember.Read.All and, for other tenants, their consent.
    """

    def __init__(
        self,
        *,
        client_id: str,
        client_secret: Secret,
        session: aiohttp.ClientSession,
        now: Callable[[], float],
        graph_base: str = GRAPH_BASE,
        login_base: str = ENTRA_LOGIN_BASE,
        limits: GraphLimits = GraphLimits(),
    ) -> None:
        for url in (graph_base, login_base):
            if fault := url_fault(url):
                raise ConfigError(f"Microsoft Graph: {url!r} {fault}")
        self._client_id = client_id
        self._client_secret = client_secret
        self._session = session
        self._now = now
        self._graph_base = graph_base
        self._login_base = login_base
        self._limits = limits
        self._groups: ExpiringLru[tuple[str, str], frozenset[str]] = ExpiringLru(limits.entries)
        self._tokens: ExpiringLru[str, Secret] = ExpiringLru(limits.tenants)

    async def groups(self, tenant: str, object_id: str) -> frozenset[str]:
        """Return the ids of all groups and roles of a user, at most `groups_for` seconds old.

        Raises Refused with `identity.groups_unavailable` (503) for any failure: who cannot be asked about is not taken
        for somebody without groups.
        """
        known = self._groups.get((tenant, object_id), self._now())
        if known is not None:
            return known
        try:
            groups = await self._ask(tenant, object_id)
        except FetchFailed as error:
            # The app token may have been revoked; the next caller begins with a new one.
            self._tokens.discard(tenant)
            _LOG.warning("groups of a user in tenant %s are not known: %s", tenant, error)
            raise refused(
                Code.IDENTITY_GROUPS_UNAVAILABLE,
                "Your group memberships cannot be read from Microsoft Graph at the moment; try again shortly.",
                503,
            ) from None
        self._groups.put((tenant, object_id), groups, self._now() + self._limits.groups_for)
        return groups

    async def _ask(self, tenant: str, object_id: str) -> frozenset[str]:
        if not _OBJECT_ID.fullmatch(tenant) or not _OBJECT_ID.fullmatch(object_id):
            raise FetchFailed("the tenant or object id cannot be part of an address")
        token = await self._app_token(tenant)
        headers = {"Authorization": f"Bearer {token.reveal()}"}
        page = await self._fetch(
            f"{self._graph_base}/v1.0/users/{object_id}/getMemberObjects",
            method="POST",
            headers=headers,
            body={"securityEnabledOnly": False},
        )
        groups = _members(page)
        for _ in range(_MAX_PAGES):
            link = self._next_page(page)
            if link is None:
                return frozenset(groups)
            # Further pages are read with GET (Graph documentation, "Paging").
            page = await self._fetch(link, headers=headers)
            groups += _members(page)
        raise FetchFailed(f"there are more than {_MAX_PAGES} pages")

    def _next_page(self, page: dict[str, object]) -> str | None:
        link = page.get("@odata.nextLink")
        if link is None:
            return None
        # Our token goes along: it must not be sent to another host because an answer says so.
        if not isinstance(link, str) or _origin(link) != _origin(self._graph_base):
            raise FetchFailed("the next page is at another origin")
        return link

    async def _app_token(self, tenant: str) -> Secret:
        """Return the application's token for one tenant (RFC 6749 section 4.4), from the cache while it is valid."""
        known = self._tokens.get(tenant, self._now())
        if known is not None:
            return known
        asked = self._now()
        answer = await self._fetch(
            f"{self._login_base}/{tenant}/oauth2/v2.0/token",
            method="POST",
            form={
                "grant_type": "client_credentials",
                "client_id": self._client_id,
                "client_secret": self._client_secret.reveal(),
                "scope": f"{self._graph_base}/.default",
            },
        )
        value, lifetime = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(value, str) or not value.isprintable() or not isinstance(lifetime, int):
            raise FetchFailed("the token endpoint's answer has no access_token and expires_in")
        token = Secret(value)
        self._tokens.put(tenant, token, asked + min(lifetime, _MAX_TOKEN_SECONDS) - _TOKEN_MARGIN_SECONDS)
        return token

    async def _fetch(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        form: dict[str, str] | None = None,
        body: dict[str, object] | None = None,
    ) -> dict[str, object]:
        return await fetch_json(
            self._session,
            url,
            method=method,
            headers=headers,
            form=form,
            body=body,
            timeout_seconds=self._limits.timeout,
            max_bytes=_MAX_ANSWER_BYTES,
        )


def _members(page: dict[str, object]) -> list[str]:
    value = page.get("value")
    if not isinstance(value, list) or not all(isinstance(member, str) for member in value):
        raise FetchFailed("the answer holds no list of ids")
    return value


def _origin(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ("", "")
    return (parts.scheme, parts.netloc)
