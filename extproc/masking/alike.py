"""Know the next event by the last one: nearly all events of a stream are alike but for the text that they add. Pure.

Where an event has the bytes of the last one, but for the inside of the one string that continues a text, it is the same
JSON with another text there: all that was found out about the last one holds for it too, and need not be found out
anew. Members that change from event to event and mean nothing may differ as well, where the dialect says which.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from extproc import json_body
from extproc.dialect.port import More, Slot
from extproc.dialect.sse import SseEvent

# What may stand inside a string of JSON (RFC 8259 section 7); escapes by number are left to the usual way.
_TEXT: Final = re.compile(rb'[^"\\\x00-\x1f]*+(?:\\["\\/bfnrt][^"\\\x00-\x1f]*+)*+')
# All of a string or of a number, without its quotes.
_WORD: Final = re.compile(rb"[A-Za-z0-9+/=_-]*+")
_NUMBER: Final = re.compile(rb"(?:0|[1-9][0-9]{0,14}+)?+")
_COLON: Final = re.compile(rb'\s*+:\s*+"?')


class Said(msgspec.Struct, gc=False):
    """An event that is like another: its bytes, its text, and its own values of the members that vary.

    Or several in a row, where no members vary.
    """

    raw: bytes
    text: str
    varied: dict[str, str | int]


_NOTHING: Final[dict[str, str | int]] = {}
_FIRST_LOOK: Final = 8
_MOST_BYTES: Final = 16_384
"""How far ahead events that come together are looked for: at first as far as so many would go, twice as far after each
look that found only such, and never farther than so many bytes. So a look in vain stays cheap."""


class Alike:
    """Recognise the events that are like one that was read, and write them anew where their text was masked."""

    __slots__ = ("_ahead", "_event", "_holds_ours", "_parts", "_path", "_tail", "_tree", "channel", "more")

    def __init__(
        self, event: SseEvent, tree: dict[str, Any], slot: Slot, more: More, holds_ours: Callable[[str], bool]
    ) -> None:
        """Take an event, its only slot, and what finds the gateway's credentials.

        Raises ValueError where it cannot be told from its bytes where the text is.
        """
        self._event, self._tree, self._holds_ours = event, tree, holds_ours
        self._path = (*_path(tree, slot.holder), slot.key)
        self.channel, self.more = slot.channel, more
        raw = event.raw
        if b"\\" in raw or b"\r" in raw or not raw.endswith(b"\n\n") or raw.count(event.data or b"") != 1:
            raise ValueError("an event whose strings are not as they are written, or with other line ends")
        holes = [(*_inside(raw, slot.holder[slot.key]), "", _TEXT)]
        holes += [(*_value(raw, tree, name), name, _kind(tree[name])) for name in more.varying if name in tree]
        self._parts: list[tuple[bytes, str, re.Pattern[bytes]]] = []
        at = 0
        for start, end, name, kind in sorted(holes):
            self._parts.append((raw[at:start], name, kind))
            at = end
        self._tail = raw[at:]
        self._ahead = min(_FIRST_LOOK * len(raw), _MOST_BYTES)

    def together(self, data: bytes, at: int) -> Said | None:
        """Return the events like this one with which `data` goes on from `at` as one, if there are several.

        What `run` returns of the same bytes are these events, one by one; here they cost hardly more than one.
        """
        before, *others = self._parts
        if others or len(data) - at < 2 * (len(before[0]) + len(self._tail)) or not data.startswith(before[0], at):
            return None
        texts = data[at + len(before[0]) : at + self._ahead].split(self._tail + before[0])
        last, tail, _ = texts.pop().partition(self._tail)
        if tail:
            texts.append(last)
        # What is inside of strings goes on being so with spaces between; and no character or escape is cut by one.
        spaced = b" ".join(texts)
        if len(texts) < 2 or b"" in texts or _TEXT.fullmatch(spaced) is None or _decoded(spaced) is None:
            return None
        inside = b"".join(texts)
        text = _decoded(inside)
        size = len(inside) + len(texts) * (len(before[0]) + len(self._tail))
        if not tail or size + len(self._event.raw) > self._ahead:
            self._ahead = min(2 * self._ahead, _MOST_BYTES)
        return None if text is None else Said(data[at : at + size], text, _NOTHING)

    def run(self, data: bytes, at: int) -> tuple[list[Said], int]:
        """Return the events like this one with which `data` goes on from `at`, and where they end."""
        said = []
        while (one := self._next(data, at)) is not None:
            said.append(one)
            at += len(one.raw)
        return said, at

    def _next(self, data: bytes, begin: int) -> Said | None:
        at, inside, varied = begin, b"", _NOTHING
        for before, name, kind in self._parts:
            if not data.startswith(before, at):
                return None
            found = kind.match(data, at + len(before))
            if found is None or not (said := found[0]):
                return None
            at = found.end()
            if kind is _TEXT:
                inside = said
            elif kind is _NUMBER:
                varied = {**varied, name: int(said)}
            else:
                word = said.decode()
                if word != self._tree[name] and self._holds_ours(word):
                    return None
                varied = {**varied, name: word}
        if not data.startswith(self._tail, at):
            return None
        text = _decoded(inside)
        return None if text is None else Said(data[begin : at + len(self._tail)], text, varied)

    def written(self, said: Said, text: str) -> tuple[SseEvent, bytes]:
        """Return an event like this one, and its data written anew with `text` in the place of its own."""
        event, tree = self.event(said, text)
        return event, json_body.encoded(tree)

    def event(self, said: Said, text: str) -> tuple[SseEvent, Any]:
        """Return an event like this one and its JSON, in which `text` takes the place of its own."""
        data = self._event.data or b""
        start = self._event.raw.rindex(data)
        data = said.raw[start : len(said.raw) - (len(self._event.raw) - start - len(data))]
        tree: Any = json_body.decoded(data)
        holder = tree
        *path, key = self._path
        for step in path:
            holder = holder[step]
        holder[key] = text
        return SseEvent(said.raw, self._event.event, data), tree


def _path(tree: Any, holder: Any) -> tuple[str | int, ...]:  # noqa: ANN401 - decoded JSON
    """Return the keys that lead to an object in `tree`."""
    todo: list[tuple[Any, tuple[str | int, ...]]] = [(tree, ())]
    for value, path in todo:
        if value is holder:
            return path
        if type(value) is dict or type(value) is list:
            members = value.items() if type(value) is dict else enumerate(value)
            todo += [(inner, (*path, key)) for key, inner in members]
    raise ValueError("a text that is in no object of the event")


def _decoded(inside: bytes) -> str | None:
    """Return what the inside of a string of JSON says, or None where that is not UTF-8."""
    try:
        return msgspec.json.decode(b'"%b"' % inside, type=str) if b"\\" in inside else inside.decode()
    except ValueError:
        return None


def _inside(raw: bytes, text: str) -> tuple[int, int]:
    """Return where the inside of a string stands, of which there is only one."""
    quoted = b'"%b"' % text.encode("utf-8", "surrogatepass")
    at = raw.find(quoted)
    if at < 0 or raw.find(quoted, at + 1) >= 0:
        raise ValueError("a text that stands in an event more than once")
    return at + 1, at + len(quoted) - 1


def _value(raw: bytes, tree: dict[str, Any], name: str) -> tuple[int, int]:
    """Return where the value of a member of `tree` stands."""
    colon = _COLON.match(raw, _inside(raw, name)[1] + 1)
    value = _kind(tree[name]).match(raw, len(raw) if colon is None else colon.end())
    if value is None or value[0] != str(tree[name]).encode():
        raise ValueError("a member whose value is neither a word nor a natural number")
    return value.span()


def _kind(value: object) -> re.Pattern[bytes]:
    return _NUMBER if type(value) is int else _WORD
