"""What every dialect does: read a request, read an answer (whole or streamed), and refuse in the client's own form.

A dialect only reads. It never changes a byte of what passes, does no input or output, and keeps state only in the
`AnswerStream` of one exchange.
"""

from __future__ import annotations

from typing import Protocol

from extproc.conversation import Answer, Piece, Prompt
from extproc.errors import ExtprocError, Refusal


class BadRequest(ExtprocError):
    """Say which field of a request is not what the dialect demands; the text names the field and never its content."""


class BadAnswer(ExtprocError):
    """Say why the body of an answer could not be understood; the text never quotes the body."""


class AnswerStream(Protocol):
    """Gather one streamed answer; how its bytes are cut into chunks never changes what is gathered.

    Everything said is kept until the exchange ends: whoever feeds it bounds the size of the whole body.
    """

    def feed(self, data: bytes) -> list[Piece]:
        """Take the next bytes of the body and return what they say.

        An event nobody understands is no error: its text is a piece of channel `unparsed`, and is in the answer's
        `unparsed`. Raises only `EventTooLarge` (`extproc.dialect.sse`).
        """
        ...

    def finish(self) -> list[Piece]:
        """Return what the end of the body leaves over; call it once, after the last `feed`."""
        ...

    def answer(self) -> Answer:
        """Return all that has been said so far; may be called at any moment."""
        ...


class Dialect(Protocol):
    """Translate one wire format into the values of `extproc.conversation`; stateless, safe to share."""

    def parse_request(self, body: bytes) -> Prompt:
        """Return what the request asks; raises `BadRequest`."""
        ...

    def parse_answer(self, body: bytes) -> Answer:
        """Return what an answer that is not streamed says; raises `BadAnswer`."""
        ...

    def stream(self, max_event_bytes: int) -> AnswerStream:
        """Return what gathers a streamed answer, no event of which may be larger than `max_event_bytes`."""
        ...

    def error_body(self, refusal: Refusal, decision_id: str) -> bytes:
        """Return the body of a refusal, in the form the dialect's clients show to the person."""
        ...
