"""Gather what an answer of the messages dialect says, from its whole body or from the events of its stream.

Source: Anthropic API reference, "Messages" and "Streaming messages".
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from extproc.conversation import Answer, Choice, Piece, ToolCall, Usage
from extproc.dialect.json_api import as_text, unparsed_piece

# Blocks that one answer may open; each call of a tool is one, and the longest turns of agents have some dozens.
MAX_BLOCKS: Final = 1024

_Natural = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class Tokens(msgspec.Struct, gc=False):
    """What an answer took so far."""

    input_tokens: _Natural | None = None
    output_tokens: _Natural | None = None


class _Block(msgspec.Struct, gc=False):
    """One block of `content`: `input` is an object, or an empty one whose text follows in deltas."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None


class _Message(msgspec.Struct, gc=False):
    """The start of a streamed answer, or the body of a whole one, which may also be a count of tokens or an error."""

    content: list[_Block] | None = None
    model: str | None = None
    stop_reason: str | None = None
    usage: Tokens | None = None
    input_tokens: _Natural | None = None
    error: Any = None


class _Delta(msgspec.Struct, gc=False):
    """The delta of a block or of the message."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Event(msgspec.Struct, gc=False):
    """The data of any event."""

    index: _Natural | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    message: _Message | None = None
    usage: Tokens | None = None


class _Call(msgspec.Struct, gc=False):
    """Gather one tool call."""

    id: str
    name: str
    channel: str
    arguments: list[str]


class OpenBlock(msgspec.Struct, gc=False):
    """Hold what is known of a block that was started and not stopped."""

    kind: str
    call: _Call | None
    has_text: bool


def kind_of(event: str, tree: dict[str, Any]) -> str:
    """Return what sort of event it is: some clients go by its SSE type, most by the `type` in its data."""
    kind = tree.get("type")
    return kind if isinstance(kind, str) and event != "error" else event


def is_block_known(kind: object) -> bool:
    """Say whether only `text` and `thinking` of a block of this type are continued as plain text by its deltas."""
    return isinstance(kind, str) and (
        kind in {"text", "thinking", "redacted_thinking"} or kind.endswith(("tool_use", "tool_result"))
    )


class AnswerBuilder:
    """Gather the blocks of one answer; their texts are joined only when it is asked for."""

    __slots__ = (
        "_blocks",
        "_calls",
        "_errors",
        "_finish_reason",
        "_input_tokens",
        "_is_complete",
        "_model",
        "_reasoning",
        "_text",
        "_unparsed",
        "is_ended",
        "is_started",
        "next_index",
        "open_blocks",
        "output_tokens",
    )

    def __init__(self) -> None:
        self.is_started = False
        self.is_ended = False
        self.open_blocks: dict[int, OpenBlock] = {}
        self.next_index = 0
        self.output_tokens: int | None = None
        self._input_tokens: int | None = None
        self._is_complete = False
        self._model: str | None = None
        self._finish_reason: str | None = None
        self._blocks = 0
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[_Call] = []
        self._errors: list[str] = []
        self._unparsed: list[str] = []

    def take_whole(self, tree: object) -> bool:
        """Add what the body of an answer says; return False when it says nothing we know, or too much.

        Raises `msgspec.ValidationError` when it is no object or a field we read has an unexpected type, and
        `RecursionError`.
        """
        body = msgspec.convert(tree, _Message)
        understood = True
        if body.error is not None:
            self._errors.append(_error_text(body.error))
        if body.content is not None and isinstance(tree, dict):
            self.is_started = True
            understood = self._take_message(body, tree["content"], [])
            for index in range(self.next_index):
                self._stop(index, [])
        elif body.input_tokens is not None:
            self._input_tokens = body.input_tokens
        elif body.error is None:
            understood = False
        self._is_complete = True
        return understood

    def take_event(self, event: str, tree: dict[str, Any]) -> list[Piece]:
        """Add what an event of a stream says, and return its texts; what does not fit is kept as unparsed."""
        pieces: list[Piece] = []
        kind = kind_of(event, tree)
        # Whatever else it says: a second start, in an ending, would be an error for clients.
        self.is_started = self.is_started or kind == "message_start"
        error = tree.get("error")
        if kind == "error" or error is not None:
            self.is_ended = self.is_ended or kind == "error"
            self._errors.append(_error_text(tree if error is None else error))
            return pieces
        try:
            understood = self._take(kind, msgspec.convert(tree, _Event), tree, pieces)
        except (msgspec.ValidationError, RecursionError, UnicodeEncodeError):
            understood = False
        return pieces if understood else pieces + self.take_unparsed(as_text(tree))

    def more(self, event: str, tree: dict[str, Any]) -> tuple[int | None, str] | None:
        """Return the block and the type of a delta that is nothing but plain text."""
        if kind_of(event, tree) != "content_block_delta" or tree.get("error") is not None:
            return None
        try:
            taken = msgspec.convert(tree, _Event)
        except (msgspec.ValidationError, RecursionError, UnicodeEncodeError):
            return None
        delta = taken.delta or _Delta()
        said = {"text_delta": delta.text, "thinking_delta": delta.thinking, "input_json_delta": delta.partial_json}
        return (taken.index, delta.type) if said.get(delta.type) else None

    def take_more(self, index: int | None, delta_type: str, text: str) -> list[Piece] | None:
        """Add the text of a delta; None where it belongs to a call that is not known."""
        pieces: list[Piece] = []
        delta = _Delta(delta_type, text, text, text)
        return pieces if self._take_delta(index, delta, pieces) else None

    def take_unparsed(self, text: str) -> list[Piece]:
        """Keep what nobody understood."""
        self._unparsed.append(text)
        return [unparsed_piece(text)]

    @property
    def is_complete(self) -> bool:
        """Say whether the message was stopped."""
        return self._is_complete

    def answer(self) -> Answer:
        """Return what has been said so far."""
        calls = [ToolCall(call.id, call.name, "".join(call.arguments)) for call in self._calls]
        choice = Choice(0, "".join(self._text), "".join(self._reasoning), calls, self._finish_reason)
        has_usage = self._input_tokens is not None or self.output_tokens is not None
        return Answer(
            self._model,
            [choice] if self.is_started or choice.text or choice.reasoning or calls else [],
            Usage(self._input_tokens or 0, self.output_tokens or 0) if has_usage else None,
            self._is_complete,
            "\n".join(self._errors) or None,
            list(self._unparsed) or None,
        )

    def _take(self, kind: str, event: _Event, tree: dict[str, Any], pieces: list[Piece]) -> bool:
        match kind:
            case "content_block_delta" if event.delta is not None:
                return self._take_delta(event.index, event.delta, pieces)
            case "content_block_start" if event.content_block is not None and event.index is not None:
                return self._start(event.index, event.content_block, tree["content_block"], pieces)
            case "content_block_stop" if event.index is not None:
                self._stop(event.index, pieces)
            case "message_start" if event.message is not None:
                return self._take_message(event.message, tree["message"].get("content"), pieces)
            case "message_delta":
                if event.delta is not None:
                    self._finish_reason = event.delta.stop_reason or self._finish_reason
                self._take_usage(event.usage)
            case "message_stop":
                self._is_complete = self.is_ended = True
            case "ping":
                pass
            case _:
                return False
        return True

    def _take_message(self, message: _Message, raw_blocks: Any, pieces: list[Piece]) -> bool:  # noqa: ANN401 - JSON
        self._model = self._model or message.model
        self._finish_reason = message.stop_reason or self._finish_reason
        self._take_usage(message.usage)
        taken = [
            self._start(index, block, raw_blocks[index], pieces) for index, block in enumerate(message.content or ())
        ]
        return all(taken)

    def _take_usage(self, usage: Tokens | None) -> None:
        # Each report counts from the beginning of the answer, and leaves out what did not change.
        if usage is not None:
            self._input_tokens = self._input_tokens if usage.input_tokens is None else usage.input_tokens
            self.output_tokens = self.output_tokens if usage.output_tokens is None else usage.output_tokens

    def _start(self, index: int, block: _Block, raw: object, pieces: list[Piece]) -> bool:
        """Open a block; return False when there are too many."""
        self.next_index = max(self.next_index, index + 1)
        if self._blocks >= MAX_BLOCKS:
            return False
        self._blocks += 1
        call = None
        if block.type.endswith("tool_use"):
            call = self._open_call(block, pieces)
        elif not is_block_known(block.type) or block.type.endswith("tool_result"):
            # What a tool said at the server's side has no place of its own in an answer.
            pieces += self.take_unparsed(as_text(raw))
        else:
            self._add_text(block.text, pieces)
            self._add_reasoning(block.thinking, pieces)
        self.open_blocks[index] = OpenBlock(block.type, call, bool(block.text))
        return True

    def _open_call(self, block: _Block, pieces: list[Piece]) -> _Call:
        arguments = "" if block.input in (None, {}) else as_text(block.input)
        call = _Call(block.id or "", block.name or "", f"0.tool.{len(self._calls)}", [arguments])
        self._calls.append(call)
        pieces.append(Piece(call.channel, arguments))
        return call

    def _stop(self, index: int, pieces: list[Piece]) -> None:
        block = self.open_blocks.pop(index, None)
        if block is not None and block.call is not None and not any(block.call.arguments):
            # A call without arguments has the empty object of its start, and deltas with no text or none at all.
            block.call.arguments.append("{}")
            pieces.append(Piece(block.call.channel, "{}"))

    def _take_delta(self, index: int | None, delta: _Delta, pieces: list[Piece]) -> bool:
        block = None if index is None else self.open_blocks.get(index)
        match delta.type:
            case "text_delta":
                self._add_text(delta.text, pieces)
                if block is not None and delta.text:
                    block.has_text = True
            case "thinking_delta":
                self._add_reasoning(delta.thinking, pieces)
            case "input_json_delta" if block is not None and block.call is not None:
                if delta.partial_json:
                    block.call.arguments.append(delta.partial_json)
                    pieces.append(Piece(block.call.channel, delta.partial_json))
            case "signature_delta" | "citations_delta":
                pass
            case _:
                return False
        return True

    def _add_text(self, text: str | None, pieces: list[Piece]) -> None:
        if text:
            self._text.append(text)
            pieces.append(Piece("0.text", text))

    def _add_reasoning(self, text: str | None, pieces: list[Piece]) -> None:
        if text:
            self._reasoning.append(text)
            pieces.append(Piece("0.reasoning", text))


def _error_text(error: object) -> str:
    """Return the message of an error, or all of it where it has none."""
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else as_text(error)
