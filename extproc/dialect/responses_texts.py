"""Say where the texts of a responses stream lie, and name the channel each belongs to.

Source: OpenAI API reference, "Responses" and "Responses streaming events". A channel is the path of the text in the
finished response: `<item>.content.<n>.output_text`, `<item>.summary.<n>.reasoning_summary_text`,
`<item>.function_call_arguments`. Both `read` and `take` find texts here, so that what is masked is what is recorded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum, auto
from functools import lru_cache
from typing import Any, Final

import msgspec

from extproc.dialect.port import Form, Slot

# What one answer may open; OpenAI's own bound on tools is 128, and agents' answers have some ten items.
MAX_ITEMS: Final = 1024

# Names out of a stream become part of a channel's name, which the record shows: only names that are a word may.
_WORD: Final = re.compile(r"[a-z][a-z0-9_.]{0,63}")
_CALL_STEM: Final = re.compile(r"(\w+_call|mcp_approval_request)_(?:arguments|input|code)")
_CALL_EVENT: Final = re.compile(r"(\w+?_call|mcp_approval_request)(?!_output)(?:_\w+)?")
_TEXT_STEMS: Final = frozenset({"output_text", "refusal", "text", "audio.transcript", "output_audio_transcript"})
# Pieces of sound are decoded one by one: a text held back and joined to the next would break them.
_BINARY_STEMS: Final = frozenset({"audio", "output_audio"})
_PART_STEMS: Final = {"summary_text": "reasoning_summary_text"}

_INDEXES: Final = (("content_index", "content"), ("summary_index", "summary"), ("command_index", "command"))
# Where the index is left out there is but one part.
_ONLY_PART: Final = {
    "output_text": "content.0.",
    "refusal": "content.0.",
    "content_part": "content.0.",
    "reasoning_text": "content.0.",
    "reasoning_summary_text": "summary.0.",
    "reasoning_summary_part": "summary.0.",
}


class Field(Enum):
    """Where in a choice a text belongs."""

    TEXT = auto()
    REASONING = auto()
    CALL = auto()


class Text(msgspec.Struct, gc=False):
    """One string of an event that is (a part of) a text of the answer."""

    field: Field
    slot: Slot

    @property
    def text(self) -> str:
        """Return what the string says now."""
        return str(self.slot.holder[self.slot.key])


class ItemKeys:
    """Name the output items of one stream, from their index or else their id.

    The index decides: Copilot is known to change the ids of an item from event to event. Names are never taken back,
    so that the same event has the same name whenever it is asked about.
    """

    __slots__ = ("_by_id",)

    def __init__(self) -> None:
        self._by_id: dict[str, str] = {}

    def of_event(self, tree: dict[str, Any]) -> str:
        """Name the item that an event is about."""
        return _index(tree.get("output_index")) or self.of_id(tree.get("item_id"))

    def of_item(self, tree: dict[str, Any], item: dict[str, Any]) -> str:
        """Name the item that an event carries."""
        key, item_id = _index(tree.get("output_index")), item.get("id")
        if key is None:
            return self.of_id(item_id)
        if isinstance(item_id, str) and len(self._by_id) < MAX_ITEMS:
            self._by_id.setdefault(item_id, key)
        return key

    def of_id(self, item_id: object) -> str:
        """Name an item by its id alone; all those beyond the bound share one name."""
        if not isinstance(item_id, str):
            return "-"
        if item_id not in self._by_id and len(self._by_id) >= MAX_ITEMS:
            return "-"
        return self._by_id.setdefault(item_id, f"item{len(self._by_id)}")

    def known(self, item_id: object) -> str | None:
        """Return the name of an item whose id was seen."""
        return self._by_id.get(item_id) if isinstance(item_id, str) else None


def kind_of(event: str, tree: dict[str, Any]) -> str:
    """Return the type of an event; clients read it from the data, and a few upstreams only name it outside."""
    kind = tree.get("type")
    return kind if type(kind) is str else event


@lru_cache(maxsize=256)
def stem_of(kind: str) -> str:
    """Return what an event is about: `output_text` of `response.output_text.delta`."""
    return word(kind.removeprefix("response.").rpartition(".")[0]) or "-"


def word(name: object) -> str | None:
    """Return a name that may be a part of a channel's name, else None."""
    return name if isinstance(name, str) and _WORD.fullmatch(name) else None


@lru_cache(maxsize=256)
def field_of(stem: str) -> Field | None:
    """Say where texts of this kind belong, or None for those nobody knows."""
    if stem in _TEXT_STEMS:
        return Field.TEXT
    if stem.startswith("reasoning"):
        return Field.REASONING
    return Field.CALL if _CALL_STEM.fullmatch(stem) else None


@lru_cache(maxsize=256)
def call_type_of(stem: str) -> str | None:
    """Return the type of the call that events of this kind tell of, though they may say nothing themselves."""
    told = _CALL_EVENT.fullmatch(stem)
    return told and told[1]


@lru_cache(maxsize=256)
def item_type_of(stem: str) -> str:
    """Return the type of the item that has texts of this kind."""
    call = _CALL_STEM.fullmatch(stem)
    if call is not None:
        return call[1]
    return "reasoning" if stem.startswith("reasoning") else "message"


def is_call(item_type: str) -> bool:
    """Say whether items of this type are calls of a tool, or ask for one."""
    return item_type.endswith("_call") or item_type == "mcp_approval_request"


def part_prefix(key: str, tree: dict[str, Any], stem: str = "") -> str:
    """Return the path of the part that an event is about, ending in a dot."""
    for name, label in _INDEXES:
        value = tree.get(name)
        if value is not None:
            return f"{key}.{label}.{_index(value) or '-'}."
    return f"{key}.{_ONLY_PART.get(stem, '')}"


def delta_slots(key: str, kind: str, tree: dict[str, Any]) -> list[Slot]:
    """Return the strings of a delta event, of any kind, known or not."""
    stem, delta = stem_of(kind), tree.get("delta")
    if stem in _BINARY_STEMS:
        return []
    channel = part_prefix(key, tree, stem) + stem
    form = Form.JSON if "arguments" in stem else Form.PLAIN
    if type(delta) is str:
        return [Slot(tree, "delta", channel, form)]
    if type(delta) is dict:
        return [Slot(delta, name, f"{channel}.{word(name) or '-'}", form) for name in delta if type(delta[name]) is str]
    return []


def part_text(prefix: str, part: object) -> Text | None:
    """Return the text of a content or summary part, if it has one."""
    if not isinstance(part, dict):
        return None
    name = "refusal" if isinstance(part.get("refusal"), str) else "text"
    if not isinstance(part.get(name), str):
        return None
    part_type = word(part.get("type")) or "text"
    stem = "refusal" if name == "refusal" else _PART_STEMS.get(part_type, part_type)
    field = Field.REASONING if field_of(stem) is Field.REASONING else Field.TEXT
    return Text(field, Slot(part, name, prefix + stem))


def call_text(key: str, item: dict[str, Any]) -> Text | None:
    """Return what a tool is called with, where the item has it as a text."""
    item_type = word(item.get("type"))
    if item_type is None or not is_call(item_type):
        return None
    for name in ("arguments", "input", "code"):
        if isinstance(item.get(name), str):
            form = Form.JSON if name == "arguments" else Form.PLAIN
            return Text(Field.CALL, Slot(item, name, f"{key}.{item_type}_{name}", form))
    return None


def item_texts(key: str, item: dict[str, Any]) -> list[Text]:
    """Return the texts with which an output item begins, in its order."""
    texts = [part_text(f"{key}.{label}.{index}.", part) for label, index, part in item_parts(item)]
    return [text for text in (*texts, call_text(key, item)) if text is not None]


def item_parts(item: dict[str, Any]) -> Iterator[tuple[str, int, Any]]:
    """Yield the parts of an output item: `content` or `summary`, the position in it, the part."""
    for label in ("summary", "content"):
        parts = item.get(label)
        for index, part in enumerate(parts if isinstance(parts, list) else ()):
            yield label, index, part


def _index(value: object) -> str | None:
    """Return an index as it names a part: JavaScript takes 1, 1.0 and "1" for the same, so do we."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    # Python refuses to write out endless numbers.
    return str(value) if type(value) is int and abs(value) < 2**63 else None
