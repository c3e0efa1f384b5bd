"""Read the JSON object of a request, and refuse it where the next reader could understand something else."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from typing import Any, Final

import msgspec

from extproc.dialect.port import BadRequest

# Whoever walks a prompt later may recurse, so deeper JSON is refused. Tool schemas of real clients are about 10 deep.
MAX_DEPTH: Final = 100

# Lists and objects at most: each costs a third of a microsecond to decode and check, and meanwhile nothing else runs.
# Brackets inside texts count as well; a real agent turn of 200 KB has a few thousand.
MAX_CONTAINERS: Final = 500_000

_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NAME: Final = re.compile(rb'[{,\s]*+"[^"\\]*+(?:\\.[^"\\]*+)*+"\s*+:\s*+')
# Decoded JSON has exactly these types, and comparing types costs half of what `isinstance` does.
_CONTAINERS: Final = frozenset({dict, list})
_END: Final = re.compile(rb"[{\s]*+}")


def read_fields(body: bytes, names: AbstractSet[str]) -> dict[str, Any]:
    """Return those of the top-level fields `names` (in lower case) that the JSON object in `body` has.

    Raises `BadRequest` for a body that is not one JSON object in UTF-8 (RFC 8259, so no NaN; lone surrogates neither),
    that is nested deeper than `MAX_DEPTH`, has a top-level field twice, or spells one of `names` in another case
    (Go's encoding/json takes `Model` for `model`).
    """
    members = _members(body)
    if _has_duplicates(body, members):
        raise BadRequest("the body has a top-level field twice")
    for name in members:
        if (folded := name.casefold()) in names and name not in names:
            raise BadRequest(f"{folded}: expected the name in lower case")
    try:
        fields = {name: msgspec.json.decode(members[name]) for name in names & members.keys()}
    except msgspec.DecodeError as error:
        raise BadRequest("the body has a number that is out of range") from error
    _check_depth(fields)
    return fields


def read_stream(fields: dict[str, Any]) -> bool:
    """Return whether a request asks for a stream; raises `BadRequest`."""
    stream = fields.get("stream")
    if not (stream is None or isinstance(stream, bool)):
        raise BadRequest("stream: expected true or false")
    return bool(stream)


def _members(body: bytes) -> dict[str, msgspec.Raw]:
    if not body.strip():
        raise BadRequest("the body is empty; expected a JSON object")
    # A shorter body cannot have so many, and counting takes longer than reading.
    if len(body) > MAX_CONTAINERS and (
        body.count(b"[") + body.count(b"{") > MAX_CONTAINERS or body.count(b":") > 4 * MAX_CONTAINERS
    ):
        raise BadRequest(f"the body has more than {MAX_CONTAINERS} lists and objects")
    try:
        body.decode()  # msgspec does not look at the encoding of what it leaves undecoded
        return _MEMBERS.decode(body)
    except UnicodeDecodeError as error:
        raise BadRequest("the body is not UTF-8; expected a JSON object") from error
    except RecursionError as error:
        raise BadRequest("the body is nested too deeply") from error
    except msgspec.ValidationError as error:
        raise BadRequest("the body: expected a JSON object") from error
    except msgspec.DecodeError as error:
        # The message of msgspec gives a position, never a value.
        raise BadRequest(f"the body: {error}") from error


def _has_duplicates(body: bytes, members: dict[str, msgspec.Raw]) -> bool:
    """Say whether the object in `body`, which is valid JSON, has more pairs than `members` kept of it.

    Walks the object alongside the members: without duplicates they are all its pairs, in its order; with one, some
    value differs on the way or pairs are left at the end. Costs little, because no value is looked into.
    """
    position = 0
    for raw in members.values():
        value = bytes(raw)
        name = _NAME.match(body, position)
        if name is None or not body.startswith(value, name.end()):
            return True
        position = name.end() + len(value)
    return _END.match(body, position) is None


def _check_depth(value: dict[str, Any]) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) in _CONTAINERS
        ]
        if not level:
            return
    raise BadRequest("the body is nested too deeply")
