"""Load from a team's pod: `python -m tests.pods.load URL TOKEN STOP`, until the file STOP is there.

Streams and short requests: by HTTP/1.1 on kept and on new connections (httpx), and by HTTP/2 on kept ones (curl, since
the `h2` of Python's clients takes no answer after a GOAWAY, which RFC 9113 section 6.8 has for those who drain). One
line of JSON for each exchange: what was asked, what arrived, and what went wrong.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

EVENTS = 60
_TOLD = (
    '%{stderr}{"id":"%header{x-gateway-decision-id}","version":"HTTP/%{http_version}","status":"%{http_code}",'
    '"exit":"%{exitcode}"}\\n'
)
_count = itertools.count()


def request(kind: str, *, stream: bool) -> tuple[str, str]:
    """Return a question that was not asked before, and the body that asks it."""
    question = f"stream {EVENTS} {kind} {next(_count)}" if stream else f"short {kind} {next(_count)}"
    body = {"model": "gpt-5", "messages": [{"role": "user", "content": question}], "stream": stream}
    return question, json.dumps(body)


def tell(question: str, received: str, status: int | None, **more: Any) -> None:
    stream = question.startswith("stream")
    done = received.endswith("data: [DONE]\n\n") if stream else "answer to" in received
    events = received.count('"content"')
    if not more.get("error") and status != 200:
        more["error"] = f"status {status}: {received[:300]}"
    print(json.dumps({"question": question, "stream": stream, "done": done, "events": events, **more}), flush=True)  # noqa: T201


async def exchange(client: httpx.AsyncClient, url: str, kind: str, *, stream: bool) -> None:
    question, body = request(kind, stream=stream)
    received, status = "", None
    more: dict[str, str | None] = {"id": None, "version": None, "error": None}
    try:
        async with client.stream("POST", url, content=body) as response:
            status = response.status_code
            more |= {"id": response.headers.get("x-gateway-decision-id"), "version": response.http_version}
            async for text in response.aiter_text():
                received += text
    except httpx.HTTPError as failure:
        more["error"] = f"{type(failure).__name__}: {failure}"
    tell(question, received, status, **more)


async def curl(url: str, token: str, kind: str) -> None:
    """Ask several questions, one after the other, on one connection."""
    asked = [request(kind, stream=stream) for stream in (False, True, False, False, True, False)]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / str(number) for number in range(len(asked))]
        parts = [_curl_config(url, token, body, file) for (_, body), file in zip(asked, files, strict=True)]
        process = await asyncio.create_subprocess_exec(
            "curl", "--config", "-", stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        _, told = await process.communicate("\nnext\n".join(parts).encode())
        lines = [json.loads(line) for line in told.decode().splitlines() if line.startswith("{")]
        for (question, _), file, line in zip(asked, files, lines, strict=True):
            received = file.read_text() if file.exists() else ""
            error = None if line["exit"] == "0" else f"curl ended with {line['exit']}"
            tell(question, received, int(line["status"]), id=line["id"] or None, version=line["version"], error=error)


def _curl_config(url: str, token: str, body: str, file: Path) -> str:
    options = {
        "url": url, "header": f"authorization: Bearer {token}", "data": body, "output": str(file),
        "cacert": os.environ["SSL_CERT_FILE"], "max-time": "30", "write-out": _TOLD,
    }  # fmt: skip
    quoted = [f"{name} = {json.dumps(value)}" for name, value in options.items() if name != "write-out"]
    escaped = _TOLD.replace('"', '\\"')
    return "\n".join(["http2", "silent", "no-buffer", *quoted, f'write-out = "{escaped}"'])


async def main(url: str, token: str, stop: Path) -> None:
    def client() -> httpx.AsyncClient:
        return httpx.AsyncClient(headers={"authorization": f"Bearer {token}"}, timeout=30)

    async def kept(pause: float, *, stream: bool) -> None:
        async with client() as one:
            async for _ in _until(stop):
                await exchange(one, url, "kept-1", stream=stream)
                await asyncio.sleep(pause)

    async def anew(pause: float, *, stream: bool) -> None:
        async for _ in _until(stop):
            async with client() as one:
                await exchange(one, url, "new-1", stream=stream)
            await asyncio.sleep(pause)

    async def by_http2() -> None:
        async for _ in _until(stop):
            await curl(url, token, "kept-2")

    await asyncio.gather(
        *(kept(0.1, stream=True) for _ in range(2)),
        *(anew(0.1, stream=True) for _ in range(2)),
        *(by_http2() for _ in range(2)),
        kept(0.2, stream=False),
        anew(0.3, stream=False),
    )


async def _until(stop: Path) -> AsyncIterator[None]:
    while not stop.exists():  # noqa: ASYNC240 - it is in memory
        yield


if __name__ == "__main__":
    asyncio.run(main(f"{sys.argv[1]}/chat/completions", sys.argv[2], Path(sys.argv[3])))
