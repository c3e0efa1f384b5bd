"""Decode JSON that is to be masked, and write it again where it was changed. Pure."""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from typing import Any, Final

import msgspec

# The quote that ends a name and the colon after it; it may also begin a string or be inside one, and then there are
# too many.
_MEMBER: Final = re.compile(rb'"\s*+:')
# White space after the first bracket or the first colon: whoever writes so does not write as we do.
_SPACED: Final = re.compile(rb"[{\[]\s|[^:]++:\s")
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"(\s*+:)?', re.DOTALL)


def decoded(data: bytes) -> Any | None:  # noqa: ANN401 - decoded JSON
    """Return the JSON value in `data`, or None where it is none."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        # Halves of characters (RFC 8259 section 8.2) are legal to most readers; the usual decoder refuses them.
        return json.loads(data, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        return None


def encoded(tree: Any) -> bytes:  # noqa: ANN401 - decoded JSON
    """Return `tree` as JSON in one line."""
    try:
        return msgspec.json.encode(tree)
    except UnicodeEncodeError:
        return json.dumps(tree, separators=(",", ":")).encode()


def repeats(data: bytes, tree: Any, members: int) -> bool:  # noqa: ANN401 - decoded JSON
    """Say whether an object in `data` has a member twice, where it decodes to `tree`, whose objects have `members`.

    Another reader may then understand something else than what was looked at.
    """
    # Most clients write JSON without spaces, as we do: what was decoded is then all there is.
    with suppress(RecursionError):
        if _SPACED.match(data) is None and encoded(tree) == data:
            return False
    # JSON inside of strings, as calls of tools have it, is full of quotes; but they are escaped.
    plain = data.replace(b"\\\\", b"..").replace(b'\\"', b"..") if b"\\" in data else data
    if len(_MEMBER.findall(plain)) == members:
        return False
    return sum(map(bool, _STRING.findall(data))) != members


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError("a number that would come back as another")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON (RFC 8259 section 6)")
