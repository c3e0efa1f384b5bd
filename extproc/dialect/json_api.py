"""What the endpoints share that carry JSON and no conversation: models, embeddings, agents' settings, GitHub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

import msgspec

from extproc.conversation import Answer, Piece, Prompt
from extproc.dialect.openai_error import openai_error
from extproc.dialect.port import AnswerStream, BadAnswer, BadRequest, More, Reading
from extproc.dialect.request_body import read_fields
from extproc.errors import Refusal
from extproc.json_body import encoded

_RAW: Final = msgspec.json.Decoder(msgspec.Raw)
_TOO_DEEP: Final = "(nested too deeply)"

# What calls have in chat, and in messages.
_CALL: Final = re.compile(
    r'"(?:tool_calls|function_call|partial_json)"\s*:\s*(?!\s|null|\[\s*\])|"type"\s*:\s*"\w*tool_use"'
)


class JsonDialect:
    """Implement `Dialect` for endpoints that take and give any JSON value, or nothing; others build on it.

    A body of white space alone is no value: `DELETE` and notifications have none, nor have answers 202, 204 and 304.
    """

    opaque: AbstractSet[str] = frozenset()
    json_texts: AbstractSet[str] = frozenset()

    def parse_request(self, body: bytes) -> Prompt:
        """Return the whole body as the only message; raises `BadRequest`."""
        tree = read_tree(body)
        return Prompt(None, [] if tree is None else [tree], [], stream=False)

    def parse_answer(self, body: bytes) -> Answer:
        """Accept any JSON value, or nothing; raises `BadAnswer`."""
        if body.strip():
            read_answer(body)
        return Answer(None, [], None, complete=True)

    def amend(self, tree: Any) -> bool:  # noqa: ANN401, ARG002 - decoded JSON, which the port hands to every dialect
        """Change nothing: these answers lead nowhere."""
        return False

    def stream(self) -> AnswerStream:
        """Return what keeps the events of a stream, though none is expected here."""
        return UnreadStream()

    def refused_answer(self, body: bytes, text: str) -> bytes:  # noqa: ARG002 - the port's shape
        """Return an object whose `message` is `text`."""
        return encoded({"message": text})

    def error_body(self, refusal: Refusal, decision_id: str) -> bytes:
        """Return the refusal as the error object of OpenAI's API."""
        return openai_error(refusal, decision_id)


class UnreadStream:
    """Implement `AnswerStream` for a stream that nobody understands: it is kept, and never complete.

    It names no slots, so a text that its events cut in pieces is not seen as one.
    """

    __slots__ = ("_unparsed",)

    def __init__(self) -> None:
        self._unparsed: list[str] = []

    def read(self, event: str, tree: dict[str, Any]) -> Reading:  # noqa: ARG002 - the port's shape
        """Find no channels."""
        return Reading()

    def take(self, event: str, tree: dict[str, Any]) -> list[Piece]:  # noqa: ARG002 - the port's shape
        """Keep the event as text."""
        return self.take_unparsed(as_text(tree))

    def more(self, event: str, tree: dict[str, Any]) -> More | None:  # noqa: ARG002 - the port's shape
        """Say nothing: no event goes on with a text."""
        return None

    def take_more(self, where: Any, text: str, varied: Mapping[str, str | int]) -> list[Piece] | None:  # noqa: ANN401, ARG002
        """Do nothing, for the same reason."""
        return None

    def take_unparsed(self, text: str) -> list[Piece]:
        """Keep masked `data` that is no JSON object."""
        self._unparsed.append(text)
        return [Piece("unparsed", text)]

    def done(self) -> None:
        """Make nothing of `[DONE]`, which ends no stream known here."""

    @property
    def is_complete(self) -> bool:
        """Say no: an unknown stream has no known end."""
        return False

    def answer(self) -> Answer:
        """Return the events so far."""
        return Answer(None, [], None, complete=False, unparsed=list(self._unparsed) or None)

    def ending(self, text: str) -> bytes:  # noqa: ARG002 - the port's shape
        """Return nothing: an unknown stream has no known end."""
        return b""


def read_tree(body: bytes, names: AbstractSet[str] = frozenset()) -> Any:  # noqa: ANN401 - decoded JSON
    """Return the JSON value of a request, or None where the body is empty; raises `BadRequest` as `read_fields` does.

    `names` are the top-level fields that must not be spelled in another case.
    """
    if not body.strip():
        return None
    try:
        _RAW.decode(body)
    except RecursionError as error:
        raise BadRequest("the body is nested too deeply") from error
    except msgspec.DecodeError as error:
        # The message of msgspec gives a position, never a value.
        raise BadRequest(f"the body: {error}; expected JSON") from error
    if body.lstrip().startswith(b"{"):
        read_fields(body, names)
    # The body is one JSON value, so it is one in an object, too: what is demanded of fields is demanded of all of it.
    return read_fields(b'{"body":%b}' % body, frozenset({"body"}))["body"]


def read_answer(body: bytes) -> Any:  # noqa: ANN401 - decoded JSON
    """Return the JSON value of an answer; raises `BadAnswer`."""
    try:
        return msgspec.json.decode(body)
    except UnicodeDecodeError as error:
        raise BadAnswer("the answer is not UTF-8") from error
    except RecursionError as error:
        raise BadAnswer("the answer is nested too deeply") from error
    except msgspec.DecodeError as error:
        # The message of msgspec gives a position, never a value.
        raise BadAnswer(f"the answer: {error}") from error


def as_text(tree: Any) -> str:  # noqa: ANN401 - decoded JSON
    """Return decoded JSON as compact JSON text, or a remark where it is nested too deeply to be written."""
    try:
        return encoded(tree).decode()
    except RecursionError:
        return _TOO_DEEP


def may_be_call(unparsed: str) -> bool:
    """Say whether an event or a body that nobody understood may call a tool: clients may read more than we do."""
    return unparsed == _TOO_DEEP or _CALL.search(unparsed) is not None


def unparsed_piece(text: str) -> Piece:
    """Return the piece of an event that nobody understood."""
    return Piece("0.tool.unparsed" if may_be_call(text) else "unparsed", text)


def kept(tree: Any, kinds: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - decoded JSON
    """Return the members of an object that fit the types given for them, and can be written for any reader."""
    found = {}
    for name, kind in kinds.items() if isinstance(tree, dict) else ():
        try:
            msgspec.convert(tree.get(name), kind)
            msgspec.json.encode(tree.get(name))
        except (msgspec.ValidationError, UnicodeEncodeError, RecursionError):
            continue
        found[name] = tree[name]
    return found
