"""`/models` of the demo upstream, in the form in which Copilot answers."""

from __future__ import annotations

from typing import Any

from aiohttp import web

_CHAT, _RESPONSES, _MESSAGES = "/chat/completions", "/responses", "/v1/messages"
# A client that sees `ws:` would speak in frames that no HTTP filter sees: the gateway must take it out.
_WEB_SOCKET = "ws:/responses"
# Clients refuse a name that they do not know, and choose how to ask from the endpoints: Copilot CLI 1.0.102 takes all
# three, editors and opencode ask gpt-4.1 and gpt-5.4-mini for titles and follow-up questions.
_MODELS = {
    "gpt-5": ("Azure OpenAI", [_CHAT, _RESPONSES, _WEB_SOCKET]),
    "gpt-5-mini": ("Azure OpenAI", [_CHAT, _RESPONSES, _WEB_SOCKET]),
    "gpt-5.4-mini": ("Azure OpenAI", [_RESPONSES, _WEB_SOCKET]),
    "gpt-5.5": ("Azure OpenAI", [_RESPONSES, _WEB_SOCKET]),
    "gpt-4.1": ("Azure OpenAI", [_CHAT]),
    "claude-sonnet-4.5": ("Anthropic", [_CHAT, _MESSAGES]),
    "claude-sonnet-4.6": ("Anthropic", [_CHAT, _MESSAGES]),
    "gemini-2.5-pro": ("Google", [_CHAT]),
    "gemini-3.8-flash": ("Google", [_CHAT]),
}
_GHOST_TEXT_MODEL = "gpt-41-copilot"


async def models(_request: web.Request) -> web.Response:
    """Answer GET /models."""
    data = [_model(name, vendor, endpoints) for name, (vendor, endpoints) in _MODELS.items()]
    # What completes lines as they are typed: asked at `/v1/engines/{engine}/completions`, chosen by no person.
    ghost = _model(_GHOST_TEXT_MODEL, "Azure OpenAI", []) | {"model_picker_enabled": False}
    data.append(ghost | {"capabilities": ghost["capabilities"] | {"type": "completion"}})
    return web.json_response({"object": "list", "data": data})


async def agents(_request: web.Request) -> web.Response:
    """Answer GET /agents: there are none beside the models."""
    return web.json_response({"agents": []})


async def no_web_socket(_request: web.Request) -> web.Response:
    """Answer GET /responses, where Copilot has a WebSocket: clients then use POST."""
    return web.json_response({"error": {"message": "Upgrade Required", "code": "upgrade_required"}}, status=426)


def _model(name: str, vendor: str, endpoints: list[str]) -> dict[str, Any]:
    limits = {"max_context_window_tokens": 200_000, "max_prompt_tokens": 128_000, "max_output_tokens": 64_000}
    return {
        "id": name,
        "name": name,
        "object": "model",
        "vendor": vendor,
        "version": name,
        "preview": False,
        "model_picker_enabled": True,
        "policy": {"state": "enabled", "terms": ""},
        "supported_endpoints": endpoints,
        "capabilities": {
            "type": "chat",
            "object": "model_capabilities",
            "family": name,
            "tokenizer": "o200k_base",
            "limits": limits,
            "supports": {"streaming": True, "tool_calls": True, "parallel_tool_calls": True},
        },
    }
