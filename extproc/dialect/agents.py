"""The agents dialect: agents that chat (`POST /agents/{slug}`), and JSON about agents, their sessions and memory."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final

from extproc.conversation import Answer, Prompt
from extproc.dialect.chat import ChatDialect
from extproc.dialect.json_api import JsonDialect, read_answer, read_tree
from extproc.dialect.port import AnswerStream, BadRequest
from extproc.dialect.request_body import read_stream

_CHAT: Final = ChatDialect()
_NAMES: Final = frozenset({"model", "messages", "tools", "stream"})


class AgentsDialect(JsonDialect):
    """Implement `Dialect` for agents, which speak chat completions wherever they speak."""

    opaque: AbstractSet[str] = _CHAT.opaque
    json_texts: AbstractSet[str] = _CHAT.json_texts

    def parse_request(self, body: bytes) -> Prompt:
        """Return what is asked of an agent, or all of the body where it has no messages; raises `BadRequest`.

        An agent chooses its model itself: unlike in chat, a request may name none.
        """
        tree = read_tree(body, _NAMES)
        if not isinstance(tree, dict):
            return Prompt(None, [] if tree is None else [tree], [], stream=False)
        model, messages, tools = (tree.get(name) for name in ("model", "messages", "tools"))
        if not (model is None or isinstance(model, str)):
            raise BadRequest("model: expected a string")
        if not (messages is None or isinstance(messages, list)):
            raise BadRequest("messages: expected a list")
        if not (tools is None or isinstance(tools, list)):
            raise BadRequest("tools: expected a list")
        return Prompt(model or None, [tree] if messages is None else messages, tools or [], stream=read_stream(tree))

    def parse_answer(self, body: bytes) -> Answer:
        """Return what an agent says, or accept any other JSON value, or nothing; raises `BadAnswer`."""
        tree = read_answer(body) if body.strip() else None
        # The state of a session may well have an error, which is null.
        if isinstance(tree, dict) and (tree.get("choices") is not None or tree.get("error") is not None):
            return _CHAT.parse_answer(body)
        return Answer(None, [], None, complete=True)

    def stream(self) -> AnswerStream:
        """Return what gathers a streamed answer, in the events of chat."""
        return _CHAT.stream()

    def refused_answer(self, body: bytes, text: str) -> bytes:
        """Return an answer of chat, every choice of which says `text` alone."""
        return _CHAT.refused_answer(body, text)
