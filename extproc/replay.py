"""Play recorded exchanges in the terminal, with the rhythm in which they were streamed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markdown import Markdown
from rich.panel import Panel
from rich.syntax import Syntax
from rich.text import Text

from extproc.store.searching import new_messages

MAX_WAIT_SECONDS = 30.0
"""Longest pause of a replay: nobody wants to watch a tool run for an hour again."""


def frames(document: dict[str, Any]) -> Iterator[tuple[float, str]]:
    """Yield the answer's text as it grew: seconds after the previous frame, and the text up to then.

    Only the first choice's text is played; an answer that was not streamed is one frame at its end.
    """
    response, timing = document.get("response") or {}, document.get("timing") or {}
    text = response.get("text") or ""
    pieces = [(at, count) for at, channel, count in timing.get("pieces") or [] if channel == "0.text" and count]
    if not pieces:
        if text:
            yield (timing.get("closed") or 0.0) / 1000, text
        return
    before, shown = 0.0, 0
    for at, count in pieces:
        shown += count
        yield (at - before) / 1000, text[:shown]
        before = at


def play(
    documents: Iterable[dict[str, Any]],
    console: Console,
    *,
    speed: float,
    wait: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show exchanges one after the other; `speed` 2 is twice as fast, `wait` false shows everything at once."""
    ended_at: float | None = None
    turns: dict[str, int] = {}
    for document in documents:
        if wait and ended_at is not None:
            sleep(min(max(document["opened_at"] - ended_at, 0.0) / speed, MAX_WAIT_SECONDS))
        if "removed" in document:
            console.print(_removed(document))
            console.print()
            continue
        console.print(_heading(document, turns))
        for message in new_messages(document["request"].get("messages") or []):
            console.print(_message(message))
        _play_answer(document, console, speed=speed, wait=wait, sleep=sleep)
        for approval in document.get("approvals") or []:
            console.print(_approval(approval))
        console.print(_ending(document))
        console.print()
        ended_at = document["closed_at"] or document["opened_at"]


def _at(document: dict[str, Any]) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(document["opened_at"]))


def _play_answer(
    document: dict[str, Any], console: Console, *, speed: float, wait: bool, sleep: Callable[[float], None]
) -> None:
    shown = list(frames(document))
    if shown and wait and console.is_terminal:
        with Live(console=console, refresh_per_second=30, transient=True) as live:
            for delay, text in shown:
                sleep(min(delay / speed, MAX_WAIT_SECONDS))
                live.update(Text(printable(text)))
    elif wait:
        for delay, _ in shown:
            sleep(min(delay / speed, MAX_WAIT_SECONDS))
    response = document.get("response") or {}
    parts: list[Any] = []
    if response.get("reasoning"):
        parts.append(Text(printable(response["reasoning"]), style="dim italic"))
    if response.get("text"):
        parts.append(Markdown(printable(response["text"]), code_theme="ansi_dark"))
    parts += [_tool_call(call) for call in response.get("tool_calls") or []]
    if parts:
        console.print(Panel(Group(*parts), title="assistant", title_align="left", border_style="green"))


def _heading(document: dict[str, Any], turns: dict[str, int]) -> Text:
    request, principal = document["request"], document["principal"] or {}
    line = Text(f"{_at(document)}  ", style="dim")
    line.append(printable(principal.get("name") or "unidentified"), style="bold cyan")
    line.append(f"  {request['method']} {printable(request['path'])}")
    if request.get("model"):
        line.append(f"  {printable(request['model'])}", style="magenta")
    line.append("".join(f"  {fact}" for fact in _turn(document, turns)), style="yellow")
    return line.append(f"  {document['id']}", style="dim")


def _turn(document: dict[str, Any], turns: dict[str, int]) -> Iterator[str]:
    """Say where in its session an exchange stands; `turns` are numbered as they are met."""
    turn = document.get("turn") or {}
    if turn.get("id"):
        yield f"turn {turns.setdefault(turn['id'], len(turns) + 1)}"
    if turn.get("retry_of"):
        yield f"retry of {turn['retry_of']}"
    if turn.get("purpose"):
        yield f"({turn['purpose']})"


def _removed(document: dict[str, Any]) -> Text:
    """Say what is left of an exchange without content: the facts of its head."""
    facts = document["facts"]
    line = Text(f"{_at(document)}  ", style="dim")
    line.append(printable(facts.get("user") or "unidentified"), style="bold cyan")
    if facts.get("model"):
        line.append(f"  {printable(facts['model'])}", style="magenta")
    line.append(f"  {document['id']}\n", style="dim")
    return line.append(f"{facts.get('outcome') or '-'}  {document['removed']}", style="yellow")


def _message(message: Any) -> Panel:  # noqa: ANN401 - a message is JSON as the client sent it
    role = message.get("role", "?") if isinstance(message, dict) else "?"
    content = message.get("content") if isinstance(message, dict) else message
    if isinstance(content, list):
        content = "\n".join(
            str(part.get("text") or f"[{part.get('type')}]") if isinstance(part, dict) else str(part)
            for part in content
        )
    return Panel(
        Text(printable(str(content or ""))), title=printable(str(role)), title_align="left", border_style="blue"
    )


def _tool_call(call: dict[str, Any]) -> Panel:
    try:
        arguments = json.dumps(json.loads(call["arguments"]), indent=2, ensure_ascii=False)
    except ValueError:
        arguments = call["arguments"]
    code = Syntax(printable(arguments), "json", theme="ansi_dark", word_wrap=True)
    return Panel(code, title=f"tool call {printable(call['name'])}", title_align="left", border_style="yellow")


def _approval(approval: dict[str, Any]) -> Text:
    """Say in a line what waited for whom, and how that ended."""
    state = str(approval["state"])
    line = Text(f"approval {state}", style="green" if state == "approved" else "bold red")
    files = ", ".join(str(touch.get("path") or touch.get("act")) for touch in approval["touches"])
    facts = [f"rule {approval['rule']}", printable(files), f"waited {approval['waited_ms'] / 1000:.1f} s"]
    if approval.get("granted"):
        facts.append(f"covered by {approval['granted']}")
    facts += [f"{verdict['name']}: {verdict['reason'] or 'no reason given'}" for verdict in approval["verdicts"]]
    facts.append(approval["id"])
    return line.append("  " + "  ".join(printable(str(fact)) for fact in facts), style="dim")


def _ending(document: dict[str, Any]) -> Text:
    response, decision = document.get("response") or {}, document["decision"] or {}
    style = "green" if document["outcome"] == "completed" else "bold red"
    line = Text(document["outcome"], style=style)
    facts = [
        f"status {response['status']}" if response.get("status") else None,
        f"rule {decision['rule']}" if decision else None,
        f"finish {printable(str(response['finish_reason']))}" if response.get("finish_reason") else None,
        "tokens {input_tokens} in, {output_tokens} out".format(**response["usage"]) if response.get("usage") else None,
        f"{document['error']['code']}: {document['error']['message']}" if document["error"] else None,
    ]
    return line.append("  " + "  ".join(fact for fact in facts if fact), style="dim")


def printable(text: str) -> str:
    """Take out control characters: recorded text comes from strangers and must not steer the reader's terminal."""
    return "".join(char for char in text if char.isprintable() or char in "\n\t")
