"""End a streamed responses answer from wherever it stands, so that its client takes it for a finished one.

Source: OpenAI API reference, "Responses streaming events". Every part and item that was opened is closed, because
clients refuse a completed response with unfinished items. What an open call was to be called with is taken out:
clients run what an item's `done` event says, whatever its status.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from extproc.dialect.responses_answer import FINISHED
from extproc.dialect.responses_texts import MAX_ITEMS, ItemKeys, is_call, part_prefix, stem_of
from extproc.dialect.sse import framed
from extproc.json_body import encoded

# For a client that was given nothing yet: the members that the API reference says every response has.
_RESPONSE: Final[dict[str, Any]] = {
    "id": "resp_gateway",
    "object": "response",
    "created_at": 0,
    "status": "in_progress",
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "metadata": {},
    "model": "",
    "output": [],
    "parallel_tool_calls": True,
    "temperature": None,
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "usage": None,
}
_TEXT: Final[dict[str, Any]] = {"type": "output_text", "annotations": [], "logprobs": []}

# By the stem of the events of a text: the type of its part, and the member of both that holds it.
_PARTS: Final = {
    "output_text": ("output_text", "text"),
    "refusal": ("refusal", "refusal"),
    "reasoning_text": ("reasoning_text", "text"),
    "reasoning_summary_text": ("summary_text", "text"),
}
_STEMS: Final = {part_type: stem for stem, (part_type, _) in _PARTS.items()}
_PLACE: Final = re.compile(r"\.(content|summary)\.(-?\d+)\.$")
_PART_EVENTS: Final = {"content": "content_part", "summary": "reasoning_summary_part"}


class _Part(msgspec.Struct, gc=False):
    """One part of a message or of a reasoning: `part` is what its last event of its own said."""

    stem: str
    channel: str
    label: str
    index: int
    part: dict[str, Any]
    is_done: bool = False


class _Item(msgspec.Struct, gc=False):
    """One output item: `item` is what its last event of its own said."""

    index: int
    item: dict[str, Any]
    is_done: bool = False
    parts: dict[str, _Part] = {}


class Shown:
    """Remember which items and parts a client was shown, opened and closed."""

    __slots__ = ("_has_ended", "_items", "_keys", "_next_index", "_response", "_sequence")

    def __init__(self, keys: ItemKeys) -> None:
        self._keys = keys
        self._items: dict[str, _Item] = {}
        self._response: dict[str, Any] | None = None
        self._next_index = 0
        self._sequence = -1
        self._has_ended = False

    def take(self, kind: str, tree: dict[str, Any]) -> None:
        """Note what an event opens or closes."""
        index = tree.get("output_index")
        self.number(tree.get("sequence_number"))
        if type(index) is int and self._next_index <= index < 2**31:
            self._next_index = index + 1
        if kind.startswith("response.output_item."):
            self._take_item(kind, tree, tree.get("item"))
        elif kind in FINISHED or kind == "error":
            self._has_ended = True
        elif isinstance(response := tree.get("response"), dict):
            self._response = self._response or response
        else:
            self._take_part(kind, tree, tree.get("part"))

    def number(self, number: object) -> None:
        """Note the number of an event."""
        if type(number) is int and self._sequence < number < 2**53:
            self._sequence = number

    def ending(self, text: str, text_of: Callable[[str], str]) -> bytes:
        """Return the events that end the answer with `text`; `text_of` says what was said on a channel."""
        if self._has_ended:
            return b""
        events = _Events(self._sequence)
        response = self._response
        if response is None:
            response = _RESPONSE
            events.add("created", response=response)
            events.add("in_progress", response=response)
        output = []
        for shown in sorted(self._items.values(), key=lambda shown: shown.index):
            item = shown.item if shown.is_done else _close(events, shown, text_of)
            if item.get("type") == "message":
                output.append(item)
        output.append(_say(events, self._next_index, text))
        events.add("completed", response=_completed(response, output))
        return b"".join(events.data)

    def _take_item(self, kind: str, tree: dict[str, Any], item: object) -> None:
        if not isinstance(item, dict):
            return
        key, index = self._keys.of_item(tree, item), tree.get("output_index")
        shown = self._items.get(key)
        if shown is not None:
            shown.item, shown.is_done = item, shown.is_done or kind.endswith(".done")
        elif len(self._items) < MAX_ITEMS:
            if type(index) is not int or not 0 <= index < 2**31:
                index, self._next_index = self._next_index, self._next_index + 1
            self._items[key] = _Item(index, item, kind.endswith(".done"))

    def _take_part(self, kind: str, tree: dict[str, Any], part: object) -> None:
        """Note a part, which a delta opens as well: some upstreams leave out the event that would."""
        key, stem = self._keys.of_event(tree), stem_of(kind)
        shown = self._items.get(key)
        if shown is None:
            return
        prefix = part_prefix(key, tree, stem)
        place = _PLACE.search(prefix)
        if place is None or len(shown.parts) >= MAX_ITEMS:
            return
        if isinstance(part, dict) and stem in _PART_EVENTS.values():
            stem = _STEMS.get(str(part.get("type")), "")
        elif stem in _PARTS and kind.endswith(".delta") and prefix not in shown.parts:
            part = {"type": _PARTS[stem][0]}
        else:
            return
        if stem:
            is_done = kind.endswith(".done")
            shown.parts[prefix] = _Part(stem, prefix + stem, place[1], int(place[2]), part, is_done)


def saying(text: str, response: dict[str, Any]) -> dict[str, Any]:
    """Return a whole response that says `text` alone; `response` are the members it has of its own."""
    return _completed(response, [_message(0, text)])


class _Events:
    """Write events, their numbers following the last that the client was given."""

    def __init__(self, sequence: int) -> None:
        self._sequence = sequence
        self.data: list[bytes] = []

    def add(self, name: str, **members: Any) -> None:  # noqa: ANN401 - JSON
        """Write the event `response.<name>`."""
        self._sequence += 1
        kind = f"response.{name}"
        data = encoded({"type": kind, "sequence_number": self._sequence, **members})
        self.data.append(framed(data, kind))


def _close(events: _Events, shown: _Item, text_of: Callable[[str], str]) -> dict[str, Any]:
    """Close an item and its parts; return what it is now."""
    item_type = str(shown.item.get("type"))
    place = {"output_index": shown.index, "item_id": shown.item.get("id")}
    if is_call(item_type):
        item = _emptied(shown.item)
    else:
        item = dict(shown.item)
        parts: dict[str, list[dict[str, Any]]] = {"content": [], "summary": []}
        for part in shown.parts.values():
            parts[part.label].append(part.part if part.is_done else _close_part(events, place, part, text_of))
        item.update({label: said for label, said in parts.items() if said})
        if item_type == "message":
            item["status"] = "completed"
    events.add("output_item.done", output_index=shown.index, item=item)
    return item


def _close_part(events: _Events, place: dict[str, Any], part: _Part, text_of: Callable[[str], str]) -> dict[str, Any]:
    place = {**place, f"{part.label}_index": part.index}
    name = _PARTS[part.stem][1]
    text = text_of(part.channel)
    logprobs: dict[str, list[Any]] = {"logprobs": []} if part.stem == "output_text" else {}
    whole = {**part.part, name: text}
    events.add(f"{part.stem}.done", **place, **{name: text}, **logprobs)
    events.add(f"{_PART_EVENTS[part.label]}.done", **place, part=whole)
    return whole


def _emptied(item: dict[str, Any]) -> dict[str, Any]:
    """Return a call with nothing in it that could be run: no text, and arguments that are not JSON."""
    kept = {"id", "type", "call_id", "name", "namespace", "server_label"}
    empty = {name: value if name in kept else _empty(value) for name, value in item.items()}
    if isinstance(empty.get("arguments"), str):
        # Of an empty text some clients make an empty object, and call a tool that needs no arguments.
        empty["arguments"] = "{"
    return {**empty, "status": "incomplete"}


def _empty(value: object) -> object:
    if isinstance(value, dict):
        return {name: said if name == "type" else _blank(said) for name, said in value.items()}
    return _blank(value)


def _blank(value: object) -> object:
    return type(value)() if isinstance(value, str | list | dict) else value


def _completed(response: dict[str, Any], output: list[dict[str, Any]]) -> dict[str, Any]:
    end = {"status": "completed", "error": None, "incomplete_details": None, "output": output}
    return {**_RESPONSE, **response, **end}


def _message(index: int, text: str) -> dict[str, Any]:
    """Return the item at `index` of the output, a message of its own that says `text`."""
    message = {"id": f"msg_gateway_{index}", "type": "message", "role": "assistant", "status": "completed"}
    return {**message, "content": [{**_TEXT, "text": text}]}


def _say(events: _Events, index: int, text: str) -> dict[str, Any]:
    """Write a message of its own that says `text`; return it."""
    whole = _message(index, text)
    begun = {**whole, "status": "in_progress", "content": []}
    place = {"output_index": index, "item_id": whole["id"], "content_index": 0}
    events.add("output_item.added", output_index=index, item=begun)
    events.add("content_part.added", **place, part={**_TEXT, "text": ""})
    events.add("output_text.delta", **place, delta=text, logprobs=[])
    events.add("output_text.done", **place, text=text, logprobs=[])
    events.add("content_part.done", **place, part={**_TEXT, "text": text})
    events.add("output_item.done", output_index=index, item=whole)
    return whole
