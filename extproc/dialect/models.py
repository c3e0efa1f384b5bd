"""The models dialect: what the Copilot API says of its models, and the sessions in which it chooses one itself.

`GET /models` and `/models/{id}`, `POST /models/{id}/policy`, `/models/session`, `/models/session/intent`, `/auto`.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any

from extproc.dialect.json_api import JsonDialect

_ENDPOINTS = "supported_endpoints"
_WEB_SOCKET = ("ws:", "wss:")


class ModelsDialect(JsonDialect):
    """Implement `Dialect` for models."""

    # The client must send it back in a header as it came; it works only together with the gateway's credential.
    opaque: AbstractSet[str] = frozenset({"session_token"})

    def amend(self, tree: Any) -> bool:  # noqa: ANN401 - decoded JSON
        """Take WebSockets out of every `supported_endpoints`: their messages pass the gateway unread.

        A model that has nothing but a WebSocket keeps its path, as HTTP. That is where Copilot CLI turns if a WebSocket
        is refused; with an empty list, VS Code would send the prompt to `/chat/completions`.
        """
        amended = False
        level = [tree]
        while level:
            value = level.pop()
            if isinstance(value, dict):
                amended = _amend_endpoints(value) or amended
                level += value.values()
            elif isinstance(value, list):
                level += value
        return amended


def _amend_endpoints(model: dict[str, Any]) -> bool:
    endpoints = model.get(_ENDPOINTS)
    if isinstance(endpoints, str):
        endpoints = [endpoints]
    if not isinstance(endpoints, list):
        return False
    kept = [endpoint for endpoint in endpoints if not _is_web_socket(endpoint)]
    if len(kept) == len(endpoints):
        return False
    model[_ENDPOINTS] = kept or [path for path in map(_path, endpoints) if path.startswith("/") and path[1:2] != "/"]
    return True


def _path(endpoint: str) -> str:
    return endpoint.partition(":")[2]


def _is_web_socket(endpoint: Any) -> bool:  # noqa: ANN401 - decoded JSON
    return isinstance(endpoint, str) and endpoint.strip().lower().startswith(_WEB_SOCKET)
