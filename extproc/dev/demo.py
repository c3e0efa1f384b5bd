"""A tour through the running development gateway: what a newcomer should see, in under a minute."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

from rich.console import Console

from extproc import replay
from extproc.dev import files, keys, users
from extproc.errors import ExtprocError
from extproc.store.sqlite import SqliteArchive


def run(state: Path, console: Console) -> None:
    """Ask, be refused, see the credential that left, look at the record; raises ExtprocError when nothing runs."""
    _Tour(state, console, files.ports_of(state)).run()


@dataclass(frozen=True, slots=True)
class _Tour:
    state: Path
    console: Console
    ports: files.Ports

    def run(self) -> None:
        self._step(1, "Without a token", "An anonymous request does not get past the gateway.")
        self._show_refusal(None)
        self._step(2, "alice asks", "She is a developer; her token comes from the company's issuer, not from GitHub.")
        decision_id = self._streaming_chat()
        self._step(3, "mallory asks", "She is known, but in no group the policy names: default deny.")
        self._show_refusal(self._token("mallory"))
        self._step(4, "What GitHub saw", "The gateway's credential. The caller's token stayed here.")
        self._upstream_view()
        self._step(5, "The record", "Who, by which rule, what was said, and when each piece was said.")
        self._record(decision_id)

    def _streaming_chat(self) -> str:
        try:
            with self._ask(self._token("alice"), "count to 10", stream=True) as response:
                self.console.print("   ", end="")
                for line in response:
                    self.console.print(_text(line), end="", style="green", markup=False)
                self.console.print()
                decision_id = response.headers["x-gateway-decision-id"] or ""
        except urllib.error.HTTPError as refused:
            code = _error(refused)["code"]
            raise ExtprocError(f"the gateway refused alice ({code}): does it run with {self.state}?") from None
        self.console.print(f"    decision {decision_id}", style="dim")
        return decision_id

    def _upstream_view(self) -> None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports.upstream}/__seen", timeout=5) as response:
                seen: list[dict[str, Any]] = json.load(response)
        except OSError:
            self.console.print("    (another upstream is in use; look at its own log)", style="dim")
            return
        headers = dict(seen[-1]["headers"])
        ours = (self.state / "github-token").read_text().strip()
        same = "the gateway's own" if headers["authorization"] == f"Bearer {ours}" else "SOMETHING ELSE"
        self.console.print(f"    authorization: Bearer {ours[:8]}...  ({same})", markup=False)
        self.console.print(f"    host: {headers['host']}   accept-encoding: {headers['accept-encoding']}", markup=False)

    def _record(self, decision_id: str) -> None:
        document = SqliteArchive(self.state / "extproc.db").exchange(decision_id)
        if document is None:
            raise ExtprocError(f"exchange {decision_id} is not in the store of {self.state}: is it another gateway's?")
        replay.play([document], self.console, speed=1.0, wait=True)
        self.console.print(
            f"Look further:  .venv/bin/extproc sessions list\n"
            f"               .venv/bin/extproc sessions show {document['session']} --json\n"
            f"               .venv/bin/extproc replay {document['session']} --speed 2\n"
            f"               .venv/bin/extproc policy explain --as mallory --model gpt-5",
            markup=False,
        )

    def _step(self, number: int, title: str, why: str) -> None:
        self.console.print(f"\n{number}. {title}", style="bold", markup=False, end="  ")
        self.console.print(why, style="dim", markup=False)

    def _show_refusal(self, token: str | None) -> None:
        try:
            with self._ask(token, "hello"):
                raise ExtprocError("the gateway let a request through that it should refuse")
        except urllib.error.HTTPError as refused:
            error = _error(refused)
            self.console.print(f"    {refused.code}  {error['code']}: {error['message']}", style="red", markup=False)
            self.console.print(f"    decision {error['decision_id']}", style="dim", markup=False)

    def _token(self, user: str) -> str:
        return keys.token_for(self.state, user, users.DEMO_USERS[user], now=time.time())

    @contextmanager
    def _ask(self, token: str | None, text: str, *, stream: bool = False) -> Iterator[HTTPResponse]:
        gateway = f"http://127.0.0.1:{self.ports.http}"
        body = {"model": "gpt-5", "stream": stream, "messages": [{"role": "user", "content": text}]}
        request = urllib.request.Request(f"{gateway}/chat/completions", json.dumps(body).encode())  # noqa: S310 - loopback
        request.add_header("content-type", "application/json")
        if token is not None:
            request.add_header("authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - loopback
                yield response
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError as failure:
            raise ExtprocError(f"{gateway} does not answer: start the gateway with `make run`") from failure


def _text(line: bytes) -> str:
    """Return what one line of the stream adds to the answer."""
    choices = json.loads(line[6:])["choices"] if line.startswith(b"data: {") else []
    return (choices[0]["delta"].get("content") or "") if choices else ""


def _error(refused: urllib.error.HTTPError) -> dict[str, Any]:
    with refused:
        error: dict[str, Any] = json.load(refused)["error"]
    return error
