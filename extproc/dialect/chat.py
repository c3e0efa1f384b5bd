"""The chat completions dialect: `POST /chat/completions`, answered in JSON or as a stream of `data:` events.

Source: OpenAI API reference, "Chat" and "Chat streaming".
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgspec

from extproc.conversation import Answer, Piece, Prompt
from extproc.dialect.chat_answer import MALFORMED, AnswerBuilder
from extproc.dialect.port import BadAnswer, BadRequest
from extproc.dialect.request_body import read_fields
from extproc.dialect.sse import SseEvent, SseParser
from extproc.errors import Refusal

_REQUEST_FIELDS: Final = frozenset({"model", "messages", "tools", "stream"})


class ChatDialect:
    """Implement `Dialect` for chat completions."""

    def parse_request(self, body: bytes) -> Prompt:
        """Return what the request asks; raises `BadRequest`."""
        fields = read_fields(body, _REQUEST_FIELDS)
        model, messages = fields.get("model"), fields.get("messages")
        tools, stream = fields.get("tools"), fields.get("stream")
        if not (isinstance(model, str) and model):
            raise BadRequest("model: expected a non-empty string")
        if not (isinstance(messages, list) and messages):
            raise BadRequest("messages: expected a non-empty list of objects")
        for position, message in enumerate(messages):
            _check_message(f"messages[{position}]", message)
        if not (tools is None or (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools))):
            raise BadRequest("tools: expected a list of objects")
        if not (stream is None or isinstance(stream, bool)):
            raise BadRequest("stream: expected true or false")
        return Prompt(model, messages, tools or [], stream=bool(stream))

    def parse_answer(self, body: bytes) -> Answer:
        """Return what a JSON answer says, which is complete by being one; raises `BadAnswer`."""
        builder = AnswerBuilder()
        try:
            body.decode()  # msgspec does not look at the encoding of the fields that it skips
            understood = builder.take(body, [])
        except UnicodeDecodeError as error:
            raise BadAnswer("the answer is not UTF-8") from error
        except RecursionError as error:
            raise BadAnswer("the answer is nested too deeply") from error
        except msgspec.DecodeError as error:
            # The message of msgspec gives a place and types, never a value.
            raise BadAnswer(f"the answer: {error}") from error
        if not understood:
            raise BadAnswer("the answer has neither choices nor an error, or too many choices or tool calls")
        return replace(builder.answer(), complete=True)

    def stream(self, max_event_bytes: int) -> ChatStream:
        """Return what gathers a streamed answer, no event of which may be larger than `max_event_bytes`."""
        return ChatStream(max_event_bytes)

    def error_body(self, refusal: Refusal, decision_id: str) -> bytes:
        """Return the refusal as the error object of OpenAI's API."""
        error = {
            "message": refusal.message,
            "type": "invalid_request_error" if refusal.status < 500 else "server_error",
            "code": refusal.code.value,
            "param": None,
            "decision_id": decision_id,
        }
        return msgspec.json.encode({"error": error})


class ChatStream:
    """Implement `AnswerStream` for chat completions.

    Channels: `<choice>.text`, `<choice>.reasoning`, `<choice>.tool.<position in Choice.tool_calls>`, `unparsed`. The
    first piece of a tool call announces it, with the arguments that came along, often none.
    """

    __slots__ = ("_builder", "_done", "_parser", "_unparsed")

    def __init__(self, max_event_bytes: int) -> None:
        self._parser = SseParser(max_event_bytes)
        self._builder = AnswerBuilder()
        self._unparsed: list[str] = []
        self._done = False

    def feed(self, data: bytes) -> list[Piece]:
        """Take the next bytes of the body and return what they say; raises `EventTooLarge`."""
        return self._take(self._parser.feed(data))

    def finish(self) -> list[Piece]:
        """Return what the end of the body leaves over."""
        return self._take(self._parser.finish())

    def answer(self) -> Answer:
        """Return all that has been said so far.

        It is complete after `[DONE]`, which some upstreams leave out: then when every choice has its finish reason.
        """
        answer = self._builder.answer()
        return replace(answer, complete=answer.complete or self._done, unparsed=list(self._unparsed) or None)

    def _take(self, events: list[SseEvent]) -> list[Piece]:
        pieces: list[Piece] = []
        for event in events:
            try:
                understood = self._builder.take(event.data, pieces)
            except MALFORMED:
                understood = self._is_done_or_blank(event.data)
            if not understood:
                text = event.data.decode("utf-8", "replace")
                self._unparsed.append(text)
                pieces.append(Piece("unparsed", text))
        return pieces

    def _is_done_or_blank(self, data: bytes) -> bool:
        bare = data.strip()
        self._done = self._done or bare == b"[DONE]"
        return bare in {b"", b"[DONE]"}


def _check_message(where: str, message: object) -> None:
    if not isinstance(message, dict):
        raise BadRequest(f"{where}: expected an object")
    if not isinstance(message.get("role"), str):
        raise BadRequest(f"{where}.role: expected a string")
    if not isinstance(message.get("content"), str | list | None):
        raise BadRequest(f"{where}.content: expected a string, a list of parts or null")
