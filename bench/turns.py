"""What a coding agent sends late in a session: everything that was said before, 200 KB of it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import cycle

from bench.client import request
from bench.exchanges import agent_turns
from bench.upstream import encoded

_BYTES = 200_000
_TURNS = 12
"""Turns of one session, each with all that was said before it, the first of about `_BYTES`."""


def turns(answer: str, token: str, *, client: int) -> Iterator[bytes]:
    """Yield a client's requests: the turns of a session, and over again."""
    return cycle([request(answer, token, body, client=client) for body in _bodies()])


@cache
def _bodies() -> list[bytes]:
    found: list[bytes] = []
    for turn in agent_turns(1000):
        prompt = turn.opening["request"]
        asked = {"model": "gpt-5", "stream": True, "messages": prompt["messages"], "tools": prompt["tools"]}
        body = encoded(asked)
        if len(body) >= _BYTES:
            found.append(body)
        if len(found) == _TURNS:
            break
    return found
