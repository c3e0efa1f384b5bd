"""Change valid input a little, the same way for the same generator."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any, TypeVar

Text = TypeVar("Text", bytes, str)

_BYTES = (
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b":", b",", b"\n", b"\r\n", b"\r", b"\n\n", b"data: ", b"event: x", b"id:"),
    *(
        b"\0",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"\\u0041",
        b"\\ud83d",
        b"\\",
        b'\\"',
        b"[DONE]",
        b": c\n\n",
    ),
    *(b"null", b"true", b"-1", b"1e999", b"99999999999999999999", b"0.1", b'"index"', b"-----BEGIN PRIVATE KEY-----"),
    *(b"-----END PRIVATE KEY-----", b"password = ", b"ghp_", b"A" * 40, b" " * 300, b"[" * 200, b'{"a":' * 200),
)
_VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        0,
        -1,
        1.5,
        2**31,
        2**64,
        10**30,
        1e308,
        "",
        "x",
        "-1",
        "message",
        "\ud83d",
        "a\0b",
        "é😀",
        "x" * 5000,
    ),
    *(
        [],
        {},
        [[]],
        [{}],
        {"a": {}},
        [None] * 50,
        "password",
        {"index": -1},
        {"type": "text", "text": "t"},
        [1, "a", {}],
    ),
)
_NAMES = (
    "index",
    "type",
    "text",
    "delta",
    "content",
    "id",
    "choices",
    "arguments",
    "input",
    "role",
    "error",
    "name",
    "x",
)


def mutated(data: bytes, random: Random) -> bytes:
    """Return `data` with one to eight changes of bytes."""
    for _ in range(random.randint(1, 8)):
        start = random.randint(0, len(data))
        end = min(len(data), start + random.choice((0, 1, 1, 2, 8, 60)))
        kind = random.randrange(5)
        if kind == 0:
            data = data[:start] + data[end:]
        elif kind == 1:
            data = data[:start] + random.choice(_BYTES) + data[start:]
        elif kind == 2:
            data = data[:start] + random.randbytes(end - start) + data[end:]
        elif kind == 3:
            data = data[:end] + data[start:]
        else:
            at = random.randint(0, len(data))
            data = data[:at] + data[start:end] + data[at:]
    return data


def mutated_tree(tree: Any, random: Random) -> Any:
    """Return decoded JSON with one to three changes of members or values."""
    root = [json.loads(json.dumps(tree))]
    for _ in range(random.randint(1, 3)):
        holders = _holders(root)
        holder = random.choice(holders)
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys or random.random() < 0.15:
            _add(holder, random)
            continue
        key = random.choice(keys)
        kind = random.randrange(4)
        if kind == 0 and holder is not root:
            del holder[key]
        elif kind == 1:
            holder[key] = _value(random)
        elif kind == 2:
            holder[key] = deepcopy(random.choice([*_holders([holder[key]]), holder[key]]))
        else:
            holder[key] = random.choice(([holder[key]], {random.choice(_NAMES): holder[key]}))
    return root[0]


def _add(holder: Any, random: Random) -> None:
    if isinstance(holder, dict):
        holder[random.choice(_NAMES)] = _value(random)
    else:
        holder.insert(random.randint(0, len(holder)), _value(random))


def _value(random: Random) -> Any:
    # A copy: it may be the next to be changed.
    return deepcopy(random.choice(_VALUES))


def _holders(root: list[Any]) -> list[Any]:
    found: list[Any] = []
    todo: list[Any] = [root]
    while todo and len(found) < 500:
        value = todo.pop()
        if isinstance(value, dict | list):
            found.append(value)
            todo += value.values() if isinstance(value, dict) else value
    return found


def cut(data: Text, random: Random) -> list[Text]:
    """Cut into pieces of random sizes, one character or all of it among them."""
    largest = random.choice((1, 3, 12, 100, max(1, len(data))))
    pieces = []
    at = 0
    while at < len(data):
        size = random.randint(1, largest)
        pieces.append(data[at : at + size])
        at += size
    return pieces


def spelled(tree: Any, random: Random) -> str:
    r"""Write JSON as other writers may: letters as `\u0041`, blanks and line ends between tokens, slashes escaped."""
    rate = random.choice((0.0, 0.0, 0.05, 1.0))
    blank: Callable[[], str] = (lambda: "") if random.random() < 0.5 else (lambda: random.choice(("", " ", "\n", "\t")))
    return _spelled(tree, random, rate, blank)


def _spelled(tree: Any, random: Random, rate: float, blank: Callable[[], str]) -> str:
    if isinstance(tree, str):
        return '"' + "".join(_letter(char, random, rate) for char in tree) + '"'
    if isinstance(tree, dict):
        members = [
            f"{_spelled(name, random, rate, blank)}{blank()}:{blank()}{_spelled(value, random, rate, blank)}"
            for name, value in tree.items()
        ]
        return "{" + blank() + f"{blank()},{blank()}".join(members) + blank() + "}"
    if isinstance(tree, list):
        return "[" + f",{blank()}".join(_spelled(value, random, rate, blank) for value in tree) + "]"
    return json.dumps(tree)


def _letter(char: str, random: Random, rate: float) -> str:
    if rate and char.isascii() and random.random() < rate:
        return f"\\u{ord(char):04{random.choice('xX')}}"
    if char == "/" and random.random() < 0.1:
        return "\\/"
    return json.dumps(char, ensure_ascii=False)[1:-1]
