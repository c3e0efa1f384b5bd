"""The responses dialect: `POST /responses`, answered in JSON or as a stream of named events.

Source: OpenAI API reference, "Responses" and "Responses streaming events".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any, Final

from extproc.conversation import Answer, Piece, Prompt
from extproc.dialect.json_api import kept, read_answer
from extproc.dialect.openai_error import openai_error
from extproc.dialect.port import BadAnswer, BadRequest, More, Reading, Slot
from extproc.dialect.request_body import read_fields, read_stream
from extproc.dialect.responses_answer import FINISHED, AnswerBuilder
from extproc.dialect.responses_ending import Shown, saying
from extproc.dialect.responses_texts import (
    Field,
    ItemKeys,
    Text,
    delta_slots,
    item_texts,
    kind_of,
    part_prefix,
    part_text,
    stem_of,
)
from extproc.errors import Refusal
from extproc.json_body import decoded, encoded

# What a request builds on that was said elsewhere: the record names it, because it cannot show it.
_CONTEXT: Final = ("previous_response_id", "conversation", "prompt")
_REQUEST_FIELDS: Final = frozenset({"model", "instructions", "input", "tools", "stream", *_CONTEXT})
# A `result` is none: that of an image is base64, in which no detector finds anything by chance, but others are text.
_OPAQUE: Final = frozenset(
    (
        *("id", "item_id", "call_id", "response_id", "previous_response_id", "approval_request_id"),
        *("container_id", "file_id", "type", "role", "status", "object", "phase", "model"),
        *("encrypted_content", "fingerprint", "obfuscation", "partial_image_b64"),
    )
)
_KEPT: Final = {"id": str, "previous_response_id": str, "created_at": float, "model": str, "usage": dict[str, Any]}
_PART_STEMS: Final = frozenset({"content_part", "reasoning_summary_part"})


class ResponsesDialect:
    """Implement `Dialect` for responses."""

    opaque: AbstractSet[str] = _OPAQUE
    json_texts: AbstractSet[str] = frozenset({"arguments"})

    def parse_request(self, body: bytes) -> Prompt:
        """Return what the request asks; raises `BadRequest`.

        The messages are the items of `input` as they are. Instructions come first as a system message, a string as a
        user message, and before both, as an object with that one member, what was said elsewhere and is built upon.
        """
        fields = read_fields(body, _REQUEST_FIELDS)
        model, tools = fields.get("model"), fields.get("tools")
        if not (isinstance(model, str) and model):
            raise BadRequest("model: expected a non-empty string")
        if not (tools is None or _is_objects(tools)):
            raise BadRequest("tools: expected a list of objects")
        return Prompt(model, _messages(fields), tools or [], stream=read_stream(fields))

    def parse_answer(self, body: bytes) -> Answer:
        """Return what a JSON answer says, which is complete by being one; raises `BadAnswer`."""
        response = read_answer(body)
        if not (isinstance(response, dict) and (isinstance(response.get("output"), list) or response.get("error"))):
            raise BadAnswer("the answer is no object with output or an error")
        builder = AnswerBuilder(ItemKeys())
        builder.take_body(response)
        return replace(builder.answer(), complete=True)

    def amend(self, tree: Any) -> bool:  # noqa: ANN401, ARG002 - the port's signature
        """Leave every answer as it is: none leads around the gateway."""
        return False

    def stream(self) -> ResponsesStream:
        """Return what gathers a streamed answer."""
        return ResponsesStream()

    def refused_answer(self, body: bytes, text: str) -> bytes:
        """Return a completed response that says `text` alone, with the ids, time, model and usage of `body`."""
        return encoded(saying(text, kept(decoded(body), _KEPT)))

    def error_body(self, refusal: Refusal, decision_id: str) -> bytes:
        """Return the refusal as the error object of OpenAI's API."""
        return openai_error(refusal, decision_id)


class ResponsesStream:
    """Implement `AnswerStream` for responses; the names of channels are explained in `responses_texts`.

    Strings with which an item or a part begins are slots too, because clients join the deltas to them. Pieces have the
    channels `0.text`, `0.reasoning`, `0.tool.<position in Choice.tool_calls>` and `unparsed`.
    """

    __slots__ = ("_builder", "_keys", "_shown")

    def __init__(self) -> None:
        self._keys = ItemKeys()
        self._builder = AnswerBuilder(self._keys)
        self._shown = Shown(self._keys)

    def read(self, event: str, tree: dict[str, Any]) -> Reading:
        """Say what an event adds to channels."""
        kind = kind_of(event, tree)
        if kind.endswith(".delta"):
            return Reading(delta_slots(self._keys.of_event(tree), kind, tree))
        if kind in FINISHED or kind == "error":
            return Reading(closes=("",))
        if kind.startswith("response.output_item."):
            return self._read_item(kind, tree, tree.get("item"))
        return self._read_part(kind, tree)

    def take(self, event: str, tree: dict[str, Any]) -> list[Piece]:
        """Add what an event says and return its texts."""
        self._shown.take(kind_of(event, tree), tree)
        return self._builder.take(event, tree)

    def more(self, event: str, tree: dict[str, Any]) -> More | None:
        """Say which text an event goes on with; where it has the index of its item, the item's id may change."""
        where = self._builder.more(event, tree)
        if where is None:
            return None
        varying = ["obfuscation"]
        if type(tree.get("output_index")) is int:
            varying.append("item_id")
        if type(tree.get("sequence_number")) is int:
            varying.append("sequence_number")
        return More(where, tuple(varying))

    def take_more(
        self, where: tuple[str, str, Field], text: str, varied: Mapping[str, str | int]
    ) -> list[Piece] | None:
        """Add a text to that of a channel."""
        self._shown.number(varied.get("sequence_number"))
        return self._builder.take_more(*where, text)

    def take_unparsed(self, text: str) -> list[Piece]:
        """Keep `data` that is no JSON object."""
        return self._builder.take_unparsed(text)

    def done(self) -> None:
        """Ignore `[DONE]`, which is no part of this dialect: only its own terminal events end an answer."""

    @property
    def is_complete(self) -> bool:
        """Say whether what ends an answer was taken."""
        return self._builder.is_complete

    def answer(self) -> Answer:
        """Return all that has been said so far."""
        return self._builder.answer()

    def ending(self, text: str) -> bytes:
        """Return the events that end the answer with `text`: none after the terminal event or an error."""
        return self._shown.ending(text, self._builder.text_of)

    def _read_item(self, kind: str, tree: dict[str, Any], item: object) -> Reading:
        if not isinstance(item, dict):
            return Reading()
        key = self._keys.of_item(tree, item)
        if kind.endswith(".added"):
            return Reading(_slots(item_texts(key, item)))
        return Reading(closes=(f"{key}.",))

    def _read_part(self, kind: str, tree: dict[str, Any]) -> Reading:
        key, stem = self._keys.of_event(tree), stem_of(kind)
        prefix, is_part = part_prefix(key, tree, stem), stem in _PART_STEMS
        if kind.endswith(".added") and is_part:
            return Reading(_slots([part_text(prefix, tree.get("part"))]))
        if kind.endswith(".done"):
            return Reading(closes=(prefix if is_part else prefix + stem,))
        return Reading()


def _messages(fields: dict[str, Any]) -> list[Any]:
    instructions, asked = fields.get("instructions"), fields.get("input")
    if not isinstance(instructions, str | None):
        raise BadRequest("instructions: expected a string")
    if isinstance(asked, str) and asked:
        asked = [{"role": "user", "content": asked}]
    if not (asked and _is_objects(asked)):
        raise BadRequest("input: expected a non-empty string or a non-empty list of objects")
    context = [{name: fields[name]} for name in _CONTEXT if fields.get(name) is not None]
    system = [{"role": "system", "content": instructions}] if instructions else []
    return [*context, *system, *asked]


def _is_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)


def _slots(texts: Sequence[Text | None]) -> list[Slot]:
    return [text.slot for text in texts if text is not None and text.text]
