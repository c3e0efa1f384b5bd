"""Answers with secrets in every dialect, as the demo upstream writes them, and what a client makes of the bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from extproc.conversation import ToolCall
from extproc.dev.upstream_chat import ChatWire
from extproc.dev.upstream_completions import CompletionsWire
from extproc.dev.upstream_messages import MessagesWire
from extproc.dev.upstream_model import Wire, event, to_json
from extproc.dev.upstream_responses import ResponsesWire
from extproc.dev.upstream_script import Script, fragments
from tests.masking import corpus

_RANDOM = Random(11)  # noqa: S311 - test data, the same each time
TOKEN = corpus.secret("github-classic", _RANDOM)
NPM = corpus.secret("npm", _RANDOM)
_KEY_LINES = corpus.private_key(_RANDOM).splitlines()
KEY = "\n".join([*_KEY_LINES[:8], _KEY_LINES[-1]])
PASSWORD = corpus.secret("database-url", _RANDOM)
SECRETS = (TOKEN, NPM, KEY, PASSWORD)

TEXT = (
    f"Größe 世界 😀: take {TOKEN}, or the key\n{KEY}\nfor postgresql://svc:{PASSWORD}@db.example.net/app … that is all."
)
THOUGHT = f"They want {NPM}. So be it."
# JSON in JSON: a file that is itself JSON, with the secret spelled in escapes once.
FILE = json.dumps({"token": TOKEN, "note": f'line 1\nuse "{NPM}"', "key": KEY})
ARGUMENTS = json.dumps({"path": "/w/a.json", "file_text": FILE}).replace(
    f'use \\\\\\"{NPM[:4]}', 'use \\\\\\"\\u006epm_'
)
PATCH = f"*** Begin Patch\n*** Add File: a.env\n+TOKEN={TOKEN}\n+{KEY.replace(chr(10), chr(10) + '+')}\n*** End Patch\n"

USER = {"role": "user", "content": "hi"}
CREATE = {"name": "create", "parameters": {}}


@dataclass(frozen=True)
class Case:
    """One dialect: how it is asked, how it answers, what a client reads from the answer."""

    path: str
    request: dict[str, Any]
    wire: Wire
    read_json: Callable[[Any], list[tuple[str, str]]]
    read_events: Callable[[list[dict[str, Any]]], list[tuple[str, str]]]
    is_custom: bool = False
    done: bool = False

    def script(self, size: int) -> Script:
        call = ToolCall("call_1", "create", PATCH if self.is_custom else ARGUMENTS)
        if isinstance(self.wire, CompletionsWire):
            return Script(tuple(fragments(TEXT, size)))
        return Script(
            tuple(fragments(TEXT, size)), tuple(fragments(THOUGHT, size)), call, is_custom=self.is_custom, fragment=size
        )

    def body(self) -> bytes:
        return to_json(self.wire.whole(self.wire.read(self.request), self.script(7), 1))

    def events(self, size: int) -> bytes:
        return b"".join(self.wire.events(self.wire.read(self.request), self.script(size), 1))

    def asked(self, *, stream: bool) -> dict[str, Any]:
        return self.request | {"stream": stream}


# --- What clients read: pairs of a kind of text and the text ---------------------------------------------------------


def _chat(tree: Any) -> list[tuple[str, str]]:
    message = tree["choices"][0]["message"]
    return [("text", message["content"]), *_chat_calls(message["tool_calls"])]


def _chat_calls(calls: list[Any]) -> list[tuple[str, str]]:
    return [
        ("arguments", call["function"]["arguments"])
        if call["type"] == "function"
        else ("patch", call["custom"]["input"])
        for call in calls
    ]


def _chat_events(trees: list[dict[str, Any]]) -> list[tuple[str, str]]:
    deltas = [choice["delta"] for tree in trees for choice in tree["choices"]]
    parts = [call for delta in deltas for call in delta.get("tool_calls", [])]
    kind, member = ("custom", "input") if any("custom" in part for part in parts) else ("function", "arguments")
    joined = "".join(part[kind][member] for part in parts)
    text = "".join(delta.get("content") or "" for delta in deltas)
    return [("text", text), ("patch" if kind == "custom" else "arguments", joined)]


def _completions(tree: Any) -> list[tuple[str, str]]:
    return [("text", choice["text"].removeprefix(f"{choice['index']}: ")) for choice in tree["choices"]]


def _completions_events(trees: list[dict[str, Any]]) -> list[tuple[str, str]]:
    texts: dict[int, str] = {}
    for choice in (choice for tree in trees for choice in tree["choices"]):
        texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
    return [("text", text.removeprefix(f"{index}: ")) for index, text in texts.items()]


_MEMBERS = {"output_text": "text", "reasoning_summary_text": "thought", "function_call_arguments": "arguments"}
_MEMBERS |= {"custom_tool_call_input": "patch", "content_part": "text", "reasoning_summary_part": "thought"}


def _response(tree: Any) -> list[tuple[str, str]]:
    return [said for item in tree["output"] for said in _item(item)]


def _item(item: Any) -> list[tuple[str, str]]:
    match item["type"]:
        case "reasoning":
            return [("thought", item["summary"][0]["text"])]
        case "message":
            return [("text", item["content"][0]["text"])]
        case "function_call":
            return [("arguments", item["arguments"])]
        case _:
            return [("patch", item["input"])]


def _response_events(trees: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return what the deltas make, and every text that repeats it."""
    texts: dict[str, str] = {}
    repeated: list[tuple[str, str]] = []
    for tree in trees:
        stem, _, end = tree["type"].removeprefix("response.").rpartition(".")
        if end == "delta":
            texts[_MEMBERS[stem]] = texts.get(_MEMBERS[stem], "") + tree["delta"]
        elif stem == "output_item" and end == "done":
            repeated += _item(tree["item"])
        elif end == "done":
            part = tree.get("part") or tree
            text = next(part[name] for name in ("text", "arguments", "input") if name in part)
            repeated.append((_MEMBERS[stem], text))
        elif tree["type"] == "response.completed":
            repeated += _response(tree["response"])
    return [*texts.items(), *repeated]


def _message(tree: Any) -> list[tuple[str, str]]:
    members = {"thinking": "thinking", "text": "text", "tool_use": "input"}
    kinds = {"thinking": "thought", "text": "text", "tool_use": "arguments"}
    found = [(kinds[block["type"]], block[members[block["type"]]]) for block in tree["content"]]
    return [(kind, said if isinstance(said, str) else json.dumps(said)) for kind, said in found]


def _message_events(trees: list[dict[str, Any]]) -> list[tuple[str, str]]:
    members = {"thinking_delta": "thinking", "text_delta": "text", "input_json_delta": "partial_json"}
    kinds = {"thinking_delta": "thought", "text_delta": "text", "input_json_delta": "arguments"}
    texts: dict[str, str] = {}
    for delta in (tree["delta"] for tree in trees if tree["type"] == "content_block_delta"):
        if delta["type"] in members:
            kind = kinds[delta["type"]]
            texts[kind] = texts.get(kind, "") + delta[members[delta["type"]]]
    return list(texts.items())


_CHAT_REQUEST = {"model": "gpt-5", "messages": [USER]}
_RESPONSES_REQUEST = {
    "model": "gpt-5.5",
    "input": "hi",
    "reasoning": {"summary": "auto"},
    "include": ["reasoning.encrypted_content"],
}
_MESSAGES_REQUEST = {"model": "claude", "max_tokens": 9, "thinking": {"type": "adaptive"}, "messages": [USER]}
_COMPLETIONS_REQUEST = {"model": "gpt-41-copilot", "prompt": "# hi", "n": 2}

CASES = {
    "chat": Case("/chat/completions", _CHAT_REQUEST, ChatWire(), _chat, _chat_events, done=True),
    "chat-custom": Case(
        "/chat/completions", _CHAT_REQUEST, ChatWire(), _chat, _chat_events, is_custom=True, done=True
    ),
    "agents": Case("/agents/helper", _CHAT_REQUEST, ChatWire(), _chat, _chat_events, done=True),
    "completions": Case(
        "/v1/engines/gpt-41-copilot/completions", _COMPLETIONS_REQUEST, CompletionsWire(),
        _completions, _completions_events, done=True,
    ),
    "responses": Case("/responses", _RESPONSES_REQUEST, ResponsesWire(), _response, _response_events),
    "responses-custom": Case(
        "/v1/responses", _RESPONSES_REQUEST, ResponsesWire(), _response, _response_events, is_custom=True
    ),
    "messages": Case("/v1/messages", _MESSAGES_REQUEST, MessagesWire(), _message, _message_events),
}  # fmt: skip
EXPECTED = {"text": TEXT, "thought": THOUGHT, "arguments": ARGUMENTS, "patch": PATCH}


# --- Bytes -----------------------------------------------------------------------------------------------------------


def trees(data: bytes) -> list[dict[str, Any]]:
    """Decode every event of a stream but `[DONE]`."""
    found = re.findall(rb"^data: ?(.*?)\r?$", data, re.MULTILINE)
    return [json.loads(one) for one in found if one not in {b"[DONE]", b""}]


def skeleton(tree: Any) -> Any:
    """Return a tree without what is said in it: ids, indices, types and usage stay."""
    said = {"content", "text", "delta", "arguments", "input", "partial_json", "thinking", "file_text"}
    if isinstance(tree, dict):
        return {key: "" if key in said and isinstance(value, str) else skeleton(value) for key, value in tree.items()}
    return [skeleton(one) for one in tree] if isinstance(tree, list) else tree


def plain(text: str) -> str:
    """Return a text with a dot for every secret, masked or not."""
    for secret in (*SECRETS, KEY.replace("\n", "\n+")):
        text = text.replace(secret, "•")
    return re.sub(r"\[MASKED:[a-z0-9.-]+\]", "•", text)


def cuts(data: bytes, seed: int) -> Iterator[bytes]:
    """Cut bytes anywhere."""
    random, at = Random(seed), 0  # noqa: S311 - test data, the same each time
    while at < len(data):
        size = random.randint(1, 600)
        yield data[at : at + size]
        at += size


def leaked(data: bytes) -> list[str]:
    """Return each run of eight characters of a secret that the bytes hold; prefixes that mean nothing are no secret."""
    text = data.decode()
    lines = [line for secret in SECRETS for line in secret.split("\n") if "-----" not in line]
    windows = {line[at : at + 8] for line in lines for at in range(4, len(line) - 7)}
    return [window for window in windows if window in text]


def progress(token: int) -> bytes:
    """Return the event of a tool server that is still at work."""
    params = {"progressToken": token, "progress": 1}
    return event({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}, "message")
