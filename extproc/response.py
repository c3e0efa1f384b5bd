"""What happens to the bytes of a response on their way to the client: decoded, masked, understood, let go. Pure.

Three ways, by what is answered: a stream of events passes as it arrives, JSON is held until it is whole, other text
passes word by word. All of them are masked; whatever is none of them is refused.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from typing import Any, Final, Protocol

from extproc import json_body
from extproc.approval.touch import Touch
from extproc.conversation import Answer
from extproc.dialect.port import BadAnswer, Dialect
from extproc.dialect.sse import EventTooLarge
from extproc.encoding import BadEncoding, Decoder, decoder
from extproc.endings import blocked
from extproc.endpoint import UNREAD, EndpointKind
from extproc.errors import Code, Refusal
from extproc.events import Headers
from extproc.masking.body import masked_json
from extproc.masking.channel import Channel
from extproc.masking.masker import Masker, applied
from extproc.masking.stream import MaskedStream
from extproc.recording.document import Timing
from extproc.rules import STREAMING

SILENCE_MS: Final = 10_000.0
"""A client that hears nothing for so long is given a comment; some give up after 30 s."""

_COMMENT: Final = b": still reading\n\n"  # WHATWG HTML, 9.2.6

MAX_RATIO: Final = 200
"""A compressed answer may grow to so many times its size; text seldom shrinks to a twentieth."""

_TOO_LARGE = Refusal(
    502, Code.UPSTREAM_TOO_LARGE, "The upstream's answer is larger than this gateway holds or records."
)
_ENCODED = Refusal(502, Code.UPSTREAM_ENCODED, "The upstream compressed its answer in a way that cannot be read.")

# These may answer with text that is neither JSON nor a stream: diffs, files, logs. An account may not: clients would
# read addresses in it that nobody has changed.
_MAY_ANSWER_TEXT = (UNREAD - {EndpointKind.ACCOUNT}) | {EndpointKind.GITHUB, EndpointKind.MCP}
# No line of JSON begins so. Clients that asked for a stream read events whatever the header says, and would join what
# was masked apart.
_EVENT_LINE = re.compile(rb"(?:\A(?:\xef\xbb\xbf)?|[\r\n])data:")
# These have no body, so they need no type (RFC 9110 sections 15.3.5 and 15.4.5).
_NO_CONTENT = {204, 304}


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

    def held_bytes(self) -> int:
        """Return how much `finish` has to look at."""
        ...

    def answer(self) -> Answer | None:
        """Return what was said so far, for the record."""
        ...

    def passed_whole(self) -> bool:
        """Say whether the client was given everything already, the dialect's terminal event included."""
        ...

    def asks(self) -> Answer | None:
        """Return the answer where what is kept of it is known, so that it can be judged whether it may go on."""
        ...

    def release(self, at: float, /) -> bytes:
        """Return what was kept, as it came."""
        ...

    def refuse(self, text: str, at: float, /) -> bytes:
        """Return what ends the answer without what was kept; `text` are its last words."""
        ...


class HeldAnswer:
    """Hold a body until it is whole: the JSON of a dialect, or the text of an upstream's error."""

    holds = True

    def __init__(
        self,
        dialect: Dialect,
        masker: Masker,
        *,
        is_error: bool,
        max_bytes: int,
        amend: Callable[[Any], bool] | None = None,
        is_judged: bool = False,
    ) -> None:
        """Hold a body; with `is_judged` it stays, once whole, until `release` or `refuse`."""
        self._more = amend
        self._is_judged = is_judged and not is_error
        self._dialect = dialect
        self._masker = masker
        self._is_error = is_error
        self._max_bytes = max_bytes
        self._body = bytearray()
        self._answer: Answer | None = None

    def feed(self, data: bytes, _at: float, /) -> bytes | Refusal:
        """Keep the bytes."""
        self._body += data
        return _TOO_LARGE if len(self._body) > self._max_bytes else b""

    def finish(self, at: float, /) -> bytes | Refusal:
        """Mask and understand the body, and release it; takes a while for a large one."""
        self._masker.at = at
        body = bytes(self._body)
        # Nearly no body has the word, and this says so fast.
        if not self._is_error and b"data:" in body and _EVENT_LINE.search(body):
            return _unexpected("events")
        if self._more is not None and not self._is_error and body and json_body.decoded(body) is None:
            # Other readers may see addresses or models in it that nothing was taken out of.
            return _unexpected("something")
        if body:
            body = masked_json(body, self._masker, self._dialect, amend=self._amend)
        self._answer = self._understood(body)
        if self._masker.blocked is not None:
            self._is_judged = False
            return blocked(self._masker.blocked)
        if not self._is_judged:
            return body
        self._body = bytearray(body)
        return b""

    def asks(self) -> Answer | None:
        """Return the answer if it is to be judged."""
        return self._answer if self._is_judged else None

    def release(self, _at: float, /) -> bytes:
        """Return the body."""
        self._is_judged = False
        return bytes(self._body)

    def refuse(self, text: str, _at: float, /) -> bytes:
        """Return an answer of the dialect that says `text` alone, which is what is recorded too."""
        self._is_judged = False
        body = self._dialect.refused_answer(bytes(self._body), text)
        self._answer = self._understood(body)
        return body

    def held_bytes(self) -> int:
        """Return the size of the body so far."""
        return len(self._body)

    def answer(self) -> Answer | None:
        """Return the answer once it was whole, and is not kept from the client."""
        return None if self._is_judged else self._answer

    def passed_whole(self) -> bool:
        """Return false: nothing was given before the end."""
        return False

    def _amend(self, tree: Any) -> bool:  # noqa: ANN401 - decoded JSON
        changed = self._dialect.amend(tree)
        return (self._more is not None and self._more(tree)) or changed

    def _understood(self, body: bytes) -> Answer:
        if self._is_error:
            error = body.decode("utf-8", "replace")
            return Answer(model=None, choices=[], usage=None, complete=True, error=error)
        try:
            return self._dialect.parse_answer(body)
        except BadAnswer:
            # Masked it is, whatever it may be.
            return _unread(body.decode("utf-8", "replace"))


class StreamedAnswer:
    """Pass a stream of events as it arrives."""

    holds = False

    def __init__(
        self,
        dialect: Dialect,
        masker: Masker,
        timing: Timing,
        *,
        max_bytes: int,
        max_event_bytes: int,
        is_privileged: Callable[[Touch], bool] | None = None,
    ) -> None:
        self._stream = MaskedStream(dialect, masker, max_event_bytes=max_event_bytes, is_privileged=is_privileged)
        self._timing = timing
        self._size = 0
        self._max_bytes = max_bytes
        self._refused = False
        self._heard_at = 0.0

    def feed(self, data: bytes, at: float, /) -> bytes | Refusal:
        """Release the events that are decided."""
        self._size += len(data)
        if self._size > self._max_bytes:
            return _TOO_LARGE
        self._stream.masker.at = at
        try:
            released = self._stream.feed(data)
        except EventTooLarge:
            return _TOO_LARGE
        self._note(at)
        if not released and self._stream.holding and at - self._heard_at >= SILENCE_MS:
            # A long call of a tool is kept while it is written.
            released = _COMMENT
        if released:
            self._heard_at = at
        return released

    def finish(self, at: float, /) -> bytes:
        """Release the rest."""
        self._stream.masker.at = at
        released = self._stream.finish()
        self._note(at)
        return released

    def held_bytes(self) -> int:
        """Return 0: nothing but the end of what was looked at waits."""
        return 0

    def answer(self) -> Answer:
        """Return what went to the client so far."""
        return self._stream.answer()

    def passed_whole(self) -> bool:
        """Say whether a terminal event was passed on, the upstream's or, of a blocked answer, ours."""
        if self._refused or self._stream.masker.blocked is not None:
            return True
        return not self._stream.holding and self._stream.is_complete

    def asks(self) -> Answer | None:
        """Return the answer so far where what is kept of it is known."""
        return self._stream.asks()

    def release(self, at: float, /) -> bytes:
        """Return the events that were kept."""
        released = self._stream.release()
        self._note(at)
        return released

    def refuse(self, text: str, at: float, /) -> bytes:
        """Return the events that end the answer in the dialect's own way."""
        self._refused = True
        ending = self._stream.refuse(text)
        self._note(at)
        return ending

    def _note(self, at: float) -> None:
        """Note the rhythm: what left together is one entry for each channel."""
        if self._stream.oldest is not None:
            self._timing.held.append((at - self._stream.oldest) / 1000)
            self._stream.oldest = None
        if not self._stream.pieces:
            return
        counts: dict[str, int] = {}
        for piece in self._stream.pieces:
            counts[piece.channel] = counts.get(piece.channel, 0) + len(piece.text)
        self._timing.pieces += [(at, channel, count) for channel, count in counts.items()]
        self._stream.pieces.clear()


class TextAnswer:
    """Pass plain text word by word; it is kept for the record."""

    holds = False

    def __init__(self, masker: Masker, *, max_bytes: int) -> None:
        self._masker = masker
        # Made for the first text: an answer without any was not looked at.
        self._channel: Channel | None = None
        # Bytes that are no UTF-8 go out as they came in.
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._waiting = ""
        self._noted = 0
        self._size = 0
        self._max_bytes = max_bytes
        self._said: list[str] = []

    def feed(self, data: bytes, at: float, /) -> bytes | Refusal:
        """Release the words that are decided."""
        self._size += len(data)
        return _TOO_LARGE if self._size > self._max_bytes else self._take(data, at, final=False)

    def finish(self, at: float, /) -> bytes | Refusal:
        """Release the rest."""
        return self._take(b"", at, final=True)

    def held_bytes(self) -> int:
        """Return 0: nothing but the last word waits."""
        return 0

    def answer(self) -> Answer:
        """Return the text so far."""
        return _unread("".join(self._said).encode("utf-8", "surrogateescape").decode("utf-8", "replace"))

    def passed_whole(self) -> bool:
        """Return false: only the end of the stream says so."""
        return False

    def asks(self) -> None:
        """Return nothing: plain text calls no tools."""

    def release(self, _at: float, /) -> bytes:
        """Return nothing: nothing is kept."""
        return b""

    def refuse(self, _text: str, _at: float, /) -> bytes:
        """Return nothing: nothing is kept."""
        return b""

    def _take(self, data: bytes, at: float, *, final: bool) -> bytes | Refusal:
        self._masker.at = at
        text = self._decoder.decode(data, final)
        if not text and self._channel is None:
            return b""
        channel = self._channel = self._channel or self._masker.plain_channel()
        self._waiting += text
        ops = channel.feed(text)
        if final:
            ops += channel.finish()
        decided = sum(op.count for op in ops)
        released = applied(self._waiting[:decided], ops)
        self._waiting = self._waiting[decided:]
        self._masker.note("body", channel.found[self._noted :])
        self._noted = len(channel.found)
        if self._masker.blocked is not None:
            return blocked(self._masker.blocked)
        self._said.append(released)
        return released.encode("utf-8", "surrogateescape")


class Compressed:
    """Decode a compressed body before anything else happens to it."""

    def __init__(self, body: Body, decoding: Decoder) -> None:
        self._body = body
        self._decoding = decoding
        self.holds = body.holds

    def feed(self, data: bytes, at: float, /) -> bytes | Refusal:
        """Decode the bytes and hand them on."""
        try:
            return self._body.feed(self._decoding.feed(data), at)
        except BadEncoding:
            return _ENCODED

    def finish(self, at: float, /) -> bytes | Refusal:
        """End the decoding, then the body."""
        try:
            self._decoding.finish()
        except BadEncoding:
            return _ENCODED
        return self._body.finish(at)

    def held_bytes(self) -> int:
        """Return how much of what was decoded is held."""
        return self._body.held_bytes()

    def answer(self) -> Answer | None:
        """Return what was said so far."""
        return self._body.answer()

    def passed_whole(self) -> bool:
        """Say whether the client was given everything already."""
        return self._body.passed_whole()

    def asks(self) -> Answer | None:
        """Return the answer where it is to be judged."""
        return self._body.asks()

    def release(self, at: float, /) -> bytes:
        """Return what was kept."""
        return self._body.release(at)

    def refuse(self, text: str, at: float, /) -> bytes:
        """Return what ends the answer."""
        return self._body.refuse(text, at)


def body_for(
    headers: Headers,
    status: int,
    kind: EndpointKind,
    dialect: Dialect,
    masker: Masker,
    *,
    timing: Timing,
    max_bytes: int,
    max_event_bytes: int,
    amend: Callable[[Any], bool] | None = None,
    is_privileged: Callable[[Touch], bool] | None = None,
) -> Body | Refusal:
    """Choose how a response is read from its headers; `is_privileged` where policy protects something.

    `amend` changes a whole JSON answer beside what the dialect does, and says whether it did.
    """
    types = {value.partition(";")[0].strip().lower() for name, value in headers if name == "content-type"}
    if len(types) > 1:
        return _unexpected("several content types")
    content_type = next(iter(types), "")
    try:
        decoding = decoder(
            ",".join(value for name, value in headers if name == "content-encoding"),
            max_ratio=MAX_RATIO,
            max_bytes=max_bytes,
        )
    except BadEncoding:
        return _ENCODED
    is_json = content_type == "application/json" or content_type.endswith("+json")
    is_text = content_type in {"", "text/plain"} or content_type.startswith("application/vnd.github.")
    body: Body
    if content_type == "text/event-stream" and kind in STREAMING:
        body = StreamedAnswer(
            dialect,
            masker,
            timing,
            max_bytes=max_bytes,
            max_event_bytes=max_event_bytes,
            is_privileged=is_privileged,
        )
    elif is_json or (is_text and status >= 400):
        body = HeldAnswer(
            dialect,
            masker,
            is_error=status >= 400,
            max_bytes=max_bytes,
            amend=amend,
            is_judged=is_privileged is not None,
        )
    elif is_text and (kind in _MAY_ANSWER_TEXT or status in _NO_CONTENT):
        body = TextAnswer(masker, max_bytes=max_bytes)
    else:
        return _unexpected(content_type)
    return body if decoding is None else Compressed(body, decoding)


def _unread(text: str) -> Answer:
    """Return the answer that is nothing but a text."""
    return Answer(model=None, choices=[], usage=None, complete=True, unparsed=[text] if text else None)


def _unexpected(content_type: str) -> Refusal:
    # Never the header's own text: an upstream can put anything there.
    known = {"text/html", "text/plain", "application/xml", "application/octet-stream"}
    shown = content_type if content_type in known else "something"
    return Refusal(502, Code.UPSTREAM_CONTENT_TYPE, f"The upstream answered {shown} where JSON was expected.")
