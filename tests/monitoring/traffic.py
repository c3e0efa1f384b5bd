"""Everything that clients of a gateway do, once each: what the dashboards are to show."""

from __future__ import annotations

import asyncio
import json
import time
from random import Random
from typing import Any

from extproc.approval.approval import Approval, Scope, State, Verdict
from extproc.store.sqlite_approvals import SqliteApprovals
from tests.e2e import tunnels
from tests.e2e.gateway import Gateway
from tests.masking import corpus
from tests.monitoring.scraping import eventually

SECRET = corpus.secret("github-classic", Random(7))  # noqa: S311 - test data, the same each time
MERGE = "/repos/octo/shop/pulls/7/merge"
WAIT_SECONDS = 1.5
"""How long approvals are left waiting: longer than Prometheus waits between two scrapes."""


class Clients:
    """Ask a gateway; its upstream is the demo's."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def everything(self) -> None:
        """Do all of it, at the same time where one does not wait for another."""
        await asyncio.gather(
            self._models(), self._refused(), self._findings(), self._others(), self._tunnels(), self._approvals()
        )

    async def _ask(self, path: str, body: Any = None, *, status: int = 200, method: str = "POST", **more: str) -> None:
        got = await self._send(path, body, method=method, **more)
        assert got[0] == status, f"{method} {path}: {got}"

    async def _send(self, path: str, body: Any = None, *, method: str, **headers: str) -> tuple[int, str]:
        sent = {**self._gateway.headers(), **{name.replace("_", "-"): value for name, value in headers.items()}}
        data = None if body is None else json.dumps(body)
        async with self._gateway.session.request(
            method, f"{self._gateway.url}{path}", headers=sent, data=data
        ) as response:
            return response.status, await response.text()

    async def _models(self) -> None:
        asked = [{"role": "user", "content": "please count to 40"}]
        await self._ask("/chat/completions", {"model": "gpt-5", "messages": asked})
        for model in ("gpt-5", "gpt-4.1"):
            usage = {"stream_options": {"include_usage": True}}
            await self._ask("/chat/completions", {"model": model, "messages": asked, "stream": True, **usage})
        await self._ask("/responses", {"model": "gpt-5-codex", "input": "count to 20", "stream": True})
        messages = {"model": "claude-sonnet-4", "messages": asked, "max_tokens": 100, "stream": True}
        await self._ask("/v1/messages", messages)
        await self._ask("/embeddings", {"model": "text-embedding-3-small", "input": ["a word"]})

    async def _refused(self) -> None:
        body = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
        expired = self._gateway.token(exp=1, iat=0)
        for token, status in (("Bearer nonsense", 401), (f"Bearer {expired}", 401), ("", 401)):
            await self._ask("/chat/completions", body, status=status, authorization=token)
        mallory = self._gateway.headers("mallory")["authorization"]
        await self._ask("/chat/completions", body, status=422, authorization=mallory)

    async def _findings(self) -> None:
        for text in (f"why does {SECRET} not work?", "leak"):
            body = {"model": "gpt-5", "messages": [{"role": "user", "content": text}], "stream": True}
            await self._ask("/chat/completions", body)

    async def _others(self) -> None:
        await self._ask("/models", method="GET")
        await self._ask("/repos/octo/shop/issues", method="GET")
        accept = "application/json, text/event-stream"
        params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        rpc = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        await self._ask("/mcp/", rpc, accept=accept)

    async def _tunnels(self) -> None:
        async with tunnels.encrypted(self._gateway) as wire:
            token = self._gateway.headers()["authorization"]
            assert (await wire.ask("/models", [("authorization", token)])).status == 200
        async with tunnels.tunnel(self._gateway, tunnels.LISTED) as wire:
            await wire.send(b"hello")
            assert await wire.reader.readexactly(5) == b"hello"
        # A client that takes the port for one without TLS.
        reader, writer = await asyncio.open_connection("127.0.0.1", self._gateway.ports.https)
        writer.write(b"GET /models HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.read()
        writer.close()

    async def _approvals(self) -> None:
        held = [asyncio.create_task(self._send(MERGE, {}, method="PUT")) for _ in range(2)]
        store = SqliteApprovals(self._gateway.state / "approvals.db", instance=None, now=time.time())
        try:

            async def is_held() -> bool:
                return len(await store.newest(state=State.PENDING)) == len(held)

            await eventually(is_held, "both wait")
            await asyncio.sleep(WAIT_SECONDS)
            for approval, approved in zip(await store.newest(state=State.PENDING), (True, False), strict=True):
                verdict = Verdict("issuer#bob", "bob", approved, "seen", Scope.ONCE, time.time(), "192.0.2.9")
                said = await store.verdict(approval.request.id, verdict, frozenset({"approvers"}))
                assert isinstance(said, Approval), said
        finally:
            await store.aclose()
        # The demo upstream merges nothing.
        assert {status for status, _ in await asyncio.gather(*held)} == {403, 404}
