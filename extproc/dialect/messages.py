"""The messages dialect: `POST /v1/messages` and `/v1/messages/count_tokens`, answered in JSON or as a stream of events.

Source: Anthropic API reference, "Messages", "Streaming messages", "Count message tokens" and "Errors".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

import msgspec

from extproc.conversation import Answer, Piece, Prompt
from extproc.dialect.json_api import kept, read_answer
from extproc.dialect.messages_answer import AnswerBuilder, Tokens, is_block_known, kind_of
from extproc.dialect.port import BadAnswer, BadRequest, Form, More, Reading, Slot
from extproc.dialect.request_body import read_fields, read_stream
from extproc.errors import Refusal
from extproc.json_body import decoded, encoded

_REQUEST_FIELDS: Final = frozenset({"model", "messages", "system", "tools", "stream"})

# `data` is not among them: in `redacted_thinking` it is encrypted, but in the source of a document it is plain text.
_OPAQUE: Final = frozenset(
    {"id", "tool_use_id", "type", "role", "model", "stop_reason", "signature"}
    | {"encrypted_content", "encrypted_index", "encrypted_stdout"}
)
_JSON_TEXTS: Final = frozenset({"partial_json", "arguments"})

# Channels that one stream may open. An answer has one or two for each of its blocks; what comes on top shares one.
MAX_CHANNELS: Final = 4096

# Source: Anthropic API reference, "Errors". 503 is our own way to say overloaded, and 422 to refuse content.
_ERROR_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}
_KEPT: Final = {"id": str, "model": str, "usage": Tokens}


class MessagesDialect:
    """Implement `Dialect` for Anthropic's messages."""

    opaque: AbstractSet[str] = _OPAQUE
    json_texts: AbstractSet[str] = _JSON_TEXTS

    def parse_request(self, body: bytes) -> Prompt:
        """Return what the request asks, the system prompt as its first message; raises `BadRequest`."""
        fields = read_fields(body, _REQUEST_FIELDS)
        model, messages, system = fields.get("model"), fields.get("messages"), fields.get("system")
        tools = fields.get("tools")
        if not (isinstance(model, str) and model):
            raise BadRequest("model: expected a non-empty string")
        if not (isinstance(messages, list) and messages):
            raise BadRequest("messages: expected a non-empty list of objects")
        for position, message in enumerate(messages):
            _check_message(f"messages[{position}]", message)
        if not (system is None or isinstance(system, str) or _is_objects(system)):
            raise BadRequest("system: expected a string or a list of blocks")
        if not (tools is None or _is_objects(tools)):
            raise BadRequest("tools: expected a list of objects")
        first = [] if system is None else [{"role": "system", "content": system}]
        return Prompt(model, first + messages, tools or [], stream=read_stream(fields))

    def parse_answer(self, body: bytes) -> Answer:
        """Return what a JSON answer says, a message or a count of tokens; raises `BadAnswer`."""
        builder = AnswerBuilder()
        try:
            understood = builder.take_whole(read_answer(body))
        except RecursionError as error:
            raise BadAnswer("the answer is nested too deeply") from error
        except msgspec.ValidationError as error:
            # The message of msgspec gives a place and types, never a value.
            raise BadAnswer(f"the answer: {error}") from error
        if not understood:
            raise BadAnswer("the answer has neither content, a count of tokens nor an error, or too many blocks")
        return builder.answer()

    def amend(self, tree: Any) -> bool:  # noqa: ANN401, ARG002 - decoded JSON, which the port hands to every dialect
        """Change nothing: a message cannot lead the client elsewhere."""
        return False

    def stream(self) -> MessagesStream:
        """Return what gathers a streamed answer."""
        return MessagesStream()

    def refused_answer(self, body: bytes, text: str) -> bytes:
        """Return a message that says `text` alone, with the id, model and usage of `body`."""
        said = {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}
        return encoded({**_OWN_MESSAGE, **kept(decoded(body), _KEPT), **said})

    def error_body(self, refusal: Refusal, decision_id: str) -> bytes:
        """Return the refusal as the error object of Anthropic's API."""
        error = {
            "type": _ERROR_TYPES.get(refusal.status, "invalid_request_error" if refusal.status < 500 else "api_error"),
            "message": refusal.message,
            "code": refusal.code.value,
            "decision_id": decision_id,
        }
        return msgspec.json.encode({"type": "error", "error": error})


class MessagesStream:
    """Implement `AnswerStream` for Anthropic's messages.

    Channels of `read` are `<index of the block>.<member of its deltas>`, as in `1.text` and `2.partial_json`; pieces of
    `take` are `0.text`, `0.reasoning`, `0.tool.<position in Choice.tool_calls>` and `unparsed`.
    """

    __slots__ = ("_builder", "_channels")

    def __init__(self) -> None:
        self._builder = AnswerBuilder()
        self._channels: set[str] = set()

    def read(self, event: str, tree: dict[str, Any]) -> Reading:
        """Say what an event adds to channels: the text of deltas, and that of starts, with which clients begin."""
        kind = kind_of(event, tree)
        slots: list[Slot] = []
        delta, block, message = tree.get("delta"), tree.get("content_block"), tree.get("message")
        # That of a `message_delta` says wholes. What is unknown is taken to be joined, member by member.
        if type(delta) is dict and kind != "message_delta":
            self._add_slots(slots, _index_of(tree), delta, delta)
        if type(block) is dict:
            self._add_block(slots, _index_of(tree), block)
        if type(message) is dict and type(blocks := message.get("content")) is list:
            for position, block in enumerate(blocks):
                if type(block) is dict:
                    self._add_block(slots, position, block)
        if kind == "content_block_stop":
            return Reading(slots, (f"{_index_of(tree)}.",))
        return Reading(slots, ("",)) if kind in {"message_stop", "error"} else Reading(slots)

    def take(self, event: str, tree: dict[str, Any]) -> list[Piece]:
        """Add what a masked event says."""
        return self._builder.take_event(event, tree)

    def more(self, event: str, tree: dict[str, Any]) -> More | None:
        """Say which block an event goes on with."""
        where = self._builder.more(event, tree)
        return None if where is None else More(where)

    def take_more(
        self,
        where: tuple[int | None, str],
        text: str,
        varied: Mapping[str, str | int],  # noqa: ARG002 - nothing varies
    ) -> list[Piece] | None:
        """Add a text to a block."""
        return self._builder.take_more(*where, text)

    def take_unparsed(self, text: str) -> list[Piece]:
        """Keep masked `data` that is no JSON object."""
        return self._builder.take_unparsed(text)

    def done(self) -> None:
        """Do nothing: clients of this dialect wait for `message_stop`, and know no `[DONE]`."""

    @property
    def is_complete(self) -> bool:
        """Say whether what ends an answer was taken."""
        return self._builder.is_complete

    def answer(self) -> Answer:
        """Return all that was taken so far; it is complete after `message_stop`."""
        return self._builder.answer()

    def ending(self, text: str) -> bytes:
        """Return the events that end the answer with `text`; none where `message_stop` or an error ended it already.

        A block of a tool call that is still open stays open. Clients collect a call's input until `content_block_stop`,
        and then run it, some without a look at the stop reason: to stop the block would be to hand the call over.
        """
        builder, events = self._builder, []
        if builder.is_ended:
            return b""
        if not builder.is_started:
            events.append(_event("message_start", message=_OWN_MESSAGE))
        is_said = False
        for index, block in builder.open_blocks.items():
            if block.kind == "text" and not is_said:
                events.append(_text_delta(index, f"\n{text}" if block.has_text else text))
                is_said = True
            if block.call is None:
                events.append(_event("content_block_stop", index=index))
        if not is_said:
            index = builder.next_index
            events.append(_event("content_block_start", index=index, content_block={"type": "text", "text": ""}))
            events.append(_text_delta(index, text))
            events.append(_event("content_block_stop", index=index))
        usage = {"output_tokens": builder.output_tokens or 0}
        events.append(_event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage=usage))
        events.append(_event("message_stop"))
        return b"".join(events)

    def _add_block(self, slots: list[Slot], index: int | str, block: dict[str, Any]) -> None:
        """Add the slots of a block's start; what an unknown block begins with might be continued by unknown deltas."""
        self._add_slots(slots, index, block, ("text", "thinking") if is_block_known(block.get("type")) else block)

    def _add_slots(self, slots: list[Slot], index: int | str, holder: dict[str, Any], names: Iterable[str]) -> None:
        for name in names:
            if type(holder.get(name)) is str and name not in _OPAQUE:
                form = Form.JSON if name in _JSON_TEXTS else Form.PLAIN
                slots.append(Slot(holder, name, self._channel(f"{index}.{name}"), form))

    def _channel(self, name: str) -> str:
        if name in self._channels:
            return name
        if len(self._channels) >= MAX_CHANNELS:
            return "?.more"
        self._channels.add(name)
        return name


_OWN_MESSAGE: Final[dict[str, object]] = {
    "id": "msg_gateway",
    "type": "message",
    "role": "assistant",
    "model": "gateway",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 0, "output_tokens": 0},
}


def _event(kind: str, **members: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), encoded({"type": kind, **members}))


def _text_delta(index: int, text: str) -> bytes:
    return _event("content_block_delta", index=index, delta={"type": "text_delta", "text": text})


def _index_of(tree: dict[str, Any]) -> int | str:
    """Return the index of an event as the name of its channels begins; all that are no index are one."""
    index = tree.get("index")
    return index if type(index) is int and 0 <= index < 2**31 else "?"


def _is_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _check_message(where: str, message: object) -> None:
    if not isinstance(message, dict):
        raise BadRequest(f"{where}: expected an object")
    if not isinstance(message.get("role"), str):
        raise BadRequest(f"{where}.role: expected a string")
    if not isinstance(message.get("content"), str | list):
        raise BadRequest(f"{where}.content: expected a string or a list of blocks")
