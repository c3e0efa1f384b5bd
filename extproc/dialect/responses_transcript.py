"""Keep the texts and tool calls of one responses answer, each once, however often the stream says them.

What comes first is kept, what repeats it is checked. Where it says something else, a client may go by either: a tool
call is then kept as another call, so that whoever decides on calls sees both, and any other text as unparsed.
"""

from __future__ import annotations

from typing import Final

import msgspec

from extproc.conversation import Piece, ToolCall
from extproc.dialect.json_api import as_text
from extproc.dialect.responses_texts import Field

# Bounds on what one answer may open: OpenAI's own bound on tools is 128, and agents' answers have some ten texts.
MAX_CALLS: Final = 1024
MAX_TEXTS: Final = 4096

_PIECES: Final = {Field.TEXT: "0.text", Field.REASONING: "0.reasoning"}


class _Call(msgspec.Struct, gc=False):
    """Gather one tool call: `fragments` of its text, or `carried`, all that an item of another form holds."""

    piece: str
    channel: str | None
    id: str
    name: str
    fragments: list[str]
    carried: str = ""

    def arguments(self) -> str:
        """Return what the tool is called with."""
        return "".join(self.fragments) or self.carried


class _Text(msgspec.Struct, gc=False):
    field: Field
    piece: str
    fragments: list[str]


class Transcript:
    """Gather texts by channel and tool calls by item; they are joined only when they are asked for."""

    __slots__ = ("_calls", "_calls_of", "_noted", "_pieces", "_texts", "unparsed")

    def __init__(self) -> None:
        self._texts: dict[str, _Text] = {}
        self._calls: list[_Call] = []
        self._calls_of: dict[str, list[_Call]] = {}
        self._noted: set[str] = set()
        self._pieces: list[Piece] = []
        self.unparsed: list[str] = []

    def add(self, key: str, channel: str, field: Field, text: str) -> None:
        """Add a fragment to the text of a channel of item `key`; where there are too many texts it is unparsed."""
        found = self._texts.get(channel) or self._open(key, channel, field)
        if found is None:
            self.keep(as_text({channel: text}))
        elif text:
            found.fragments.append(text)
            self._pieces.append(Piece(found.piece, text))

    def settle(self, key: str, channel: str, field: Field, text: str) -> None:
        """Take the whole text of a channel."""
        found = self._texts.get(channel) or self._open(key, channel, field)
        if found is not None and not found.fragments:
            self.add(key, channel, field, text)
        elif found is None or "".join(found.fragments) != text:
            self.note(as_text({channel: text}))

    def settle_call(self, key: str, channel: str, call_id: str, name: str, arguments: str | None) -> None:
        """Take what the call of item `key` is, with the whole text of its arguments if it is known already."""
        call = self._call(key, channel)
        if call is None:
            self.note(as_text({"id": call_id, "name": name, "arguments": arguments}))
            return
        call.id, call.name = call.id or call_id, call.name or name
        if arguments and not call.fragments:
            self.add(key, channel, Field.CALL, arguments)
        name = name or call.name
        text = "".join(call.fragments) if arguments is None else arguments
        if any((other.name, "".join(other.fragments)) == (name, text) for other in self._calls_of[key]):
            return
        other = self._open_call(key, channel)
        if other is None:
            self.note(as_text({"id": call_id, "name": name, "arguments": text}))
            return
        other.id, other.name = call_id or call.id, name
        other.fragments.append(text)
        self._pieces.append(Piece(other.piece, text))

    def carry(self, key: str, call_id: str, name: str, text: str) -> None:
        """Take what the call of item `key` carries instead of a text; the last one counts."""
        call = self._call(key, None)
        if call is not None:
            call.id, call.name = call.id or call_id, call.name or name
        if call is None or call.fragments:
            self.note(text)
        elif text and text != call.carried:
            self.note(call.carried)
            call.carried = text
            self._pieces.append(Piece(call.piece, text))

    def note(self, text: str) -> None:
        """Keep as unparsed what is no text of the answer, once, however often it is repeated."""
        if text and text not in self._noted:
            self._noted.add(text)
            self.keep(text)

    def keep(self, text: str) -> None:
        """Keep as unparsed what is not understood."""
        self.unparsed.append(text)
        self._pieces.append(Piece("unparsed", text))

    def drain(self) -> list[Piece]:
        """Return the pieces since the last time."""
        pieces, self._pieces = self._pieces, []
        return pieces

    def text_of(self, channel: str) -> str:
        """Return what was said so far on a channel."""
        found = self._texts.get(channel)
        return "" if found is None else "".join(found.fragments)

    def joined(self, field: Field) -> str:
        """Return all texts of a field, in the order in which they began."""
        return "".join(part for text in self._texts.values() if text.field is field for part in text.fragments)

    def calls(self) -> list[ToolCall]:
        """Return the tool calls, in the order in which they appeared."""
        return [ToolCall(call.id, call.name, call.arguments()) for call in self._calls]

    def _open(self, key: str, channel: str, field: Field) -> _Text | None:
        if len(self._texts) >= MAX_TEXTS:
            return None
        if field is not Field.CALL:
            return self._texts.setdefault(channel, _Text(field, _PIECES[field], []))
        call = self._call(key, channel)
        if call is None:
            return None
        self.note(call.carried)
        return self._texts.setdefault(channel, _Text(field, call.piece, call.fragments))

    def _call(self, key: str, channel: str | None) -> _Call | None:
        """Return the call of item `key` whose text is `channel`; an item has one, unless the stream is odd."""
        for call in self._calls_of.get(key, ()):
            if channel is None or call.channel in {None, channel}:
                call.channel = call.channel or channel
                return call
        return self._open_call(key, channel)

    def _open_call(self, key: str, channel: str | None) -> _Call | None:
        if len(self._calls) >= MAX_CALLS:
            return None
        call = _Call(f"0.tool.{len(self._calls)}", channel, "", "", [])
        self._calls.append(call)
        self._calls_of.setdefault(key, []).append(call)
        self._pieces.append(Piece(call.piece, ""))
        return call
