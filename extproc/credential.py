"""Say which upstream credentials the gateway holds, where they come from and where they may go. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from extproc.address import is_loopback, url_fault
from extproc.endpoint import API_UPSTREAMS, Upstream
from extproc.errors import ConfigError
from extproc.headers import removed_from_request
from extproc.secret import Secret

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HEADER_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_HOST = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+")
_ORIGIN = re.compile(r"http://(\[[0-9a-f:]+\]|[a-z0-9.-]+)(?::\d{1,5})?")
_FRAMING = frozenset(
    {"accept-encoding", "host", "connection", "content-length", "content-type", "transfer-encoding", "te", "upgrade"}
)


@dataclass(frozen=True, slots=True)
class ExchangeSpec:
    """How a GitHub token becomes a short-lived Copilot token, and which API hosts that token may be sent to.

    `allowed_hosts` are exact host names, meant with https on its default port; for development an entry may also be a
    whole loopback origin such as `http://127.0.0.1:8090`. `headers` say which editor asks: GitHub refuses without.
    """

    url: str = "https://api.github.com/copilot_internal/v2/token"
    allowed_hosts: tuple[str, ...] = (
        "api.githubcopilot.com",
        "api.individual.githubcopilot.com",
        "api.business.githubcopilot.com",
        "api.enterprise.githubcopilot.com",
    )
    scheme: str = "token"
    headers: Mapping[str, str] = field(
        default_factory=lambda: {
            "editor-version": "vscode/1.104.0",
            "editor-plugin-version": "copilot-chat/0.31.0",
            "user-agent": "GitHubCopilotChat/0.31.0",
            "x-github-api-version": "2025-04-01",
        }
    )
    timeout_seconds: float = 10.0

    def __post_init__(self) -> None:
        _check_exchange_url(self.url)
        _check_scheme(self.scheme)
        _check_headers("exchange.headers", self.headers)
        for entry in self.allowed_hosts:
            if not _HOST.fullmatch(entry) and not (_ORIGIN.fullmatch(entry) and is_loopback(urlsplit(entry).hostname)):
                raise ConfigError(
                    f"exchange.allowed_hosts: expected a host name in lower case or http:// with a loopback address "
                    f"and a port, got {entry!r}"
                )
        if not 0 < self.timeout_seconds <= 60:
            raise ConfigError("exchange.timeout_seconds: expected more than 0 and at most 60")


@dataclass(frozen=True, slots=True)
class CredentialSpec:
    """One credential by name: where its GitHub token is kept (a file or an environment variable) and how it is used.

    `headers` are set on every request that gets the credential, `headers_if_missing` only where the client sent none.
    Raises ConfigError.
    """

    name: str
    file: Path | None = None
    env: str | None = None
    scheme: str = "Bearer"
    headers: Mapping[str, str] = field(default_factory=dict)
    headers_if_missing: Mapping[str, str] = field(default_factory=dict)
    exchange: ExchangeSpec | None = None
    upstreams: frozenset[Upstream] = API_UPSTREAMS

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                "credential name: expected at most 64 letters, digits, dots, dashes or underscores, "
                f"beginning with a letter or digit, got {self.name!r}"
            )
        try:
            self._check()
        except ConfigError as error:
            raise ConfigError(f"credential {self.name!r}: {error}") from None

    def _check(self) -> None:
        if (self.file is None) == (not self.env):
            raise ConfigError("expected exactly one of `file` and `env`")
        _check_scheme(self.scheme)
        _check_headers("headers", self.headers)
        _check_headers("headers_if_missing", self.headers_if_missing)
        if both := sorted(set(self.headers) & set(self.headers_if_missing)):
            raise ConfigError(f"headers_if_missing: {both[0]} is already set by `headers`")
        if not self.upstreams:
            raise ConfigError("upstreams: expected at least one")


@dataclass(frozen=True, slots=True)
class Credential:
    """What to put on one request: `authorization` is the whole header value.

    `api_host` is the Copilot API host that GitHub named for this credential (`host`, or `host:port` of a loopback
    address), if it named one. `secrets` are the literals that an answer must never repeat to the caller.
    """

    authorization: Secret
    headers: Mapping[str, str]
    headers_if_missing: Mapping[str, str]
    api_host: str | None
    secrets: tuple[Secret, ...]


def _check_exchange_url(url: str) -> None:
    if fault := url_fault(url):
        raise ConfigError(f"exchange.url: {url!r} {fault}")


def _check_scheme(scheme: str) -> None:
    if scheme not in {"Bearer", "token"}:
        raise ConfigError(f"scheme: expected `Bearer` or `token`, got {scheme!r}")


def _check_headers(where: str, headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ConfigError(f"{where}: expected a header name in lower case, got {name!r}")
        if name in _FRAMING or name.startswith("x-gateway-") or removed_from_request([name]):
            raise ConfigError(f"{where}: {name} is not for a credential to set")
        if not _HEADER_VALUE.fullmatch(value):
            raise ConfigError(f"{where}: the value of {name} is not visible ASCII text")
