"""The corner of GitHub's REST API that the demo upstream has, and its exchange of GitHub tokens for Copilot tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

_TOKEN_SECONDS = 1800
_REFRESH_SECONDS = 1500
_AUTHORIZATION = re.compile(r"(bearer|token) +([!-~]+)", re.IGNORECASE)
_LOGIN = "demo-gateway"
_ENDPOINTS = ("api", "proxy", "telemetry")
_QUOTAS = ("chat", "completions", "premium_interactions")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Know which Authorization headers are good: `accepted` GitHub tokens, and Copilot tokens made from them here."""

    accepted: Callable[[], set[str]]
    now: Callable[[], float]
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def is_github(self, header: str) -> bool:
        """Say whether `header` is `Bearer` or `token` with an accepted GitHub token."""
        match = _AUTHORIZATION.fullmatch(header)
        return match is not None and match[2] in self.accepted()

    def is_copilot(self, header: str) -> bool:
        """Say whether the Copilot API takes `header`: a GitHub token, or as `Bearer` an exchanged one until its end."""
        match = _AUTHORIZATION.fullmatch(header)
        if match is None:
            return False
        fields, _, mac = match[2].rpartition(":")
        if match[1].lower() == "bearer" and hmac.compare_digest(self._mac(fields).encode(), mac.encode()):
            expiry = re.search(r";exp=(\d+);", fields)
            return expiry is not None and int(expiry[1]) > self.now()
        return self.is_github(header)

    def exchange(self) -> tuple[str, int]:
        """Return a new Copilot token and the Unix second at which it expires."""
        expires_at = int(self.now()) + _TOKEN_SECONDS
        fields = f"tid={secrets.token_hex(16)};exp={expires_at};sku=copilot_for_business_seat;st=dotcom;chat=1;8kp=1"
        return f"{fields}:{self._mac(fields)}", expires_at

    def _mac(self, fields: str) -> str:
        return hmac.new(self._key, fields.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class GitHub:
    """Answer what GitHub's REST API says to an account."""

    credentials: Credentials
    now: Callable[[], float]

    async def copilot_token(self, request: web.Request) -> web.Response:
        """Answer GET /copilot_internal/v2/token."""
        token, expires_at = self.credentials.exchange()
        return web.json_response(
            {
                "token": token,
                "expires_at": expires_at,
                "refresh_in": _REFRESH_SECONDS,
                "sku": "copilot_for_business_seat",
                "individual": False,
                "chat_enabled": True,
                "endpoints": _endpoints(request),
            }
        )

    async def copilot_user(self, request: web.Request) -> web.Response:
        """Answer GET /copilot_internal/user."""
        return web.json_response(
            {
                "login": _LOGIN,
                "copilot_plan": "business",
                "access_type_sku": "copilot_for_business_seat",
                "assigned_date": "2025-01-01T00:00:00Z",
                "can_signup_for_limited": False,
                "chat_enabled": True,
                "copilotignore_enabled": True,
                "is_mcp_enabled": True,
                "organization_login_list": ["demo"],
                "organization_list": [{"login": "demo", "name": "Demo"}],
                "quota_reset_date": "2030-01-01",
                "quota_reset_date_utc": "2030-01-01T00:00:00Z",
                "quota_snapshots": {name: _unlimited(name) for name in _QUOTAS},
                "endpoints": _endpoints(request),
            }
        )

    async def rate_limit(self, _request: web.Request) -> web.Response:
        """Answer GET /rate_limit."""
        core = {"limit": 5000, "used": 0, "remaining": 5000, "reset": int(self.now()) + 3600}
        return web.json_response({"resources": {"core": core}, "rate": core})


async def user(_request: web.Request) -> web.Response:
    """Answer GET /user."""
    return web.json_response({"login": _LOGIN, "id": 1, "type": "User", "name": "Demo gateway", "site_admin": False})


async def repository(request: web.Request) -> web.Response:
    """Answer GET /repos/{owner}/{repo}."""
    return web.json_response(_repository(request))


async def contents(request: web.Request) -> web.Response:
    """Answer GET /repos/{owner}/{repo}/contents/{path} with a file whose text follows from its path."""
    path = request.match_info["path"]
    text = f"# {path}\n\nA file of the demo upstream.\n".encode()
    return web.json_response(
        {
            "type": "file",
            "name": path.rpartition("/")[2],
            "path": path,
            "sha": hashlib.sha1(b"blob %d\0" % len(text) + text, usedforsecurity=False).hexdigest(),
            "size": len(text),
            "encoding": "base64",
            "content": base64.encodebytes(text).decode(),
        }
    )


async def issues(request: web.Request) -> web.Response:
    """Answer GET /repos/{owner}/{repo}/issues."""
    repository = _repository(request)["full_name"]
    issue = {
        "id": 1,
        "number": 1,
        "title": "Demo issue",
        "body": f"An issue of {repository} at the demo upstream.",
        "state": "open",
        "user": {"login": _LOGIN},
        "labels": [],
        "comments": 0,
    }
    return web.json_response([issue])


async def pull_request(request: web.Request) -> web.Response:
    """Answer GET /repos/{owner}/{repo}/pulls/{number}."""
    number = int(request.match_info["number"])
    return web.json_response(
        {
            "id": number,
            "number": number,
            "state": "open",
            "title": f"Demo change {number}",
            "user": {"login": _LOGIN},
            "mergeable": True,
            "merged": False,
            "base": {"ref": "main", "repo": _repository(request)},
            "head": {"ref": f"demo-{number}", "sha": f"{number:040x}", "repo": _repository(request)},
        }
    )


async def content_exclusion(request: web.Request) -> web.Response:
    """Answer GET /copilot_internal/content_exclusion?repos=URL,URL: for each repository that nothing is excluded.

    With `scope=all` alone the rules are asked for that hold everywhere.
    """
    repositories = [name for name in request.query.get("repos", "").split(",") if name]
    rules = {"rules": [], "last_updated_at": "2025-01-01T00:00:00Z", "scope": "all"}
    return web.json_response([rules for _ in repositories or ["all"]])


async def mcp_registry(_request: web.Request) -> web.Response:
    """Answer GET /copilot/mcp_registry: the organization names none, so that clients may use any MCP server."""
    return web.json_response({"mcp_registries": []})


async def embeddings_models(_request: web.Request) -> web.Response:
    """Answer GET /embeddings/models."""
    return web.json_response({"models": [{"id": "metis-1024-I16-Binary", "dimensions": 1024, "active": True}]})


async def releases(request: web.Request) -> web.Response:
    """Answer GET /repos/{owner}/{repo}/releases with one release; it is old, so that no client updates itself."""
    release = {
        "id": 1,
        "tag_name": "v0.0.1",
        "name": "0.0.1",
        "draft": False,
        "prerelease": False,
        "published_at": "2025-01-01T00:00:00Z",
        "html_url": f"{_repository(request)['html_url']}/releases/tag/v0.0.1",
        "body": "A release of the demo upstream.",
        "assets": [],
    }
    return web.json_response([release])


async def nothing_set(_request: web.Request) -> web.Response:
    """Answer that an account has none of what is asked, to those who may ask."""
    return web.json_response({"message": "Not Found", "status": "404"}, status=404)


def _endpoints(request: web.Request) -> dict[str, str]:
    """Return where the Copilot API is: GitHub's own hosts for one who takes us for GitHub, else where we were asked."""
    if request.host == "api.github.com":
        return {name: f"https://{name}.business.githubcopilot.com" for name in _ENDPOINTS}
    return dict.fromkeys(_ENDPOINTS, f"{request.scheme}://{request.host}")


def _unlimited(quota: str) -> dict[str, Any]:
    return {
        "quota_id": quota,
        "unlimited": True,
        "entitlement": 0,
        "remaining": 0,
        "quota_remaining": 0.0,
        "percent_remaining": 100.0,
        "overage_count": 0,
        "overage_permitted": False,
    }


def _repository(request: web.Request) -> dict[str, Any]:
    owner, name = request.match_info["owner"], request.match_info["repo"]
    return {
        "id": 1,
        "name": name,
        "full_name": f"{owner}/{name}",
        "private": True,
        "owner": {"login": owner},
        "default_branch": "main",
        "html_url": f"https://github.com/{owner}/{name}",
    }
