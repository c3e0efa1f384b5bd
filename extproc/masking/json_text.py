r"""Mask a text that is JSON itself, such as the arguments of a tool: what its strings say is looked at, decoded.

A secret's line feed is `\n` there, its quote `\"`, and any letter may be `\u0041`. What needs no change keeps its own
spelling, escapes included; a placeholder never takes a quote of the JSON with it, so that valid JSON stays valid. Text
that turns out to be no JSON is masked as it stands. Source of the escapes: RFC 8259 section 7. Pure.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Final

import msgspec

from extproc.masking.channel import Channel, Found, Op, Rules

# In a string: plain characters, an escape (a surrogate pair is one), the quote that ends it, or what is cut or wrong.
_IN_STRING: Final = re.compile(
    r'[^"\\]+|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\[^u]|"|\\', re.DOTALL
)
_OUTSIDE: Final = re.compile(r'[^"]+|"')
# What may go on as an escape, or as the second half of a surrogate pair.
_CUT: Final = re.compile(
    r"\\(?:u[0-9a-fA-F]{0,3})?\Z|\\u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?)?\Z"
)
# What is outside of the strings of valid JSON.
_NO_TEXT: Final = re.compile(r"(?:true|false|null|[\s\[\]{},:0-9+.eE-])+")
_DIGIT: Final = re.compile(r"[0-9]")
_SIMPLE: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class _Piece(msgspec.Struct, gc=False):
    """Raw text that reads as `count` characters: as many as it has, or one where it is an escape."""

    raw: str
    count: int
    in_string: bool


_STRING: Final = re.compile(r'"((?:[^"\\]++|\\[^u]|\\)*+)"?', re.DOTALL)
_VALID: Final = msgspec.json.Decoder(msgspec.Raw)
_ESCAPE: Final = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\[^u]", re.DOTALL
)


def read(text: str) -> str:
    """Return what a whole JSON text reads as to `JsonChannel`: the same with the escapes in its strings undone."""
    if "\\" not in text:
        return text
    usual = _read_usual(text)
    return _STRING.sub(_unescaped_string, text) if usual is None else usual


def _read_usual(text: str) -> str | None:
    """Return the same of valid JSON, where a backslash is always in a string, with the usual escapes; else None."""
    try:
        _VALID.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    # Read from the left, two backslashes in a row are always one that is escaped.
    parts = [part.replace("\\n", "\n").replace('\\"', '"').replace("\\t", "\t") for part in text.split("\\\\")]
    return None if any("\\" in part for part in parts) else "\\".join(parts)


def _unescaped_string(string: re.Match[str]) -> str:
    written = string[0]
    return _ESCAPE.sub(_unescaped_match, written) if "\\" in written else written


def _unescaped_match(escape: re.Match[str]) -> str:
    return _COMMON.get(escape[0]) or _unescaped(escape[0])


_COMMON: Final = {"\\n": "\n", '\\"': '"', "\\\\": "\\", "\\t": "\t"}
"""What is escaped most often, and read faster so."""


class JsonChannel:
    """Mask one JSON text as `Channel` does a plain one; `Op.count` counts characters of the JSON text."""

    __slots__ = ("_channel", "_in_string", "_pieces", "_rest")

    def __init__(self, rules: Rules, context: str = "") -> None:
        self._channel = Channel(rules, context)
        self._in_string = False
        self._rest = ""
        self._pieces: deque[_Piece] = deque()

    @property
    def found(self) -> list[Found]:
        """Return everything found so far; offsets count in the decoded text."""
        return self._channel.found

    @property
    def waiting(self) -> int:
        """Return how many characters are not decided."""
        return len(self._rest) + sum(len(piece.raw) for piece in self._pieces)

    def feed(self, text: str) -> list[Op]:
        """Add `text` and return what is decided now, beginning where the last call left off."""
        return self._spelled(self._read(self._rest + text, final=False))

    def settle(self) -> list[Op]:
        """Let the last word leave that looks like one, as `Channel.settle` does."""
        return [] if self._rest else self._spelled(self._channel.settle())

    def finish(self) -> list[Op]:
        """End the text and return what becomes of the rest."""
        ops = self._read(self._rest, final=True) if self._rest else []
        return self._spelled([*ops, *self._channel.finish()])

    def _read(self, text: str, *, final: bool) -> list[Op]:
        """Give the channel what `text` reads as."""
        self._rest = ""
        ops: list[Op] = []
        decoded: list[str] = []
        # The lines of a private key end with dashes: without any there is no key to end at the end of a string.
        careful = self._channel.in_key or "-" in text
        at = 0
        while at < len(text):
            token = (_IN_STRING if self._in_string else _OUTSIDE).match(text, at)
            raw = text[at] if token is None else token[0]
            if self._in_string and raw[0] == "\\" and not final and _CUT.match(text, at):
                self._rest = text[at:]
                break
            at += len(raw)
            if raw == '"':
                if careful:
                    ops += self._channel.feed("".join(decoded))
                    ops += self._channel.barrier()
                    decoded = []
                self._add('"', '"', decoded, in_string=True)
                self._in_string = not self._in_string
            else:
                read = _unescaped(raw) if self._in_string and len(raw) > 1 and raw[0] == "\\" else raw
                self._add(raw, read, decoded, in_string=self._in_string)
        return ops + self._channel.feed("".join(decoded))

    def _add(self, raw: str, read: str, decoded: list[str], *, in_string: bool) -> None:
        decoded.append(read)
        self._pieces.append(_Piece(raw, len(read), in_string))

    def _spelled(self, ops: list[Op]) -> list[Op]:
        """Turn ops on the decoded text into ops on the JSON text."""
        spelled = []
        for op in ops:
            raw, in_string = self._take(op.count)
            spelled.append(Op(len(raw), _outside(raw, op.text) if op.text and not in_string else op.text))
        return spelled

    def _take(self, count: int) -> tuple[str, bool]:
        """Take `count` decoded characters off; return how they are written, and whether in a string."""
        taken = []
        in_string = self._pieces[0].in_string
        while count:
            piece = self._pieces[0]
            if piece.count <= count:
                taken.append(piece.raw)
                count -= piece.count
                self._pieces.popleft()
            else:
                taken.append(piece.raw[:count])
                piece.raw, piece.count = piece.raw[count:], piece.count - count
                count = 0
        return "".join(taken), in_string


def _outside(raw: str, placeholder: str) -> str:
    """Return what takes the place of a secret outside of all strings.

    Where that may be part of a number it stays one, whatever else belongs to it: all its digits become 1.
    """
    return _DIGIT.sub("1", raw) if _NO_TEXT.fullmatch(raw) else f'"{placeholder}"'


def _unescaped(escape: str) -> str:
    if escape[1] != "u":
        return _SIMPLE.get(escape[1], escape[1])
    high = int(escape[2:6], 16)
    if len(escape) == 6:
        return chr(high)
    return chr(0x10000 + ((high - 0xD800) << 10) + int(escape[8:], 16) - 0xDC00)
