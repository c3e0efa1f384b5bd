"""What clients learn from the account endpoints about where to send what: the gateway, and nothing around it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from extproc.endpoint import Upstream, upstream_of
from extproc.identity.gateway_token import Minted
from extproc.intercepted import host_fault, is_intercepted
from extproc.request import Request

TOKEN_PATH: Final = "/copilot_internal/v2/token"  # noqa: S105 - a path
USER_PATH: Final = "/copilot_internal/user"

# Where clients go without being told (the Copilot extension's defaults); the gateway intercepts these.
_OWN_HOSTS: Final = {
    "api": "https://api.githubcopilot.com",
    "proxy": "https://copilot-proxy.githubusercontent.com",
    "telemetry": "https://copilot-telemetry.githubusercontent.com",
}

# What clients read of a seat beside the token (`TokenEnvelope` of the Copilot extension). Policy decides here what may
# be used, not the client; code quoting and the like would go to hosts that the gateway does not know.
_SEAT: Final = {
    "sku": "copilot_for_business_seat",
    "individual": False,
    "chat_enabled": True,
    "code_quote_enabled": False,
    "codesearch": False,
    "copilotignore_enabled": True,
    "public_suggestions": "disabled",
    "telemetry": "disabled",
}


def endpoints_for(request: Request, url: str | None) -> Mapping[str, str]:
    """Return where a client is to send its requests: to the gateway as it knows it, or to hosts that are intercepted.

    A client that asked for a host of GitHub goes on to do so: its requests are led here without its knowledge. `url` is
    the gateway's own base address, in place of the one that the client asked for.
    """
    if upstream_of(request.host, "/") is not Upstream.COPILOT_API or request.host.endswith(".githubcopilot.com"):
        return _OWN_HOSTS
    return dict.fromkeys(_OWN_HOSTS, url or f"{request.scheme}://{request.authority}")


def token_answer(minted: Minted, endpoints: Mapping[str, str]) -> bytes:
    """Return what `GET /copilot_internal/v2/token` answers."""
    times = {"token": minted.token.reveal(), "expires_at": minted.expires_at, "refresh_in": minted.refresh_in}
    return msgspec.json.encode({**times, **_SEAT, "endpoints": endpoints})


def lead_here(tree: Any, endpoints: Mapping[str, str], intercepted: Sequence[str]) -> bool:  # noqa: ANN401 - JSON
    """Change the addresses in `endpoints` of an account so that none leads around the gateway; say whether any did.

    Where clients are intercepted (`endpoints` names hosts of GitHub), the host of their plan stays.
    """
    named = tree.get("endpoints") if isinstance(tree, dict) else None
    if not isinstance(named, dict):
        return False
    ours = {name: _led(name, address, endpoints, intercepted) for name, address in named.items()}
    is_changed = ours != named
    tree["endpoints"] = ours
    return is_changed


def _led(name: str, address: object, endpoints: Mapping[str, str], intercepted: Sequence[str]) -> str:
    here = endpoints.get(name, endpoints["api"])
    if endpoints["api"] != _OWN_HOSTS["api"] or not isinstance(address, str):
        return here
    try:
        parts = urlsplit(address)
    except ValueError:
        return here
    # Some readers take a backslash for a slash, so that another host begins the name; `host_fault` knows letters alone.
    stays = parts.scheme == "https" and host_fault(parts.netloc) is None and is_intercepted(parts.netloc, intercepted)
    return address if stays else here
