"""Gather what an MCP server says, from whole JSON-RPC messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from extproc.conversation import Answer, Choice, Piece, ToolCall
from extproc.dialect.json_api import as_text
from extproc.dialect.port import More, Reading
from extproc.dialect.sse import framed

# Requests of the server to the client that one answer may have; what comes on top is `unparsed`.
MAX_REQUESTS: Final = 1024


class McpStream:
    """Implement `AnswerStream` for the messages of an MCP server.

    Every event is a whole message, so there are no slots. Pieces have the channels `0.text`, `0.tool.<n>` (requests of
    the server to the client) and `unparsed` (its notifications, and what is no JSON-RPC).

    It is complete once a response was taken. The stream that a `GET` opens has none: its end is no fault.
    """

    __slots__ = ("_calls", "_errors", "_responded", "_texts", "_unparsed")

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._calls: list[ToolCall] = []
        self._errors: list[str] = []
        self._unparsed: list[str] = []
        self._responded = False

    def read(self, event: str, tree: dict[str, Any]) -> Reading:  # noqa: ARG002 - the port's shape
        """Find no channels: every string of a message is a text of its own."""
        return Reading()

    def take(self, event: str, tree: dict[str, Any]) -> list[Piece]:  # noqa: ARG002 - the port's shape
        """Add what a message says, and return its texts."""
        if "method" in tree:
            return self._take_request(tree)
        if "error" in tree:
            return self._take_error(tree["error"])
        if "result" in tree:
            return self._take_result(tree["result"])
        return self.take_unparsed(as_text(tree))

    def more(self, event: str, tree: dict[str, Any]) -> More | None:  # noqa: ARG002 - the port's shape
        """Say nothing: no event goes on with a text."""
        return None

    def take_more(self, where: Any, text: str, varied: Mapping[str, str | int]) -> list[Piece] | None:  # noqa: ANN401, ARG002
        """Do nothing, for the same reason."""
        return None

    def take_unparsed(self, text: str) -> list[Piece]:
        """Keep masked `data` that is no JSON object."""
        self._unparsed.append(text)
        return [Piece("unparsed", text)]

    def done(self) -> None:
        """Make nothing of `[DONE]`, which MCP does not know."""

    @property
    def is_complete(self) -> bool:
        """Say whether a response was taken."""
        return self._responded

    def answer(self) -> Answer:
        """Return all that was taken so far."""
        said = bool(self._texts or self._calls)
        choice = Choice(0, "\n".join(self._texts), "", list(self._calls), None)
        errors = "\n".join(self._errors) or None
        return Answer(None, [choice] if said else [], None, self._responded, errors, list(self._unparsed) or None)

    def ending(self, text: str) -> bytes:
        """Return a log message, which any client takes at any moment, with `text` as what it says.

        No response: that has the id of a request, and which are open is not known here. Clients see that the stream
        ends without theirs, and fail or repeat the request.
        """
        params = {"level": "error", "logger": "gateway", "data": text}
        message = {"jsonrpc": "2.0", "method": "notifications/message", "params": params}
        return framed(msgspec.json.encode(message), "message")

    def _take_request(self, tree: dict[str, Any]) -> list[Piece]:
        method, request_id = tree["method"], tree.get("id")
        if not isinstance(method, str) or request_id is None or len(self._calls) >= MAX_REQUESTS:
            return self.take_unparsed(as_text(tree))
        call = ToolCall(_id_text(request_id), method, as_text(tree.get("params", {})))
        self._calls.append(call)
        return [Piece(f"0.tool.{len(self._calls) - 1}", call.arguments)]

    def _take_error(self, error: Any) -> list[Piece]:  # noqa: ANN401 - decoded JSON
        self._responded = True
        message = error.get("message") if isinstance(error, dict) else None
        self._errors.append(message if isinstance(message, str) else as_text(error))
        return []

    def _take_result(self, result: Any) -> list[Piece]:  # noqa: ANN401 - decoded JSON
        self._responded = True
        texts = list(_texts(result))
        self._texts += texts
        return [Piece("0.text", text) for text in texts]


def _id_text(request_id: Any) -> str:  # noqa: ANN401 - decoded JSON
    return request_id if isinstance(request_id, str) else as_text(request_id)


def _texts(result: Any) -> Iterator[str]:  # noqa: ANN401 - decoded JSON
    """Yield the texts of a tool's result (`content`), of resources (`contents`) and of prompts (`messages`)."""
    if not isinstance(result, dict):
        return
    blocks = [*_as_list(result.get("content")), *_as_list(result.get("contents"))]
    for message in _as_list(result.get("messages")):
        blocks += _as_list(message.get("content")) if isinstance(message, dict) else []
    found = False
    for block in blocks:
        # An embedded resource has its text one level deeper.
        for holder in (block, block.get("resource")) if isinstance(block, dict) else ():
            if isinstance(holder, dict) and isinstance(holder.get("text"), str):
                found = True
                yield holder["text"]
    if not found and "structuredContent" in result:
        yield as_text(result["structuredContent"])


def _as_list(value: Any) -> list[Any]:  # noqa: ANN401 - decoded JSON
    if isinstance(value, dict):
        return [value]
    return value if isinstance(value, list) else []
