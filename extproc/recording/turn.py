"""Say which turn of its session an exchange belongs to, and whether it is a prompt that was sent again.

A turn is all that one prompt of a person sets off: the request with it, those that bring results of tools, and those
that were sent again. Everything here follows from what clients say: labels for readers, never evidence.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from extproc.conversation import Prompt
from extproc.endpoint import Endpoint, EndpointKind
from extproc.headers import ClientFacts
from extproc.json_body import encoded

RETRY_SECONDS: Final = 900.0
"""So long after it was sent the same prompt counts as sent again: Copilot CLI waits 600 s for an answer to begin."""

REMEMBERED: Final = 20_000
"""So many prompts, and so many turns that no client names, are remembered; about half a kilobyte each."""

CONVERSATIONS: Final = frozenset(
    {EndpointKind.CHAT, EndpointKind.RESPONSES, EndpointKind.MESSAGES, EndpointKind.AGENTS}
)
"""Where a prompt can begin a turn, and be told when it is sent again."""

TITLE: Final = "title"
"""The purpose of a request that no person asked for: the client wants a title for the session."""

# opencode says it in a header. Copilot's language server asks for title and next question in one, by this only tool.
_TITLE_TYPE: Final = "agent-session-name-generation"
_TITLE_TOOL: Final = "showSuggestions"
_TOOL_RESULT: Final = "tool_result"  # in the messages dialect it comes in a message of the user
_COUNTING: Final = "/count_tokens"  # asks what a prompt would cost, before it is sent

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Gist:
    """What one has to know of a prompt to find it again.

    `digest` is of model, messages and tools, `asked` of the person's last message, None where there is none; `begins`
    says that nothing follows that message.
    """

    digest: bytes
    asked: bytes | None
    begins: bool
    wants_title: bool


@dataclass(slots=True)
class Turn:
    """The place of an exchange in its session; `failed` once it ended in any way but a whole answer."""

    exchange: str
    id: str | None
    retry_of: str | None
    purpose: str | None
    at: float
    failed: bool = False

    def recorded(self) -> dict[str, str | None]:
        """Return what the record keeps."""
        return {"id": self.id, "retry_of": self.retry_of, "purpose": self.purpose}


class Turns:
    """Find the turn of each exchange.

    What is remembered of earlier exchanges is in memory: a restart forgets it, other processes do not know it, and of
    more than `limit` the least recent go.
    """

    def __init__(self, *, limit: int = REMEMBERED) -> None:
        self._limit = limit
        self._sent: OrderedDict[tuple[str, str, str, bytes], Turn] = OrderedDict()
        self._begun: OrderedDict[tuple[str, bytes], str] = OrderedDict()

    def take(
        self, exchange: str, session: str, *, endpoint: Endpoint, client: ClientFacts, gist: Gist | None, now: float
    ) -> Turn:
        """Return the place of an exchange that is about to be let go at `now` (unix seconds), and remember it.

        `gist` is None where no prompt was read. The interaction id names the turn, unless it is the session's own.
        A prompt is sent again if the same was sent with the same interaction id within `RETRY_SECONDS`; without such an
        id only if that one failed, because anybody may ask the same twice.
        """
        named = None if client.interaction_id == client.session_id else client.interaction_id
        wants_title = client.interaction_type == _TITLE_TYPE or (gist is not None and gist.wants_title)
        turn = Turn(exchange, named, None, TITLE if wants_title else None, now)
        if gist is None:
            return turn
        sent = (session, named or "", endpoint.path, gist.digest)
        earlier = self._sent.get(sent)
        if earlier is not None and now - earlier.at <= RETRY_SECONDS and (named is not None or earlier.failed):
            turn.id, turn.retry_of = earlier.id, earlier.retry_of or earlier.exchange
        elif named is None and not wants_title and gist.asked is not None:
            begins = gist.begins and client.initiator != "agent" and not endpoint.path.endswith(_COUNTING)
            turn.id = self._unnamed((session, gist.asked), exchange if begins else None)
        _remember(self._sent, sent, turn, self._limit)
        return turn

    def _unnamed(self, prompt: tuple[str, bytes], beginning: str | None) -> str | None:
        """Return the turn of the prompt that was asked last: it has the id of the exchange that began it."""
        turn = beginning or self._begun.get(prompt)
        if turn is not None:
            _remember(self._begun, prompt, turn, self._limit)
        return turn


def gist_of(kind: EndpointKind, prompt: Prompt | None) -> Gist | None:
    """Return the gist of a prompt as it is after masking; None where there is no conversation to find it again in.

    It takes 1 ms for each megabyte.
    """
    if kind not in CONVERSATIONS or prompt is None or not prompt.messages:
        return None
    asked = next((message for message in reversed(prompt.messages) if _is_asked(message)), None)
    return Gist(
        digest=hashlib.sha256(encoded((prompt.model, prompt.messages, prompt.tools))).digest(),
        asked=None if asked is None else _digest_of_text(asked),
        begins=asked is not None and asked is prompt.messages[-1],
        wants_title=[_tool_name(tool) for tool in prompt.tools[:2]] == [_TITLE_TOOL],
    )


def _remember(memory: OrderedDict[_Key, _Value], key: _Key, value: _Value, limit: int) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > limit:
        memory.popitem(last=False)


def _is_asked(message: Any) -> bool:  # noqa: ANN401 - a message is JSON as the client sent it
    return (
        isinstance(message, dict)
        and message.get("role") == "user"
        and all(part.get("type") != _TOOL_RESULT for part in _parts(message))
    )


def _digest_of_text(message: dict[str, Any]) -> bytes:
    # The text alone: what stands beside it, such as marks of what to cache, moves from one request to the next.
    content = message.get("content")
    texts = [content] if isinstance(content, str) else [part.get("text") for part in _parts(message)]
    return hashlib.sha256(encoded(texts)).digest()


def _parts(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    content = message.get("content")
    return (part for part in (content if isinstance(content, list) else ()) if isinstance(part, dict))


def _tool_name(tool: Any) -> Any:  # noqa: ANN401 - a tool is JSON as the client sent it
    if not isinstance(tool, dict):
        return None
    function = tool.get("function")
    return function.get("name") if isinstance(function, dict) else tool.get("name")
