"""A tour through the running development gateway: what a newcomer should see, in under a minute."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

from rich.console import Console

from extproc import replay
from extproc.dev import files, keys, users
from extproc.errors import ExtprocError
from extproc.store.sqlite import SqliteArchive

_GATEWAY = f"http://127.0.0.1:{files.Ports().http}"
_UPSTREAM = f"http://127.0.0.1:{files.Ports().upstream}"


def run(state: Path, console: Console) -> None:
    """Ask, be refused, see the credential that left, look at the record; raises ExtprocError when nothing runs."""
    if not (state / "issuer.pem").exists():
        raise ExtprocError(f"no gateway has run with the state directory {state}: start one with `make run`")
    _no_token(console)
    decision_id = _streaming_chat(state, console)
    _denied(state, console)
    _upstream_view(state, console)
    _record(state, console, decision_id)


def _no_token(console: Console) -> None:
    _step(console, 1, "Without a token", "An anonymous request does not get past the gateway.")
    _show_error(console, None, "gpt-5")


def _streaming_chat(state: Path, console: Console) -> str:
    _step(console, 2, "alice asks", "She is a developer; her token comes from the company's issuer, not from GitHub.")
    with _answered(state), _ask(_token(state, "alice"), "gpt-5", "count to 10", stream=True) as response:
        console.print("   ", end="")
        for line in response:
            if line.startswith(b"data: {"):
                choices = json.loads(line[6:])["choices"]
                text = choices[0]["delta"].get("content") if choices else None
                console.print(text or "", end="", style="green", markup=False)
        console.print()
        decision_id = response.headers["x-gateway-decision-id"] or ""
    console.print(f"    decision {decision_id}", style="dim")
    return decision_id


def _denied(state: Path, console: Console) -> None:
    _step(
        console,
        3,
        "mallory asks",
        "She is known, but in no group the policy names: default deny.",
    )
    _show_error(console, _token(state, "mallory"), "gpt-5")


def _upstream_view(state: Path, console: Console) -> None:
    _step(console, 4, "What GitHub saw", "The gateway's credential. The caller's token stayed here.")
    try:
        with urllib.request.urlopen(f"{_UPSTREAM}/__seen", timeout=5) as response:  # noqa: S310 - loopback
            seen: list[dict[str, Any]] = json.load(response)
    except OSError:
        console.print("    (another upstream is in use; look at its own log)", style="dim")
        return
    headers = dict(seen[-1]["headers"])
    ours = (state / "github-token").read_text().strip()
    same = "the gateway's own" if headers["authorization"] == f"Bearer {ours}" else "SOMETHING ELSE"
    console.print(f"    authorization: Bearer {ours[:8]}...  ({same})", markup=False)
    console.print(f"    host: {headers['host']}   accept-encoding: {headers['accept-encoding']}", markup=False)


def _record(state: Path, console: Console, decision_id: str) -> None:
    _step(console, 5, "The record", "Who, by which rule, what was said, and when each piece was said.")
    archive = SqliteArchive(state / "extproc.db")
    document = archive.exchange(decision_id)
    if document is None:
        raise ExtprocError(f"exchange {decision_id} is not in the store of {state}: is it another gateway's?")
    replay.play([document], console, speed=1.0, wait=True)
    console.print(
        f"Look further:  .venv/bin/extproc sessions list\n"
        f"               .venv/bin/extproc sessions show {document['session']} --json\n"
        f"               .venv/bin/extproc replay {document['session']} --speed 2\n"
        f"               .venv/bin/extproc policy explain --as mallory --model gpt-5",
        markup=False,
    )


def _step(console: Console, number: int, title: str, why: str) -> None:
    console.print(f"\n{number}. {title}", style="bold", markup=False, end="  ")
    console.print(why, style="dim", markup=False)


def _show_error(console: Console, token: str | None, model: str) -> None:
    try:
        with _ask(token, model, "hello"):
            raise ExtprocError("the gateway let a request through that it should refuse")
    except urllib.error.HTTPError as refused:
        with refused:
            error = json.load(refused)["error"]
        console.print(f"    {refused.code}  {error['code']}: {error['message']}", style="red", markup=False)
        console.print(f"    decision {error['decision_id']}", style="dim", markup=False)


@contextmanager
def _answered(state: Path) -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as refused:
        with refused:
            code = json.load(refused)["error"]["code"]
        raise ExtprocError(
            f"the gateway refused alice ({code}): does it run with the state directory {state}?"
        ) from None


@contextmanager
def _ask(token: str | None, model: str, text: str, *, stream: bool = False) -> Iterator[HTTPResponse]:
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]}
    request = urllib.request.Request(f"{_GATEWAY}/chat/completions", json.dumps(body).encode())  # noqa: S310 - loopback
    request.add_header("content-type", "application/json")
    if token is not None:
        request.add_header("authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - loopback
            yield response
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError as failure:
        raise ExtprocError(f"{_GATEWAY} does not answer: start the gateway with `make run`") from failure


def _token(state: Path, user: str) -> str:
    return keys.mint(
        keys.load_or_create(state / "issuer.pem"),
        issuer=files.Ports().issuer_url,
        audience=files.AUDIENCE,
        user=user,
        groups=users.DEMO_USERS[user],
        now=time.time(),
    )
