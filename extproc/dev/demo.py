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
from extproc.dev import demo_approval, demo_evidence, files, keys, upstream_leak, users
from extproc.errors import ExtprocError
from extproc.keys.fingerprint_key import FILE_NAME, load_key
from extproc.masking.fingerprint import Fingerprints
from extproc.store.port import FindingSearch
from extproc.store.sqlite_archive import SqliteArchive

_FINDINGS = 8
_RECORDED_SECONDS = 15


def run(state: Path, console: Console) -> None:
    """Ask, be refused, see what left and what was masked, look at the record; raises ExtprocError if nothing runs."""
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
        # Made up, and another one each time, so that the match below is of this tour.
        assignment = upstream_leak.assignments(str(time.time())).splitlines()[0]
        self._step(5, "alice pastes a secret", f"Her prompt holds {assignment[:18]}... and leaves without.")
        self._streaming_chat(f"Why does CI fail with {assignment} set?")
        self._upstream_prompt(assignment.partition("=")[2])
        self._step(6, "The model leaks", "It answers with secrets, a few characters at a time. What alice received:")
        leaked = self._streaming_chat("leak")
        self._step(7, "The findings", "Where and when, never the secret itself; who has a secret can ask where it was.")
        self._recorded(leaked)
        self._findings(assignment.partition("=")[2])
        self._step(8, "alice asks for an edit", "infra/prod.tf is privileged: the answer waits for bob, twice.")
        demo_approval.show(self.console, self.state, self._edit)
        self._step(9, "The record", "Who, by which rule, what was said, and when each piece was said.")
        document = self._recorded(decision_id)
        replay.play([document], self.console, speed=1.0, wait=True)
        self._step(10, "The proof", "Each entry has the hash of the one before, and signed checkpoints are over all.")
        demo_evidence.show(self.console, self.state, document["session"])

    def _streaming_chat(self, prompt: str = "count to 10") -> str:
        try:
            with self._ask(self._token("alice"), prompt, stream=True) as response:
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

    def _edit(self, question: str) -> str:
        """Ask, and say what the client was given in the end."""
        given = ""
        with self._ask(self._token("alice"), question, stream=True, tools=("edit",)) as response:
            for line in response:
                choices = json.loads(line[6:])["choices"] if line.startswith(b"data: {") else []
                for choice in choices:
                    delta = choice["delta"]
                    given += delta.get("content") or ""
                    for call in delta.get("tool_calls") or ():
                        name = call["function"].get("name")
                        given += f"a call of the tool {name}" if name else ""
        return given

    def _upstream_view(self) -> None:
        seen = self._last_seen()
        if seen is None:
            return
        headers = dict(seen["headers"])
        ours = (self.state / "github-token").read_text().strip()
        same = "the gateway's own" if headers["authorization"] == f"Bearer {ours}" else "SOMETHING ELSE"
        self.console.print(f"    authorization: Bearer {ours[:8]}...  ({same})", markup=False)
        self.console.print(f"    host: {headers['host']}   accept-encoding: {headers['accept-encoding']}", markup=False)

    def _upstream_prompt(self, secret: str) -> None:
        seen = self._last_seen()
        if seen is None:
            return
        prompt = seen["body"]["messages"][-1]["content"]
        if secret in prompt:
            raise ExtprocError("the upstream received the secret: does the policy switch masking off?")
        self.console.print(f"    GitHub received: {prompt}", style="green", markup=False)

    def _last_seen(self) -> dict[str, Any] | None:
        """Return what the demo upstream got last; None, and a word about it, where another upstream is in use."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports.upstream}/__seen", timeout=5) as response:
                seen: list[dict[str, Any]] = json.load(response)
        except OSError:
            self.console.print("    (another upstream is in use; look at its own log)", style="dim")
            return None
        return seen[-1]

    def _findings(self, secret: str) -> None:
        archive = SqliteArchive(self.state / "record.db")
        for row in archive.findings(limit=_FINDINGS):
            line = f"    {row.action:5} {row.rule:28} {row.direction:7} {row.where} @{row.offset}  {row.user}"
            self.console.print(line, markup=False)
        fingerprint = Fingerprints(load_key(self.state / FILE_NAME)).of(secret)
        for row in archive.findings(FindingSearch(fingerprint=fingerprint)):
            self.console.print(f"    match: {row.user} in exchange {row.exchange}", style="green", markup=False)
        self.console.print(
            "    The same:  .venv/bin/extproc findings list   and   ... findings match < FILE", style="dim"
        )

    def _recorded(self, decision_id: str) -> dict[str, Any]:
        """Return the document of an exchange once it is in the store, a moment after its end."""
        archive = SqliteArchive(self.state / "record.db")
        deadline = time.monotonic() + _RECORDED_SECONDS
        while (document := archive.exchange(decision_id)) is None:
            if time.monotonic() > deadline:
                raise ExtprocError(
                    f"exchange {decision_id} is not in the store of {self.state}: is it another gateway's?"
                )
            time.sleep(0.1)
        return document

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
    def _ask(
        self, token: str | None, text: str, *, stream: bool = False, tools: tuple[str, ...] = ()
    ) -> Iterator[HTTPResponse]:
        gateway = f"http://127.0.0.1:{self.ports.http}"
        body: dict[str, Any] = {"model": "gpt-5", "stream": stream, "messages": [{"role": "user", "content": text}]}
        if tools:
            body["tools"] = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in tools]
        request = urllib.request.Request(f"{gateway}/chat/completions", json.dumps(body).encode())  # noqa: S310 - loopback
        request.add_header("content-type", "application/json")
        if token is not None:
            request.add_header("authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - loopback
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
