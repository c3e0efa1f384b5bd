"""What a route of the API is: who may use it, what it takes and answers, and how a request becomes a call of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec
from starlette.requests import Request

from extproc.console.page import Console
from extproc.console.roles import Role, Viewer
from extproc.errors import ExtprocError

MAX_BODY_BYTES: Final = 64 * 1024
BODY_SECONDS: Final = 10.0

Q = TypeVar("Q")
B = TypeVar("B")
T = TypeVar("T")


class Fault(ExtprocError):
    """Carry an error to the client: the status, a stable code and one sentence."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.status, self.code, self.message = status, code, message


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A query without parameters, or no body."""


@dataclass(frozen=True, slots=True)
class Call(Generic[Q, B]):
    """One request as its handler sees it: checked, of a viewer with one of the route's roles; `id` is in the path."""

    console: Console
    viewer: Viewer
    address: str | None
    id: str
    query: Q
    body: B


Handler = Callable[[Call[Any, Any]], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class ApiRoute:
    """A route: who may use it (`roles` None: whoever has a valid token), what makes the answer, and what it looks like.

    `answer` is the type of the answer; a handler may return the JSON itself as bytes. `fails` are the statuses that
    errors have beside those of every route (401, 403, 422, 503).
    """

    method: Literal["GET", "POST"]
    path: str
    handler: Handler
    roles: frozenset[Role] | None
    answer: Any
    summary: str
    query: type[msgspec.Struct] = Nothing
    body: type[msgspec.Struct] = Nothing
    max_body: int = MAX_BODY_BYTES
    fails: tuple[int, ...] = ()


def query_of(request: Request, shape: type[T]) -> T:
    """Return what is asked for; raises Fault.

    A parameter that comes twice is refused too: nobody knows which of them is meant.
    """
    given = dict(request.query_params)
    if len(given) != len(request.query_params.multi_items()):
        raise Fault(422, "query", "The query is not as expected: a parameter comes twice.")
    found = _valid(lambda: msgspec.convert(given, shape, strict=False), "query")
    # "null" would be taken for None, and a filter that is asked for would not filter.
    if nulls := [name for name in given if getattr(found, name) is None]:
        raise Fault(422, "query", f"The query is not as expected: `{nulls[0]}` has no such value.")
    return found


async def body_of(request: Request, shape: type[T], max_bytes: int) -> T:
    """Return what the body says; raises Fault."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > max_bytes:
                    raise Fault(413, "body", f"The body is longer than {max_bytes} bytes.")
    except TimeoutError:
        raise Fault(408, "body", f"The body did not arrive within {BODY_SECONDS:.0f} s.") from None
    return _valid(lambda: msgspec.json.decode(body, type=shape), "body")


def _valid(read: Callable[[], T], what: str) -> T:
    try:
        return read()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as fault:
        told = str(fault) if isinstance(fault, msgspec.MsgspecError) else "it is no JSON in UTF-8"
        raise Fault(422, what, f"The {what} is not as expected: {told[:200]}") from None
