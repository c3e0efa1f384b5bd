"""The hosts whose traffic the forward proxy reads: the authority signs for them, the service intercepts them. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from extproc.errors import ConfigError

_PLANS = ("individual", "business", "enterprise")

DEFAULT_HOSTS: Final = (
    *("api.githubcopilot.com", *(f"api.{plan}.githubcopilot.com" for plan in _PLANS)),
    *("copilot-proxy.githubusercontent.com", *(f"proxy.{plan}.githubcopilot.com" for plan in _PLANS)),
    *("copilot-telemetry.githubusercontent.com", *(f"telemetry.{plan}.githubcopilot.com" for plan in _PLANS)),
    "api.github.com",
)
"""What unmodified Copilot clients speak to: the Copilot API and completions of every plan, telemetry, GitHub's API."""

_HOST = re.compile(r"(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)+")
_MAX_HOST_CHARS = 253  # RFC 1035 section 2.3.4


def host_fault(host: str) -> str | None:
    """Say why an entry is no host to intercept; `*.` at its beginning stands for one label, as in certificates."""
    if len(host) > _MAX_HOST_CHARS or not _HOST.fullmatch(host):
        return f"expected a host name in lower case such as api.acme.ghe.com or *.acme.ghe.com, got {host!r}"
    return f"expected a host name, got the IP address {host!r}" if re.fullmatch(r"[0-9.]+", host) else None


def intercepted_hosts(more: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the default hosts and `more`, each once; raises ConfigError for an entry that is none."""
    for host in more:
        if fault := host_fault(host):
            raise ConfigError(f"hosts to intercept: {fault}")
    return tuple(dict.fromkeys((*DEFAULT_HOSTS, *more)))


def is_intercepted(host: str, hosts: Sequence[str]) -> bool:
    """Say whether `host` (lower case) is one of `hosts`, or one label below a wildcard of them."""
    return host in hosts or f"*.{host.partition('.')[2]}" in hosts
