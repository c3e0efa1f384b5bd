"""The whole of `make run` on free ports, in a process of its own, and what people and programs do to it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import openai

from extproc.dev import files, keys, runner, users
from tests.e2e.gateway import free_ports

READY_SECONDS = 60


@dataclass(frozen=True)
class Said:
    """An answer as a program got it."""

    status: int
    text: str
    exchange: str


class Stack:
    """`prepare` may put a record into the state directory before anything runs."""

    def __init__(self, prepare: Callable[[Path], None] = lambda _state: None) -> None:
        self.state = Path(tempfile.mkdtemp(prefix="extproc-"))
        self.ports = files.Ports(*free_ports(len(fields(files.Ports))))
        self.url = f"http://127.0.0.1:{self.ports.console}"
        prepare(self.state)
        command = [sys.executable, "-m", "tests.browser.stack", str(self.state)]
        ports = [str(getattr(self.ports, one.name)) for one in fields(files.Ports)]
        self.log = (self.state / "stack.log").open("wb")
        self._process = subprocess.Popen([*command, *ports], stdout=self.log, stderr=self.log, cwd=Path.cwd())
        until(lambda: b"ready" in (self.state / "stack.log").read_bytes(), "the gateway's start", READY_SECONDS)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)
        self.log.close()
        shutil.rmtree(self.state)

    def token(self, user: str) -> str:
        return keys.token_for(self.state, user, users.DEMO_USERS[user], now=time.time())

    def ask(self, text: str, *, user: str = "alice", tools: tuple[str, ...] = (), **fields: Any) -> Said:
        """Send a streamed chat request, as a client does, and wait for the end of the answer."""
        body = {"model": "gpt-5", "stream": True, "messages": [{"role": "user", "content": text}], **fields}
        if tools:
            body["tools"] = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in tools]
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports.http}/chat/completions",
            data=json.dumps(body).encode(),
            headers={"authorization": f"Bearer {self.token(user)}", "content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return Said(response.status, response.read().decode(), response.headers["x-gateway-decision-id"])
        except urllib.error.HTTPError as refused:
            return Said(refused.code, refused.read().decode(), refused.headers["x-gateway-decision-id"])

    @contextmanager
    def asking(self, text: str, tools: tuple[str, ...] = ("edit",), user: str = "alice") -> Iterator[Future[Said]]:
        """Ask with the unmodified OpenAI SDK, in a thread: the answer may wait for a person."""
        with ThreadPoolExecutor(1) as thread:
            yield thread.submit(self._ask_with_sdk, text, tools, user)

    def _ask_with_sdk(self, text: str, tools: tuple[str, ...], user: str) -> Said:
        """Return what the SDK understood: text and arguments of calls, joined."""
        base_url = f"http://127.0.0.1:{self.ports.http}"
        with openai.OpenAI(base_url=base_url, api_key=self.token(user), max_retries=0, timeout=120) as client:
            answer = client.chat.completions.with_raw_response.create(
                model="gpt-5",
                stream=True,
                messages=[{"role": "user", "content": text}],
                tools=[{"type": "function", "function": {"name": name, "parameters": {}}} for name in tools],
            )
            understood = ""
            for chunk in answer.parse():
                for choice in chunk.choices:
                    understood += choice.delta.content or ""
                    for call in choice.delta.tool_calls or ():
                        understood += (call.function and call.function.arguments) or ""
            return Said(answer.http_response.status_code, understood, answer.headers["x-gateway-decision-id"])

    def api(self, path: str, user: str = "carol") -> Any:
        """Return what the REST API says."""
        headers = {"authorization": f"Bearer {self.token(user)}"}
        request = urllib.request.Request(f"{self.url}/api/v1{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def recorded(self, said: Said) -> dict[str, Any]:
        """Return the document of an exchange, which is in the store a moment after the answer."""

        def look() -> Any:
            try:
                return self.api(f"/exchanges/{said.exchange}")
            except urllib.error.HTTPError as missing:
                if missing.code not in {404, 503}:
                    raise
                return None

        found: dict[str, Any] = until(look, f"the record of {said.exchange}")
        return found


def chromium_path() -> str | None:
    """Return the browser of this machine, None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def until(look: Callable[[], Any], what: str, seconds: float = 20) -> Any:
    """Poll until something is true: for what happens in other processes."""
    deadline = time.monotonic() + seconds
    while not (value := look()):
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds} s"
        time.sleep(0.05)
    return value


if __name__ == "__main__":
    os.umask(0o077)
    state, *ports = sys.argv[1:]
    asyncio.run(runner.run(Path(state), files.Ports(*map(int, ports)), None, lambda line: print(line, flush=True)))
