"""What every dialect does: read a request, read an answer (whole or streamed), and refuse in the client's own form.

A dialect does no input or output, and keeps state only in the `AnswerStream` of one exchange. It never changes what
passes: it says which strings of a message are text that a client joins to one (`Slot`), for whoever masks them.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from enum import Enum, auto
from typing import Any, Protocol

import msgspec

from extproc.conversation import Answer, Piece, Prompt
from extproc.errors import ExtprocError, Refusal


class BadRequest(ExtprocError):
    """Say which field of a request is not what the dialect demands; the text names the field and never its content."""


class BadAnswer(ExtprocError):
    """Say why the body of an answer could not be understood; the text never quotes the body."""


class Form(Enum):
    """How a text is to be read when secrets are looked for."""

    PLAIN = auto()
    JSON = auto()
    """The text is JSON itself (arguments of a tool): what its strings say is found after decoding their escapes."""


class Slot(msgspec.Struct, gc=False):
    """One string of an event, `holder[key]`, that continues the text of a channel.

    A channel is one text as a client assembles it, over any number of events: a choice's content, a tool call's
    arguments. Its name has dots from the general to the special, as in `0.text` or `0.tool.2.arguments`.
    """

    holder: Any
    key: str | int
    channel: str
    form: Form = Form.PLAIN


class Reading(msgspec.Struct, gc=False):
    """What one event adds to channels.

    `closes` names channels that get no more text, by name or by prefix (`0.` is all of choice 0, the empty prefix all
    there are); they close after this event's own slots. Every string of the event that is in no slot is a text of its
    own, such as those that repeat what was streamed.
    """

    slots: list[Slot] = []
    closes: tuple[str, ...] = ()


class More(msgspec.Struct, frozen=True, gc=False):
    """Say of an event that it does nothing but go on with one text: `where` that is, in the dialect's own terms.

    Further events that differ only in this text, and in the members of the object named in `varying`, go on with it
    too. Those are words or numbers that mean nothing to a reader, and are opaque.
    """

    where: Any
    varying: tuple[str, ...] = ()


class AnswerStream(Protocol):
    """Gather one streamed answer from its events, each the JSON object of a `data` field, decoded.

    Every event is shown twice: to `read` as it arrives, and to `take` when it has been masked and goes to the client,
    in an order that may differ between channels. Everything taken is kept until the exchange ends: whoever feeds it
    bounds the size of the whole body. No tree, however odd, makes either raise.
    """

    def read(self, event: str, tree: dict[str, Any]) -> Reading:
        """Say what an event adds to channels; `event` is its SSE type (`message` when it names none)."""
        ...

    def take(self, event: str, tree: dict[str, Any]) -> list[Piece]:
        """Add what a masked event says, and return its texts for the rhythm of the recording.

        An event nobody understands is no error: it is a piece of channel `unparsed`, and is in the answer's `unparsed`.
        The first event that shows a call of a tool, or may, has a piece whose channel has `.tool.` in it.
        """
        ...

    def more(self, event: str, tree: dict[str, Any]) -> More | None:
        """Say what an event with one slot that `read` was shown goes on with; None where it may do anything else.

        Another such event right after it is not shown to `read`, which would find the same slot.
        """
        ...

    def take_more(self, where: Any, text: str, varied: Mapping[str, str | int]) -> list[Piece] | None:  # noqa: ANN401
        """Do what `take` does, for an event like the last one taken; `varied` has its members that vary.

        None where that cannot be done: then it is to be shown to `take`.
        """
        ...

    def take_unparsed(self, text: str) -> list[Piece]:
        """Keep masked `data` that is no JSON object."""
        ...

    def done(self) -> None:
        """Note that `[DONE]` went to the client."""
        ...

    @property
    def is_complete(self) -> bool:
        """Say what `answer().complete` would, without joining what was said."""
        ...

    def answer(self) -> Answer:
        """Return all that was taken so far; may be called at any moment."""
        ...

    def ending(self, text: str) -> bytes:
        """Return the events that end, from where it stands, the answer a client was given so far.

        Open parts are closed in the order the dialect demands, `text` is the last thing that the assistant says, no
        tool call is left that could be run, the finish reason says that the answer ended by itself, and the dialect's
        terminal event comes last. Works before the first event and in the middle of any part.
        """
        ...


class Dialect(Protocol):
    """Translate one wire format into the values of `extproc.conversation`; stateless, safe to share.

    `opaque` are the names of members whose strings pass byte for byte: ids, and what is encrypted or signed.
    `json_texts` are the names of members whose strings have `Form.JSON`.
    """

    opaque: AbstractSet[str]
    json_texts: AbstractSet[str]

    def parse_request(self, body: bytes) -> Prompt:
        """Return what the request asks; raises `BadRequest`."""
        ...

    def parse_answer(self, body: bytes) -> Answer:
        """Return what an answer that is not streamed says; raises `BadAnswer`."""
        ...

    def amend(self, tree: Any) -> bool:  # noqa: ANN401 - decoded JSON
        """Take out of a whole answer what would lead the client around the gateway; say whether anything was."""
        ...

    def stream(self) -> AnswerStream:
        """Return what gathers a streamed answer."""
        ...

    def refused_answer(self, body: bytes, text: str) -> bytes:
        """Return the whole (not streamed) answer `body` with `text` as all that the assistant says, ended normally.

        No tool call is left in it; ids, model and usage stay. Works for any body, also one that is no answer of the
        dialect.
        """
        ...

    def error_body(self, refusal: Refusal, decision_id: str) -> bytes:
        """Return the body of a refusal, in the form the dialect's clients show to the person."""
        ...
