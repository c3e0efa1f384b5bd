"""The models dialect: what the Copilot API says of its models, and the sessions in which it chooses one itself.

`GET /models` and `/models/{id}`, `POST /models/{id}/policy`, `/models/session`, `/models/session/intent`, `/auto`.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any, Final

from extproc.dialect.json_api import JsonDialect
from extproc.endpoint import EndpointKind

_ENDPOINTS = "supported_endpoints"
_WEB_SOCKET = ("ws:", "wss:")
_KINDS: Final = {
    "/chat/completions": EndpointKind.CHAT,
    "/responses": EndpointKind.RESPONSES,
    "/v1/messages": EndpointKind.MESSAGES,
    "/embeddings": EndpointKind.EMBEDDINGS,
    "/completions": EndpointKind.COMPLETIONS,
}
_KIND_OF_TYPE: Final = {"embeddings": EndpointKind.EMBEDDINGS, "completion": EndpointKind.COMPLETIONS}


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
    endpoints = _listed(model)
    if endpoints is None:
        return False
    kept = [endpoint for endpoint in endpoints if not _is_web_socket(endpoint)]
    if len(kept) == len(endpoints):
        return False
    model[_ENDPOINTS] = kept or [path for path in map(_path, endpoints) if path.startswith("/") and path[1:2] != "/"]
    return True


def _listed(model: dict[str, Any]) -> list[Any] | None:
    endpoints = model.get(_ENDPOINTS)
    if isinstance(endpoints, str):
        return [endpoints]
    return endpoints if isinstance(endpoints, list) else None


def _path(endpoint: str) -> str:
    return endpoint.partition(":")[2]


def _is_web_socket(endpoint: Any) -> bool:  # noqa: ANN401 - decoded JSON
    return isinstance(endpoint, str) and endpoint.strip().lower().startswith(_WEB_SOCKET)


def drop_models(tree: Any, keep: Callable[[str, frozenset[EndpointKind]], bool]) -> bool:  # noqa: ANN401 - decoded JSON
    """Take out of a list of models what `keep` refuses, given a model's id and endpoints; say whether any was.

    The list is the tree itself or its `data`; anything else, and an entry that is no model with an id, stays. A model
    without known endpoints counts as one for chat: that is where clients send a prompt then.
    """
    models = tree.get("data") if isinstance(tree, dict) else tree
    if not isinstance(models, list):
        return False
    kept = [model for model in models if not _has_id(model) or keep(model["id"], _kinds(model))]
    is_changed = len(kept) != len(models)
    models[:] = kept
    return is_changed


def _has_id(model: Any) -> bool:  # noqa: ANN401 - decoded JSON
    return isinstance(model, dict) and isinstance(model.get("id"), str)


def _kinds(model: dict[str, Any]) -> frozenset[EndpointKind]:
    capabilities = model.get("capabilities")
    of_type = capabilities.get("type") if isinstance(capabilities, dict) else None
    if isinstance(of_type, str) and of_type in _KIND_OF_TYPE:
        return frozenset({_KIND_OF_TYPE[of_type]})
    endpoints = [one for one in _listed(model) or () if isinstance(one, str)]
    paths = {_path(one) if _is_web_socket(one) else one for one in endpoints}
    return frozenset(_KINDS[path] for path in paths & _KINDS.keys()) or frozenset({EndpointKind.CHAT})
