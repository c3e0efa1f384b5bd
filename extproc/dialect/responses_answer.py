"""Gather what a responses answer says, from the response object or from the events of its stream.

Source: OpenAI API reference, "Responses" and "Responses streaming events". The stream says everything up to four times:
in deltas, in the `done` event of the text, in that of its item, and in the finished response.
"""

from __future__ import annotations

from collections.abc import Container
from collections.abc import Set as AbstractSet
from typing import Any, Final

from extproc.conversation import Answer, Choice, Piece, Usage
from extproc.dialect.json_api import as_text
from extproc.dialect.responses_texts import (
    MAX_ITEMS,
    Field,
    ItemKeys,
    Text,
    call_text,
    call_type_of,
    delta_slots,
    field_of,
    is_call,
    item_parts,
    item_type_of,
    kind_of,
    part_prefix,
    part_text,
    stem_of,
    word,
)
from extproc.dialect.responses_transcript import Transcript

FINISHED: Final = {"response.completed": "completed", "response.incomplete": "incomplete", "response.failed": "failed"}
_STARTED: Final = frozenset({"response.created", "response.in_progress", "response.queued"})
_PARTS: Final = frozenset({"content_part", "reasoning_summary_part"})
_ERROR: Final = frozenset({"error", "message", "code", "param"})
_WHOLE_TEXTS: Final = ("text", "refusal", "arguments", "input", "code", "transcript")

# Members that place or label what is said, or that nobody can read; `logprobs` spells a text that is said as well.
_LABELS: Final = frozenset(
    (
        *("type", "id", "item_id", "call_id", "status", "role", "object", "name", "phase", "sequence_number"),
        *("output_index", "content_index", "summary_index", "command_index"),
        *("obfuscation", "encrypted_content", "container_id", "logprobs"),
    )
)
# What is read of the events.
_DELTA: Final = _LABELS | {"delta", "error"}
_ITEM: Final = _LABELS | {"item", "error"}
_PART: Final = _LABELS | {"part", "error"}
_RESPONSE: Final = _LABELS | {"response", "error"}
# Items whose call is named by what it calls; all others are named by their type.
_NAMED: Final = frozenset({"function_call", "custom_tool_call", "mcp_call", "mcp_approval_request"})


class AnswerBuilder:
    """Gather one answer; it has one choice."""

    __slots__ = ("_errors", "_finish", "_items", "_key_of_call", "_keys", "_model", "_transcript", "_usage")

    def __init__(self, keys: ItemKeys) -> None:
        self._keys = keys
        self._transcript = Transcript()
        self._items: dict[str, str] = {}
        self._key_of_call: dict[str, str] = {}
        self._errors: list[str] = []
        self._model: str | None = None
        self._usage: Usage | None = None
        self._finish: str | None = None

    def take(self, event: str, tree: dict[str, Any]) -> list[Piece]:
        """Add what an event says and return its texts; one that nobody understands is kept as unparsed."""
        kind = kind_of(event, tree)
        failed = self._take_error(tree if kind == "error" and "error" not in tree else tree.get("error"))
        if kind.endswith(".delta"):
            understood = self._take_delta(kind, tree)
        elif kind in _STARTED or kind in FINISHED:
            understood = self._take_response(kind, tree.get("response"))
            self._note_rest(tree, _RESPONSE)
        elif kind in {"response.output_item.added", "response.output_item.done"}:
            understood = self._take_item_event(kind, tree)
        else:
            understood = self._take_part_event(kind, tree) or (failed and not _rest(tree, _ERROR))
        if not understood:
            self._transcript.keep(_recorded(tree))
        return self._transcript.drain()

    def more(self, event: str, tree: dict[str, Any]) -> tuple[str, str, Field] | None:
        """Return the item, channel and field of a delta that is nothing but a text."""
        kind = kind_of(event, tree)
        field, key = field_of(stem_of(kind)), self._keys.of_event(tree)
        slots = delta_slots(key, kind, tree) if kind.endswith(".delta") else []
        if field is None or tree.get("error") is not None or not tree.keys() <= _DELTA or len(slots) != 1:
            return None
        return (key, slots[0].channel, field) if slots[0].holder is tree else None

    def take_more(self, key: str, channel: str, field: Field, text: str) -> list[Piece]:
        """Add the text of a delta."""
        self._transcript.add(key, channel, field, text)
        return self._transcript.drain()

    def take_unparsed(self, text: str) -> list[Piece]:
        """Keep what is not understood."""
        self._transcript.keep(text)
        return self._transcript.drain()

    def take_body(self, response: dict[str, Any]) -> None:
        """Add what a response object says that was not streamed."""
        status = response.get("status")
        self._take_response(f"response.{status}", response)
        if self._finish is None and isinstance(status, str):
            self._finish = status

    def text_of(self, channel: str) -> str:
        """Return what was said so far on a channel."""
        return self._transcript.text_of(channel)

    @property
    def is_complete(self) -> bool:
        """Say whether the response is completed, incomplete or failed."""
        return self._finish is not None

    def answer(self) -> Answer:
        """Return what has been said so far."""
        said = self._transcript
        choice = Choice(0, said.joined(Field.TEXT), said.joined(Field.REASONING), said.calls(), self._finish)
        choices = [choice] if self._items or self._finish else []
        errors = "\n".join(dict.fromkeys(self._errors)) or None
        return Answer(self._model, choices, self._usage, self.is_complete, errors, list(said.unparsed) or None)

    def _take_delta(self, kind: str, tree: dict[str, Any]) -> bool:
        # Once for nearly every event of a stream.
        stem, key = stem_of(kind), self._keys.of_event(tree)
        field, slots = field_of(stem), delta_slots(key, kind, tree)
        if field is None or not slots:
            self._announce(key, stem)
            return False
        self._see(key, item_type_of(stem))
        for slot in slots:
            self._transcript.add(key, slot.channel, field, slot.holder[slot.key])
        if slots[0].holder is not tree:
            self._transcript.note(_rest(slots[0].holder, {slot.key for slot in slots}))
        self._note_rest(tree, _DELTA)
        return True

    def _take_response(self, kind: str, response: object) -> bool:
        if not isinstance(response, dict):
            return False
        model = response.get("model")
        if self._model is None and isinstance(model, str) and model:
            self._model = model
        self._usage = _usage(response.get("usage")) or self._usage
        self._take_error(response.get("error"))
        if kind in FINISHED:
            self._finish = self._finish or _finish_reason(FINISHED[kind], response)
        self._take_output(response.get("output"))
        return True

    def _take_output(self, output: object) -> None:
        """Take the items of a finished response, each of which repeats one that was streamed, or is new."""
        waiting = dict(self._items)
        for position, item in enumerate(output if isinstance(output, list) else ()):
            if not isinstance(item, dict):
                self._transcript.note(as_text(item))
                continue
            key = self._key_of_call.get(_string(item.get("call_id"))) or self._keys.known(item.get("id"))
            if key not in waiting:
                alike = (key for key, item_type in waiting.items() if item_type == item.get("type"))
                key = next(alike, f"final.{position}")
            waiting.pop(key, None)
            self._take_item(key, item, is_whole=True)

    def _take_item_event(self, kind: str, tree: dict[str, Any]) -> bool:
        item = tree.get("item")
        if not isinstance(item, dict):
            return False
        self._take_item(self._keys.of_item(tree, item), item, is_whole=kind.endswith(".done"))
        self._note_rest(tree, _ITEM)
        return True

    def _take_item(self, key: str, item: dict[str, Any], *, is_whole: bool) -> None:
        item_type = word(item.get("type")) or "-"
        self._see(key, item_type)
        read: set[str | int] = {label for label in ("summary", "content") if isinstance(item.get(label), list)}
        for label, index, part in item_parts(item):
            self._take_part(key, part_text(f"{key}.{label}.{index}.", part), part, is_whole=is_whole)
        call = call_text(key, item)
        if call is not None:
            read.add(call.slot.key)
        rest = _rest(item, read)
        if is_call(item_type):
            self._take_call(key, item, call, rest, is_whole=is_whole)
        else:
            self._transcript.note(rest)

    def _take_call(self, key: str, item: dict[str, Any], text: Text | None, rest: str, *, is_whole: bool) -> None:
        item_type, call_id = str(item.get("type")), _string(item.get("call_id")) or _string(item.get("id"))
        name = _string(item.get("name")) or ("" if item_type in _NAMED else item_type)
        if call_id and len(self._key_of_call) < MAX_ITEMS:
            self._key_of_call.setdefault(call_id, key)
        if text is None:
            self._transcript.carry(key, call_id, name, rest)
            return
        arguments = text.text
        if not is_whole:
            self._transcript.add(key, text.slot.channel, text.field, arguments)
        self._transcript.settle_call(key, text.slot.channel, call_id, name, arguments if is_whole else None)
        self._transcript.note(rest)

    def _take_part_event(self, kind: str, tree: dict[str, Any]) -> bool:
        """Take an event that opens or repeats a part or a text; those with nothing to say are understood as well."""
        key, stem = self._keys.of_event(tree), stem_of(kind)
        is_whole, field = kind.endswith(".done"), field_of(stem)
        if stem in _PARTS and "part" in tree:
            part = tree["part"]
            text = part_text(part_prefix(key, tree, stem), part)
            self._take_part(key, text, part, is_whole=is_whole)
            self._note_rest(tree, _PART)
            return True
        name = next((name for name in _WHOLE_TEXTS if isinstance(tree.get(name), str)), None)
        if not is_whole or field is None or name is None:
            self._announce(key, stem)
            return not _rest(tree, ())
        self._see(key, item_type_of(stem))
        channel = part_prefix(key, tree, stem) + stem
        if field is Field.CALL:
            self._transcript.settle_call(key, channel, "", _string(tree.get("name")), tree[name])
        else:
            self._transcript.settle(key, channel, field, tree[name])
        self._note_rest(tree, _LABELS | {name, "error"})
        return True

    def _announce(self, key: str, stem: str) -> None:
        """Open the call that an event tells of, where no item has: this may be the first that a client shows of it."""
        call_type = call_type_of(stem)
        if call_type is not None:
            self._see(key, call_type)
            self._transcript.carry(key, "", "" if call_type in _NAMED else call_type, "")

    def _take_part(self, key: str, text: Text | None, part: object, *, is_whole: bool) -> None:
        if text is None:
            self._transcript.note(_rest(part, ()) if isinstance(part, dict) else as_text(part))
            return
        self._see(key, "reasoning" if text.field is Field.REASONING else "message")
        take = self._transcript.settle if is_whole else self._transcript.add
        take(key, text.slot.channel, text.field, text.text)
        self._transcript.note(_rest(text.slot.holder, {text.slot.key}))

    def _take_error(self, error: object) -> bool:
        if error is None:
            return False
        message = error.get("message") if isinstance(error, dict) else error
        self._errors.append(message if isinstance(message, str) else as_text(error))
        return True

    def _note_rest(self, tree: dict[str, Any], read: AbstractSet[str]) -> None:
        # Nearly no event has a member that nobody reads.
        if not tree.keys() <= read:
            self._transcript.note(_rest(tree, read))

    def _see(self, key: str, item_type: str) -> None:
        if len(self._items) < MAX_ITEMS:
            self._items.setdefault(key, item_type)


def _rest(value: dict[str, Any], read: Container[object]) -> str:
    """Return as JSON the members that say something and were not read, or an empty text where there are none."""
    rest = {name: said for name, said in value.items() if said and name not in _LABELS and name not in read}
    return _recorded({"type": value.get("type"), **rest}) if rest else ""


def _recorded(value: dict[str, Any]) -> str:
    """Return an object as JSON for the record, which keeps of an image only how long it was."""
    is_image = value.get("type") == "image_generation_call"
    return as_text(
        {
            name: f"[{len(said)} characters]"
            if isinstance(said, str) and (name == "partial_image_b64" or (is_image and name == "result"))
            else said
            for name, said in value.items()
        }
    )


def _finish_reason(status: str, response: dict[str, Any]) -> str:
    details = response.get("incomplete_details")
    reason = _string(details.get("reason")) if isinstance(details, dict) else ""
    return f"{status}:{reason}" if reason and status == "incomplete" else status


def _usage(usage: object) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    tokens = [usage.get(name) for name in ("input_tokens", "output_tokens")]
    counts = [count if type(count) is int and 0 <= count < 2**31 else 0 for count in tokens]
    return Usage(*counts) if any(type(count) is int for count in tokens) else None


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""
