"""What happens to the bytes of a response on their way to the client: read, kept free of our credential, let go.

Pure. Three ways, by what is answered: a stream of events passes as it arrives, a JSON answer is held until it is whole
and understood, metadata passes unread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from extproc.conversation import Answer, Piece
from extproc.dialect.port import BadAnswer, Dialect
from extproc.dialect.sse import EventTooLarge
from extproc.echo import EchoMask, SpelledWatch
from extproc.errors import Code, Refusal
from extproc.events import Headers
from extproc.recording.document import Timing
from extproc.secret import Secret

_ECHO = Refusal(502, Code.UPSTREAM_ECHO, "The upstream's answer repeated the gateway's credential; it was withheld.")
_HELD_FROM = 4
"""From so many characters a text's end is held that may begin the credential: as many as `gho_` and `tid=` have."""

_TOO_LARGE = Refusal(
    502, Code.UPSTREAM_TOO_LARGE, "The upstream's answer is larger than this gateway holds or records."
)


class Body(Protocol):
    """Take a response body in pieces; say what may be released. A Refusal ends the exchange.

    `holds` says that nothing is released before `finish`, so that the response headers can wait too.
    """

    holds: bool

    def feed(self, data: bytes, at: float, /) -> bytes | Refusal:
        """Take the next bytes at `at` milliseconds after the opening; return those that may go to the client."""
        ...

    def finish(self, at: float, /) -> bytes | Refusal:
        """Take the end of the body; return the rest."""
        ...

    def answer(self) -> Answer | None:
        """Return what was said so far, for the record."""
        ...

    def passed_whole(self) -> bool:
        """Say whether the client was given everything already, the dialect's terminal event included."""
        ...


class Metadata:
    """Pass a body without reading it, but for the credential."""

    holds = False

    def __init__(self, secrets: Sequence[Secret]) -> None:
        self._mask = EchoMask(secrets)
        self._watch = SpelledWatch(secrets)

    def feed(self, data: bytes, _at: float, /) -> bytes | Refusal:
        """Release everything that cannot begin a credential."""
        released = self._mask.feed(data)
        return _ECHO if self._watch.completes(released) else released

    def finish(self, _at: float, /) -> bytes:
        """Release the rest."""
        return self._mask.flush()

    def answer(self) -> None:
        """Return nothing: metadata is recorded without bodies."""

    def passed_whole(self) -> bool:
        """Return false: only the end of the stream says so."""
        return False


class HeldAnswer:
    """Hold a body until it is whole: a dialect's JSON answer, or (`dialect` None) the text of an upstream's error."""

    holds = True

    def __init__(self, dialect: Dialect | None, secrets: Sequence[Secret], *, max_bytes: int) -> None:
        self._dialect = dialect
        self._secrets = secrets
        self._max_bytes = max_bytes
        self._body = bytearray()
        self._answer: Answer | None = None

    def feed(self, data: bytes, _at: float, /) -> bytes | Refusal:
        """Keep the bytes."""
        self._body += data
        return _TOO_LARGE if len(self._body) > self._max_bytes else b""

    def finish(self, _at: float, /) -> bytes | Refusal:
        """Understand the body and release it."""
        mask = EchoMask(self._secrets)
        body = mask.feed(bytes(self._body)) + mask.flush()
        # What is not escaped was masked just now.
        if b"\\u" in body and SpelledWatch(self._secrets).completes(body):
            return _ECHO
        if self._dialect is None:
            text = body.decode("utf-8", "replace")
            self._answer = Answer(model=None, choices=[], usage=None, complete=True, error=text)
            return body
        try:
            self._answer = self._dialect.parse_answer(body)
        except BadAnswer:
            return Refusal(502, Code.UPSTREAM_MALFORMED, "The upstream's answer is not what this endpoint answers.")
        return body

    def answer(self) -> Answer | None:
        """Return the answer once it was whole."""
        return self._answer

    def passed_whole(self) -> bool:
        """Return false: nothing was given before the end."""
        return False


class StreamedAnswer:
    """Pass a stream of events as it arrives, holding only what could turn out to be the gateway's credential.

    The raw bytes are masked. The text they carry is watched as well, channel by channel, because a client joins it: a
    credential that is spread over several events is not in any one piece of bytes. Where it shows, the stream is cut.
    """

    holds = False

    def __init__(
        self, dialect: Dialect, secrets: Sequence[Secret], timing: Timing, *, max_bytes: int, max_event_bytes: int
    ) -> None:
        self._stream = dialect.stream(max_event_bytes)
        self._bytes = EchoMask(secrets)
        self._secrets = secrets
        self._spelled = SpelledWatch(secrets)
        self._texts: dict[str, EchoMask] = {}
        self._speaking: EchoMask | None = None
        self._timing = timing
        self._size = 0
        self._max_bytes = max_bytes
        self._held = bytearray()
        self._cut = False

    def feed(self, data: bytes, at: float, /) -> bytes | Refusal:
        """Record the pieces in `data` and release it, unless text in it may go on as the credential."""
        self._size += len(data)
        if self._size > self._max_bytes:
            return _TOO_LARGE
        return self._take(self._bytes.feed(data), at)

    def finish(self, at: float, /) -> bytes | Refusal:
        """Release the rest."""
        released = self._take(self._bytes.flush(), at)
        if isinstance(released, Refusal):
            return released
        if self._note(self._stream.finish(), at):
            return _ECHO
        tail = bytes(self._held)
        self._held.clear()
        return released + tail

    def answer(self) -> Answer | None:
        """Return what was said so far; nothing where that would repeat the credential."""
        return None if self._cut else self._stream.answer()

    def passed_whole(self) -> bool:
        """Say whether the terminal event was passed on."""
        return not self._held and not self._cut and self._stream.answer().complete

    def _take(self, data: bytes, at: float) -> bytes | Refusal:
        try:
            pieces = self._stream.feed(data)
        except EventTooLarge:
            return _TOO_LARGE
        self._cut = self._spelled.completes(data) or self._cut
        if self._note(pieces, at):
            return _ECHO
        if not self._held and not self._undecided():
            return data
        self._held += data
        if self._undecided():
            return b""
        released = bytes(self._held)
        self._held.clear()
        return released

    def _note(self, pieces: Sequence[Piece], at: float) -> bool:
        """Note the rhythm of the pieces; say whether their text completes the credential."""
        texts: dict[str, list[str]] = {}
        for piece in pieces:
            texts.setdefault(piece.channel, []).append(piece.text)
        for channel, parts in texts.items():
            text = "".join(parts)
            # What arrived together is one entry of the rhythm.
            self._timing.pieces.append((at, channel, len(text)))
            if text and self._secrets and self._repeats(channel, text):
                self._cut = True
        return self._cut

    def _repeats(self, channel: str, text: str) -> bool:
        mask = self._texts.get(channel)
        if mask is None:
            mask = self._texts[channel] = EchoMask(self._secrets)
        self._speaking = mask
        return mask.masks(text.encode("utf-8", "surrogatepass"))

    def _undecided(self) -> bool:
        # Only the channel that spoke last, and only what looks like more than a common letter or two: a stream must not
        # wait for a channel that may never speak again. The watch goes on; a credential that completes is still cut.
        return self._speaking is not None and self._speaking.holding >= _HELD_FROM


def body_for(  # noqa: PLR0911 - one return for each kind of answer
    headers: Headers,
    status: int,
    dialect: Dialect | None,
    secrets: Sequence[Secret],
    timing: Timing,
    *,
    max_bytes: int,
    max_event_bytes: int,
) -> Body | Refusal:
    """Choose how a response is read from its headers; `dialect` is None for metadata."""
    if any(name == "content-encoding" and value.strip().lower() not in {"identity", ""} for name, value in headers):
        # We asked for identity (RFC 9110 section 12.5.3); what cannot be read cannot be let through.
        return Refusal(502, Code.UPSTREAM_ENCODED, "The upstream compressed its answer although it was told not to.")
    kinds = {value.partition(";")[0].strip().lower() for name, value in headers if name == "content-type"}
    if len(kinds) > 1:
        return _unexpected("several content types")
    kind = next(iter(kinds), "")
    is_json = kind == "application/json" or kind.endswith("+json")
    if dialect is None:
        if kind and not is_json and kind not in {"text/plain", "text/event-stream"}:
            return _unexpected(kind)
        return Metadata(secrets)
    if status >= 400 and (is_json or kind in {"", "text/plain"}):
        return HeldAnswer(None, secrets, max_bytes=max_bytes)
    if kind == "text/event-stream":
        return StreamedAnswer(dialect, secrets, timing, max_bytes=max_bytes, max_event_bytes=max_event_bytes)
    if is_json:
        return HeldAnswer(dialect, secrets, max_bytes=max_bytes)
    return _unexpected(kind)


def _unexpected(kind: str) -> Refusal:
    # Never the header's own text: an upstream can put anything there.
    shown = kind if kind in {"text/html", "text/plain", "application/xml", "application/octet-stream"} else "something"
    return Refusal(502, Code.UPSTREAM_CONTENT_TYPE, f"The upstream answered {shown} where JSON was expected.")
