"""Where clients of the demo upstream ask for experiments and report telemetry; neither needs a credential."""

from __future__ import annotations

from aiohttp import web


async def experiments(_request: web.Request) -> web.Response:
    """Answer GET /telemetry: no experiment. The language server asks without a pause until it gets `Configs`."""
    configs = [{"Id": "vscode", "Parameters": {}}]
    return web.json_response({"Features": [], "Flights": {}, "Configs": configs, "AssignmentContext": ""})


async def report(request: web.Request) -> web.Response:
    """Answer POST /telemetry as Application Insights does: all lines are accepted, unread."""
    lines = len((await request.read()).splitlines())
    return web.json_response({"itemsReceived": lines, "itemsAccepted": lines, "errors": []})
