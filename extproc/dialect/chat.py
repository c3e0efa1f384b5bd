"""The chat completions dialect: `POST /chat/completions`, answered in JSON or as a stream of `data:` events.

Source: OpenAI API reference, "Chat" and "Chat streaming".
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any, Final

import msgspec

from extproc.conversation import Answer, Piece, Prompt
from extproc.dialect.chat_answer import MAX_CHOICES, AnswerBuilder, Goal, Tokens, goal_of
from extproc.dialect.chat_calls import Natural
from extproc.dialect.chat_slots import SlotReader
from extproc.dialect.json_api import as_text, kept, read_answer, unparsed_piece
from extproc.dialect.openai_error import openai_error
from extproc.dialect.port import AnswerStream, BadAnswer, BadRequest, More, Reading
from extproc.dialect.request_body import read_fields, read_stream
from extproc.dialect.sse import framed
from extproc.errors import Refusal
from extproc.json_body import decoded, encoded

_REQUEST_FIELDS: Final = frozenset({"model", "messages", "tools", "stream"})

# What every event of a stream carries, with the types it must have.
_ENVELOPE: Final = {"id": str, "object": str, "created": int, "model": str}
_KEPT: Final = {"id": str, "created": int, "model": str, "usage": Tokens}


class ChatDialect:
    """Implement `Dialect` for chat completions."""

    # `reasoning_opaque` and `cot_id` are Copilot's: the encrypted state of a model's reasoning, and its id.
    opaque: AbstractSet[str] = frozenset(
        {"id", "object", "model", "role", "type", "finish_reason", "system_fingerprint", "service_tier"}
        | {"tool_call_id", "call_id", "cot_id", "encrypted_content", "reasoning_opaque", "signature"}
    )
    json_texts: AbstractSet[str] = frozenset({"arguments"})

    _object = "chat.completion"

    def parse_request(self, body: bytes) -> Prompt:
        """Return what the request asks; raises `BadRequest`."""
        fields = read_fields(body, _REQUEST_FIELDS)
        model, messages = fields.get("model"), fields.get("messages")
        tools = fields.get("tools")
        if not (isinstance(model, str) and model):
            raise BadRequest("model: expected a non-empty string")
        if not (isinstance(messages, list) and messages):
            raise BadRequest("messages: expected a non-empty list of objects")
        for position, message in enumerate(messages):
            _check_message(f"messages[{position}]", message)
        if not (tools is None or (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools))):
            raise BadRequest("tools: expected a list of objects")
        return Prompt(model, messages, tools or [], stream=read_stream(fields))

    def parse_answer(self, body: bytes) -> Answer:
        """Return what a JSON answer says, which is complete by being one; raises `BadAnswer`."""
        builder = AnswerBuilder()
        try:
            understood = builder.take(read_answer(body), [])
        except msgspec.ValidationError as error:
            # The message of msgspec gives a place and types, never a value.
            raise BadAnswer(f"the answer: {error}") from error
        if not understood:
            raise BadAnswer("the answer has neither choices nor an error, or too many choices or tool calls")
        return replace(builder.answer(), complete=True)

    def amend(self, tree: Any) -> bool:  # noqa: ANN401, ARG002 - decoded JSON, in which nothing leads anywhere
        """Return False: nothing in such an answer leads around the gateway."""
        return False

    def stream(self) -> AnswerStream:
        """Return what gathers a streamed answer."""
        return ChatStream()

    def refused_answer(self, body: bytes, text: str) -> bytes:
        """Return an answer every choice of which says `text` alone, with the id, model and usage of `body`."""
        tree = decoded(body)
        choices = [self._said(index, text) for index in _indexes(tree)]
        return encoded(
            {"id": "", "object": self._object, "created": 0, "model": "", **kept(tree, _KEPT), "choices": choices}
        )

    def error_body(self, refusal: Refusal, decision_id: str) -> bytes:
        """Return the refusal as the error object of OpenAI's API."""
        return openai_error(refusal, decision_id)

    def _said(self, index: int, text: str) -> dict[str, Any]:
        """Return a whole choice."""
        return {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}


class ChatStream:
    """Implement `AnswerStream` for chat completions.

    Pieces have the channels `<choice>.text`, `<choice>.reasoning`, `<choice>.tool.<position in Choice.tool_calls>` and
    `unparsed`; the first piece of a tool call announces it, with the arguments that came along, often none. Slots have
    one channel for each field, as `0.content` or `0.tool.2.arguments`.
    """

    _object = "chat.completion.chunk"

    __slots__ = ("_builder", "_done", "_last", "_reader", "_unparsed")

    def __init__(self) -> None:
        self._reader = SlotReader()
        self._builder = AnswerBuilder()
        self._last: dict[str, Any] = {}
        self._unparsed: list[str] = []
        self._done = False

    def read(self, event: str, tree: dict[str, Any]) -> Reading:  # noqa: ARG002 - events have no types here
        """Say what an event adds to channels; a choice is closed by its finish reason."""
        return self._reader.read(tree)

    def take(self, event: str, tree: dict[str, Any]) -> list[Piece]:  # noqa: ARG002 - events have no types here
        """Add what a masked event says, and return its texts."""
        pieces: list[Piece] = []
        if "id" in tree:
            self._last = tree
        try:
            understood = self._builder.take(tree, pieces)
        except (msgspec.ValidationError, UnicodeEncodeError):
            understood = False
        return pieces if understood else pieces + self.take_unparsed(as_text(tree))

    def more(self, event: str, tree: dict[str, Any]) -> More | None:  # noqa: ARG002 - events have no types here
        """Say which text of which choice an event goes on with."""
        goal = goal_of(tree)
        return None if goal is None else More(goal)

    def take_more(self, where: Goal, text: str, varied: Mapping[str, str | int]) -> list[Piece] | None:  # noqa: ARG002
        """Add a text; nothing varies here."""
        pieces: list[Piece] = []
        return pieces if self._builder.take_more(where, text, pieces) else None

    def take_unparsed(self, text: str) -> list[Piece]:
        """Keep masked `data` that is no JSON object."""
        self._unparsed.append(text)
        return [unparsed_piece(text)]

    def done(self) -> None:
        """Note that `[DONE]` went to the client."""
        self._done = True

    @property
    def is_complete(self) -> bool:
        """Say whether `[DONE]` came, which some upstreams leave out, or every choice has its finish reason."""
        return self._done or self._builder.is_complete

    def answer(self) -> Answer:
        """Return all that was taken so far."""
        return replace(self._builder.answer(), complete=self.is_complete, unparsed=list(self._unparsed) or None)

    def ending(self, text: str) -> bytes:
        """Return the events that end every unfinished choice (the first one where there is none) with `text`.

        Clients run the tool calls they were given whatever the finish reason says, so those are spoiled first.
        """
        indexes = self._builder.unfinished() or [0]
        entries = [entry for index in indexes for entry in self._entries(index, text)]
        events = [framed(encoded({**self._envelope(), "choices": [entry]})) for entry in entries]
        return b"".join(events) + framed(b"[DONE]")

    def _entries(self, index: int, text: str) -> list[dict[str, Any]]:
        """Return the last entries of `choices` for a choice."""
        # Clients that join whatever a delta says must get the role once.
        role = {} if self._builder.has(index) else {"role": "assistant"}
        deltas = [*self._builder.spoiling(index), {**role, "content": text}]
        entries = [{"index": index, "delta": delta, "finish_reason": None} for delta in deltas]
        return [*entries, {"index": index, "delta": {}, "finish_reason": "stop"}]

    def _envelope(self) -> dict[str, Any]:
        """Return what an event has beside its choices, as the last event had it."""
        known = {name: self._last[name] for name, kind in _ENVELOPE.items() if type(self._last.get(name)) is kind}
        return {"id": "", "object": self._object, "created": 0, "model": ""} | known


def _indexes(tree: Any) -> list[int]:  # noqa: ANN401 - decoded JSON
    """Return the indexes of the choices of an answer, each once; 0 where there are none, or a choice has none."""
    choices = tree.get("choices") if isinstance(tree, dict) else None
    entries = choices if isinstance(choices, list) else []
    indexes = dict.fromkeys(kept(entry, {"index": Natural}).get("index", 0) for entry in entries)
    return list(indexes)[:MAX_CHOICES] or [0]


def _check_message(where: str, message: object) -> None:
    if not isinstance(message, dict):
        raise BadRequest(f"{where}: expected an object")
    if not isinstance(message.get("role"), str):
        raise BadRequest(f"{where}.role: expected a string")
    if not isinstance(message.get("content"), str | list | None):
        raise BadRequest(f"{where}.content: expected a string, a list of parts or null")
