"""Cost against the size of bodies, and against the turns of a session that sends everything again each time."""

from __future__ import annotations

import itertools
import json
import string
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any, Final

from bench import texts
from bench.exchanges import agent_turns
from bench.growth_fit import Curve, cpu, measured, point
from bench.growth_gateway import Chat, at_once, gateway
from bench.upstream import encoded
from tests.playbook import SECRET

KB: Final = 1024
_SIZES: Final = (1, 4, 16, 64, 256, 1024, 4096)
_QUICK_SIZES: Final = (4, 16, 64, 256)
_LEAST_BYTES: Final = 64 * KB
"""Small bodies are measured several at a time, so that a measurement is of as much."""

_MESSAGE_CHARS: Final = 4 * KB
_PACKET_BYTES: Final = 16_384
_SEED: Final = 9
_EVENT: Final = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_760_000_000, "model": "gpt-5"}
_SMALL_ANSWER: Final = (
    b'{"model":"gpt-5","choices":[{"index":0,"message":{"role":"assistant","content":"Done."},"finish_reason":"stop"}]}'
)
_SMALL_PROMPT: Final = b'{"model":"gpt-5","messages":[{"role":"user","content":"Go on."}],"stream":true}'

_TURNS: Final = (1, 5, 10, 20, 40, 70, 100, 150, 200)
_QUICK_TURNS: Final = (1, 5, 10, 20, 40)

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"


# --- What is sent ----------------------------------------------------------------------------------------------------


@cache
def mixed(chars: int) -> str:
    """Return prose and code in turn."""
    prose, code = texts.prose(8000), texts.code(8000)
    block = "\n\n".join(prose[at : at + 2000] + code[at : at + 2000] for at in range(0, 8000, 2000))
    return (block * (chars // len(block) + 1))[:chars]


@cache
def _secrets(chars: int) -> str:
    text = mixed(chars)
    return "".join(text[at : at + 4000] + f"\nnpm = {SECRET}\n" for at in range(0, chars, 4000))[:chars]


@cache
def _word(chars: int) -> str:
    random = Random(_SEED)  # noqa: S311 - the same word in every run
    return "".join(random.choices(string.ascii_letters + string.digits, k=chars))


def prompt_of(parts: Sequence[str]) -> bytes:
    """Return a request with one message for each part."""
    messages = [{"role": "user", "content": part} for part in parts]
    return encoded({"model": "gpt-5", "messages": messages, "stream": True})


def _answer_of(text: str) -> list[bytes]:
    message = {"role": "assistant", "content": text}
    body = encoded({"model": "gpt-5", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
    return _cut(body)


def streamed(text: str) -> list[bytes]:
    """Return an answer that streams a text, an event at a time."""
    return _stream([{"content": piece} for piece in texts.pieces(text)], "stop")


def called(text: str) -> list[bytes]:
    """Return an answer that streams one call of a tool, which writes a text to a file, an event at a time."""
    written = json.dumps({"path": "src/module.py", "new_str": text})
    first: dict[str, Any] = {"id": "call_1", "type": "function", "function": {"name": "edit", "arguments": ""}}
    calls = [first, *({"function": {"arguments": piece}} for piece in texts.pieces(written))]
    return _stream([{"tool_calls": [{"index": 0, **call}]} for call in calls], "tool_calls")


def _stream(deltas: Sequence[dict[str, Any]], reason: str) -> list[bytes]:
    return [*events_of(deltas), *events_of([{}], reason), b"data: [DONE]\n\n"]


def events_of(deltas: Sequence[dict[str, Any]], reason: str | None = None) -> list[bytes]:
    """Return events with these deltas."""
    choices = [{"index": 0, "delta": delta, "finish_reason": reason} for delta in deltas]
    return [b"data: %b\n\n" % encoded({**_EVENT, "choices": [choice]}) for choice in choices]


def _cut(body: bytes) -> list[bytes]:
    return [body[at : at + _PACKET_BYTES] for at in range(0, len(body), _PACKET_BYTES)]


def small_answer(prompt: bytes, session: str | None = None) -> Chat:
    """Return an exchange of which only the prompt matters."""
    return Chat(prompt, JSON, [_SMALL_ANSWER], session)


def small_prompt(content_type: str, pieces: Sequence[bytes]) -> Chat:
    """Return an exchange of which only the answer matters."""
    return Chat(_SMALL_PROMPT, content_type, pieces)


def _many(text: str) -> Chat:
    return small_answer(prompt_of([text[at : at + _MESSAGE_CHARS] for at in range(0, len(text), _MESSAGE_CHARS)]))


# So much longer than its text is the stream of it, about: five characters to an event.
_OF_EVENT: Final = 30

_SHAPES: Final[dict[str, dict[str, Callable[[int], Chat]]]] = {
    "prompts": {
        "messages of 4 KB": lambda size: _many(mixed(size)),
        "one message": lambda size: small_answer(prompt_of([mixed(size)])),
        "a secret every 4 KB": lambda size: _many(_secrets(size)),
        "one long word": lambda size: small_answer(prompt_of([_word(size)])),
    },
    "answers": {
        "JSON": lambda size: small_prompt(JSON, _answer_of(mixed(size))),
        "streamed": lambda size: small_prompt(EVENTS, streamed(mixed(size // _OF_EVENT))),
        "streamed, a secret every 4 KB": lambda size: small_prompt(EVENTS, streamed(_secrets(size // _OF_EVENT))),
        "streamed, one call of a tool": lambda size: small_prompt(EVENTS, called(mixed(size // _OF_EVENT))),
    },
}


# --- What is measured ------------------------------------------------------------------------------------------------


async def bodies(folder: Path, which: str, *, quick: bool) -> dict[str, Curve]:
    """Return the CPU ms of an exchange against the KB of its prompt, or of its answer."""
    sizes, rounds = (_QUICK_SIZES, 3) if quick else (_SIZES, 5)
    curves = {}
    async with gateway(folder) as one:
        token, sessions = one.token("alice"), itertools.count()
        for name, shape in _SHAPES[which].items():
            chats = {kb: shape(kb * KB) for kb in sizes}

            async def measure(kb: float, chats: dict[int, Chat] = chats) -> float:
                count = max(1, int(_LEAST_BYTES / KB / kb))
                # Each in a session of its own: what a session has stored already is not stored again.
                asked = [replace(chats[int(kb)], session=f"session {next(sessions)}") for _ in range(count)]
                taken = await cpu(lambda: at_once([partial(one.ask, token, chat) for chat in asked]))
                return taken / count * 1000

            curves[name] = Curve(await measured(sizes, measure, rounds))
    return curves


async def session(folder: Path, *, quick: bool) -> dict[str, Curve]:
    """Return the CPU of a turn for each KB of its body, in µs, against the turn's number."""
    turns, rounds = (_QUICK_TURNS, 3) if quick else (_TURNS, 5)
    prompts = [_turn(entry.opening["request"]) for entry in agent_turns(turns[-1])]
    found: list[list[float]] = []
    async with gateway(folder) as one:
        token = one.token("alice")
        for number in range(rounds + 1):
            chats = [small_answer(prompt, f"session {number}") for prompt in prompts]
            found.append([await cpu(partial(one.ask, token, chat)) / len(chat.prompt) * KB * 1e6 for chat in chats])
    windows = list(zip((0, *turns), turns, strict=False))
    # Each turn is measured once in a round; those between two points of the plot stand for the later one.
    means = [[sum(taken[begin:end]) / (end - begin) for begin, end in windows] for taken in found[1:]]
    points = [point(end, [one[at] for one in means]) for at, (_, end) in enumerate(windows)]
    return {"a turn, for each KB of its body": Curve(points, promise=0)}


def _turn(request: dict[str, Any]) -> bytes:
    """Return the body of a request that was recorded: what the client sends."""
    return encoded({"model": "gpt-5", "messages": request["messages"], "tools": request["tools"], "stream": True})
