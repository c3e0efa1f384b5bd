"""`/models` of the demo upstream, in the form in which Copilot answers."""

from __future__ import annotations

from typing import Any

from aiohttp import web

_CHAT, _RESPONSES, _MESSAGES = "/chat/completions", "/responses", "/v1/messages"
# A client that sees `ws:` would speak in frames that no HTTP filter sees: the gateway must take it out.
_MODELS = {
    "gpt-5": ("Azure OpenAI", [_CHAT, _RESPONSES, "ws:/responses"]),
    "gpt-5-mini": ("Azure OpenAI", [_CHAT, _RESPONSES, "ws:/responses"]),
    "gpt-4.1": ("Azure OpenAI", [_CHAT]),
    "claude-sonnet-4.5": ("Anthropic", [_CHAT, _MESSAGES]),
    "gemini-2.5-pro": ("Google", [_CHAT]),
}


async def models(_request: web.Request) -> web.Response:
    """Answer GET /models."""
    data = [_model(name, vendor, endpoints) for name, (vendor, endpoints) in _MODELS.items()]
    return web.json_response({"object": "list", "data": data})


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
