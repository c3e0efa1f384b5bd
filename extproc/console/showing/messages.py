"""Show the messages of a prompt, in whichever dialect: who says it, texts, calls of tools and their results. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile
from typing import Any, Final

from markupsafe import Markup

from extproc.console.showing import change, shapes
from extproc.console.showing.code import Highlighter
from extproc.console.showing.marks import Findings
from extproc.console.showing.prose import prose, quoted
from extproc.console.templates import visible
from extproc.masking.finding import Direction

MAX_PAGE_CHARS: Final = 8_000_000
"""How much text one page shows: a browser takes seconds for it, and a prompt may be as long as its sender likes."""

PART_CHARS: Final = 200
"""What each part counts beside its text: its markup."""

REPEATED_CHARS: Final = 1000
"""A text at least this long is shown once on a page; later it is said where."""


class Kind(StrEnum):
    """What a part of a message is."""

    TEXT = "text"
    CALL = "call"
    RESULT = "result"
    REASONING = "reasoning"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Part:
    """A part as it is shown.

    `chars` is how long its text is; `more` how much of that is left out; `as_in` the id of the exchange on the same
    page that shows it, then `body` is empty.
    """

    kind: Kind
    label: str
    body: Markup
    chars: int
    more: int = 0
    as_in: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A message; that of a `system` is folded away."""

    role: str
    parts: list[Part]

    @property
    def folded(self) -> bool:
        """Say whether it is seldom read."""
        return self.role in {"system", "developer"}


# A part before it is shown: its kind, its label, and its text, arguments or JSON.
Raw = tuple[Kind, str, Any]


class Page:
    """What one page has shown: how much at all, how much code was coloured, and where long texts stand.

    `cut` is the longest text.
    """

    def __init__(self, cut: int) -> None:
        self._cut = cut
        self._left = MAX_PAGE_CHARS
        self.highlighter = Highlighter()
        self._shown: dict[str, str] = {}

    @property
    def is_full(self) -> bool:
        """Say whether nothing more is to be shown."""
        return self._left == 0

    def take(self, chars: int) -> int:
        """Return how many characters of one more part are shown."""
        shown = min(chars, self._cut, self._left)
        self._left = max(self._left - shown - PART_CHARS, 0)
        return shown

    def shown_in(self, text: str, exchange: str) -> str | None:
        """Return the exchange that has shown this long text before; note that this one does."""
        if len(text) < REPEATED_CHARS:
            return None
        first = self._shown.setdefault(text, exchange)
        return None if first == exchange else first


class Teller:
    """Show what is said in one exchange and one direction."""

    def __init__(self, page: Page, exchange: str, findings: Findings, direction: Direction) -> None:
        self._page = page
        self._exchange = exchange
        self._findings = findings
        self._direction = direction

    def message(self, message: Any, place: str | None) -> Message:  # noqa: ANN401 - as a client sent it
        """Return a message; `place` is where it stands in the body."""
        role = "?"
        if isinstance(message, dict):
            role = shapes.text(message.get("role")) or shapes.text(message.get("type")) or "request"
        self._page.take(0)
        return Message(role, self.parts(_parts_of(message), place))

    def parts(self, raw: Iterable[Raw], place: str | None = None) -> list[Part]:
        """Return parts, as many as there is room for on the page."""
        room = takewhile(lambda _: not self._page.is_full, raw)
        return [self.part(kind, label, value, place) for kind, label, value in room]

    def part(self, kind: Kind, label: str, value: Any, place: str | None = None) -> Part:  # noqa: ANN401 - JSON
        """Return a part: `value` is its text, or for a call the arguments, or any JSON."""
        if kind is Kind.CALL:
            text = change.told(label, value)
        else:
            text = value if isinstance(value, str) else shapes.indented(value)
        chars = len(text)
        if self._direction is Direction.PROMPT and (first := self._page.shown_in(text, self._exchange)) is not None:
            self._page.take(0)
            return Part(kind, label, Markup(), chars, as_in=first)
        text = text[: self._page.take(chars)]
        return Part(kind, label, self._body(kind, text, place), chars, more=chars - len(text))

    def _body(self, kind: Kind, text: str, place: str | None) -> Markup:
        marker = self._findings.marker(text, self._direction, place)
        if kind is Kind.CALL:
            return change.shown(text, marker)
        if kind in {Kind.TEXT, Kind.REASONING}:
            return prose(visible(text), marker, self._page.highlighter)
        return quoted(visible(text), marker)


def begin_of_turn(messages: list[Any]) -> int:
    """Return where the messages begin that come after the last one of the model: agents send all others again."""
    return next((at + 1 for at in reversed(range(len(messages))) if _is_of_model(messages[at])), 0)


def place_of(endpoint: Any, messages: list[Any], at: int) -> str | None:  # noqa: ANN401 - JSON
    """Return where a message stood in the body, as `where` of findings names it; None where that is not known.

    Dialects put before the messages what stood elsewhere (`parse_request` in `extproc.dialect`).
    """
    match endpoint:
        case "chat":
            return f"messages[{at}]"
        case "messages":
            system = int(bool(messages) and shapes.members(messages[0]).get("role") == "system")
            return f"messages[{at - system}]" if at >= system else "system"
        case _:
            # Responses: context, instructions and items of the input are told apart by their offsets.
            return None


def _is_of_model(message: Any) -> bool:  # noqa: ANN401 - JSON
    if not isinstance(message, dict):
        return False
    kind = message.get("type")
    return message.get("role") == "assistant" or (
        # The items of responses: a model's calls and thoughts have no role.
        isinstance(kind, str) and "role" not in message and (kind == "reasoning" or kind.endswith("_call"))
    )


_TEXTS: Final = frozenset({"text", "input_text", "output_text", "summary_text", "reasoning_text", "refusal"})
_NOT_SAID: Final = frozenset(
    {
        "role",
        "content",
        "tool_calls",
        "type",
        "id",
        "call_id",
        "tool_call_id",
        "tool_use_id",
        "name",
        "arguments",
        "input",
    }
    | {"output", "summary", "cache_control", "copilot_cache_control", "encrypted_content", "status", "is_error"}
)


def _parts_of(message: Any) -> Iterator[Raw]:  # noqa: ANN401 - JSON
    if not isinstance(message, dict):
        yield (Kind.TEXT, "", message) if isinstance(message, str) else (Kind.OTHER, "", message)
        return
    if "role" not in message and not _is_item(message):
        yield from _of_body(message)
        return
    yield from _of_content(message)
    for call in shapes.elements(message.get("tool_calls")):
        yield _of_call(call)
    rest = {name: value for name, value in message.items() if name not in _NOT_SAID and value not in (None, "", [], {})}
    if rest:
        yield Kind.OTHER, "other members", rest


def _is_item(message: dict[str, Any]) -> bool:
    return isinstance(message.get("type"), str) and not message.keys().isdisjoint(
        {"content", "output", "summary", "call_id"}
    )


def _of_body(body: dict[str, Any]) -> Iterator[Raw]:
    """Yield the long texts of a body that is no message, and the rest as JSON."""
    rest = dict(body)
    for name, value in body.items():
        if isinstance(value, str) and ("\n" in value or len(value) > 200):
            yield Kind.RESULT, name, rest.pop(name)
    if rest:
        yield Kind.OTHER, "", rest


def _of_content(message: dict[str, Any]) -> Iterator[Raw]:
    kind = str(message.get("type") or "")
    if kind.endswith("_call"):
        yield Kind.CALL, shapes.text(message.get("name")) or kind, message.get("arguments", message.get("input", {}))
        return
    is_result = message.get("role") in {"tool", "function"} or kind.endswith("_output")
    content = message.get("output") if "output" in message else message.get("content")
    if kind == "reasoning":
        content = [*shapes.elements(message.get("summary")), *shapes.elements(message.get("content"))]
    for part in content if isinstance(content, list) else [content]:
        yield from _of_part(part, _kind_of(kind, is_result=is_result))


def _kind_of(item: str, *, is_result: bool) -> Kind:
    if item == "reasoning":
        return Kind.REASONING
    return Kind.RESULT if is_result else Kind.TEXT


def _of_part(part: Any, kind: Kind) -> Iterator[Raw]:  # noqa: ANN401 - JSON
    match part:
        case None | "":
            return
        case str():
            yield kind, "", part
        case {"type": str() as name, "text": str() as text} if name in _TEXTS:
            yield kind, "", text
        case {"type": "thinking", "thinking": str() as text}:
            yield Kind.REASONING, "", text
        case {"type": "tool_use", "name": str() as name, "input": arguments}:
            yield Kind.CALL, name, arguments
        case {"type": "tool_result", "content": list() as parts}:
            for one in parts:
                yield from _of_result(one)
        case {"type": "tool_result"}:
            yield from _of_result(part.get("content"))
        case _:
            yield Kind.OTHER, "", part


def _of_result(part: Any) -> Iterator[Raw]:  # noqa: ANN401 - JSON
    match part:
        case None | "":
            return
        case str():
            yield Kind.RESULT, "", part
        case {"type": "text", "text": str() as text}:
            yield Kind.RESULT, "", text
        case _:
            yield Kind.OTHER, "result", part


def _of_call(call: Any) -> Raw:  # noqa: ANN401 - JSON
    match call:
        case {"function": {"name": str() as name, "arguments": arguments}}:
            return Kind.CALL, name, arguments
        case {"custom": {"name": str() as name, "input": arguments}}:
            return Kind.CALL, name, arguments
        case {"name": str() as name, "arguments": arguments}:
            return Kind.CALL, name, arguments
        case _:
            return Kind.OTHER, "call", call
