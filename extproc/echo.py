"""Mask the injected credential where an upstream repeats it. Pure; the answer never depends on where chunks are cut."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from extproc.secret import Secret

MASK = b"[MASKED:gateway-credential]"

# A shorter literal would occur in ordinary text; no credential of GitHub's is near this.
MIN_SECRET_BYTES = 8


class EchoMask:
    r"""Replace every literal occurrence of a few secrets in one byte stream, holding back only what may begin one.

    A secret is found raw and as it reads inside a JSON string (with `/` plain and as `\/`, RFC 8259 section 7). Where
    occurrences overlap the leftmost wins, then the longest. Raises ValueError for a secret shorter than 8 bytes.
    """

    __slots__ = ("_held", "_needles")

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self._needles = _needles(frozenset(secrets))
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return what may be released after `data` arrived: the same object when there was nothing to mask or hold."""
        buffer = self._held + data if self._held else data
        needles = self._needles
        # Nearly every chunk ends here: a needle, whole or cut off, shows its head or ends the chunk with part of it.
        if not buffer.endswith(needles.head_prefixes) and not any(head in buffer for head in needles.heads):
            self._held = b""
            return buffer
        pieces: list[bytes] = []
        start, hold = 0, needles.hold_from(buffer, 0)
        for match in needles.whole.finditer(buffer):
            # What is held from here on may turn out to be a longer needle, or one that begins before this match.
            if match.start() >= hold:
                break
            pieces += buffer[start : match.start()], MASK
            start = match.end()
            if hold < start:
                hold = needles.hold_from(buffer, start)
        self._held = buffer[hold:]
        return b"".join((*pieces, buffer[start:hold]))

    @property
    def holding(self) -> int:
        """Return how many bytes of a secret's beginning what came last may be."""
        return len(self._held)

    def masks(self, data: bytes) -> bool:
        """Feed `data` and say whether it completed a secret, where only that matters."""
        before = self._held + data
        return self.feed(data) + self._held != before

    def flush(self) -> bytes:
        """Return what was held back, at the end of the stream."""
        held, self._held = self._held, b""
        return self._needles.whole.sub(MASK, held)

    def mask_text(self, value: str) -> str:
        """Mask a whole value, such as a header's, on its own; the stream is not touched."""
        masked, found = self._needles.whole.subn(MASK, value.encode("utf-8", "surrogatepass"))
        return masked.decode("utf-8", "surrogatepass") if found else value


class SpelledWatch:
    r"""Watch one byte stream of JSON for a secret that is written, whole or in part, in escapes (`\u0067ho_`).

    It only says so: what a client would decode to the secret cannot be masked without rewriting JSON.
    """

    __slots__ = ("_mask", "_tail")

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self._mask = EchoMask(secrets)
        self._tail = b""

    def completes(self, data: bytes) -> bool:
        """Take the next bytes; say whether they complete a secret."""
        data = self._tail + data
        cut = len(data)
        # An escape may be cut anywhere; its longest proper beginning has five bytes.
        backslash = data.rfind(b"\\", max(0, cut - 5))
        if backslash >= 0 and _ESCAPE_BEGINNING.fullmatch(data, backslash):
            cut = backslash
        self._tail = data[cut:]
        plain = data[:cut]
        return self._mask.masks(_ESCAPE.sub(_unescaped, plain) if b"\\u" in plain else plain)


_ESCAPE = re.compile(rb"\\u00([2-7][0-9A-Fa-f])")
_ESCAPE_BEGINNING = re.compile(rb"\\(?:u(?:0(?:0[2-7]?)?)?)?")


def _unescaped(escape: re.Match[bytes]) -> bytes:
    return bytes([int(escape[1], 16)])


@dataclass(frozen=True, slots=True)
class _Needles:
    """The literals to find, prepared once for all streams with the same secrets.

    `heads` are their first 8 bytes, `head_prefixes` every shorter beginning of these; `whole` prefers the longest.
    """

    literals: tuple[bytes, ...]
    heads: tuple[bytes, ...]
    head_prefixes: tuple[bytes, ...]
    whole: re.Pattern[bytes]

    def hold_from(self, buffer: bytes, start: int) -> int:
        """Return where the longest tail of `buffer[start:]` begins that may become a literal, else the end."""
        return min(_tail_start(buffer, literal, start) for literal in self.literals) if self.literals else len(buffer)


def _tail_start(buffer: bytes, literal: bytes, start: int) -> int:
    end = len(buffer)
    head = literal[:MIN_SECRET_BYTES]
    at = buffer.find(head, max(start, end - len(literal) + 1))
    while at >= 0:
        if literal.startswith(buffer[at:]):
            return at
        at = buffer.find(head, at + 1)
    longest = min(MIN_SECRET_BYTES - 1, end - start)
    return next((end - size for size in range(longest, 0, -1) if buffer.endswith(literal[:size])), end)


@lru_cache(maxsize=16)
def _needles(secrets: frozenset[Secret]) -> _Needles:
    literals = tuple(sorted({form for secret in secrets for form in _forms(secret.reveal())}, key=len, reverse=True))
    if any(len(literal) < MIN_SECRET_BYTES for literal in literals):
        raise ValueError(f"a secret to mask has at least {MIN_SECRET_BYTES} bytes")
    heads = tuple({literal[:MIN_SECRET_BYTES] for literal in literals})
    return _Needles(
        literals=literals,
        heads=heads,
        head_prefixes=tuple({head[:size] for head in heads for size in range(1, MIN_SECRET_BYTES)}),
        # An empty alternation would match everywhere; `(?!)` matches nowhere.
        whole=re.compile(b"|".join(map(re.escape, literals)) or b"(?!)"),
    )


def _forms(secret: str) -> set[bytes]:
    quoted = json.dumps(secret, ensure_ascii=False)[1:-1]
    return {form.encode() for form in (secret, quoted, quoted.replace("/", "\\/"))}
