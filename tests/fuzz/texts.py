"""Fuzz what masks one text: plain, JSON, and with private keys in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random

from extproc.dialect.port import Form
from extproc.masking.channel import WINDOW_CHARS, Channel
from extproc.masking.finding import Direction
from extproc.masking.json_text import JsonChannel
from extproc.masking.masker import applied
from tests.detecting import masking
from tests.fuzz.mutate import cut, mutated, spelled
from tests.fuzz.planted import assert_hidden, harmless, planted
from tests.masking.corpus import Sample, private_key

Note = Callable[[bytes], None]

MOST_WAITING = 3 * WINDOW_CHARS
"""A channel holds no more than this between two calls, in characters."""


def channel(random: Random, note: Note) -> None:
    """Plain text: with a secret that must not show, or mutated."""
    sample = planted(random)
    text = sample.text
    if havoc := random.random() < 0.5:
        text = _mutated(text * random.choice((1, 1, 1, 30)), random)
    note(text.encode("utf-8", "surrogatepass"))
    out = _masked_twice(text, Form.PLAIN, random)
    if not havoc:
        assert_hidden(sample, out)


def json_text(random: Random, note: Note) -> None:
    """Text that is JSON: it stays valid, and what its strings say is looked at decoded."""
    sample = planted(random)
    tree = {"path": "/w/a.py", "text": sample.text, "n": [1, {"more": harmless(random)}]}
    text = spelled(tree, random)
    if havoc := random.random() < 0.5:
        text = _mutated(text, random)
    note(text.encode("utf-8", "surrogatepass"))
    out = _masked_twice(text, Form.JSON, random)
    if not havoc:
        read = json.loads(out)
        assert_hidden(sample, out, read["text"])
        assert set(read) == set(tree)
        assert read["path"] == tree["path"]
        assert read["n"] == tree["n"]


def keys(random: Random, note: Note) -> None:
    """Private keys as they stand in files and in code, mutated or cut off."""
    pem = private_key(random)
    lines = pem.splitlines()
    shapes = (
        pem,
        pem.replace("\n", "\r\n"),
        pem.replace("\n", "\\n"),
        "\n".join(f'    "{line}\\n" +' for line in lines),
        "\n".join(f"  {line}" for line in lines),
        "\n".join(lines[: random.randint(3, len(lines))]),
        pem.replace("PRIVATE KEY", "RSA PRIVATE KEY").replace("\n", "\nProc-Type: 4,ENCRYPTED\n\n", 1),
    )
    before, after = harmless(random), harmless(random)
    text = f"{before}\n{random.choice(shapes)}\n{after}"
    if havoc := random.random() < 0.4:
        text = _mutated(text, random)
    note(text.encode("utf-8", "surrogatepass"))
    out = _masked_twice(text, Form.PLAIN, random)
    if not havoc:
        assert_hidden(Sample("private-key", "file", text, "".join(lines[1:-1])), out)
        assert out.startswith(before)
        assert out.endswith(after), f"what follows a key is gone: {out!r}"


def _mutated(text: str, random: Random) -> str:
    return mutated(text.encode(), random).decode("utf-8", random.choice(("replace", "surrogateescape")))


def _masked_twice(text: str, form: Form, random: Random) -> str:
    whole = _masked([text], form)
    for _ in range(2):
        pieces = cut(text, random)
        again = _masked(pieces, form)
        assert again == whole, f"cut as {[len(piece) for piece in pieces]} it is {again!r}, whole it is {whole!r}"
    return whole


def _masked(pieces: Sequence[str], form: Form) -> str:
    """Return the masked text; fail where what is decided does not add up, or too much is held."""
    one: Channel | JsonChannel = masking().masker(Direction.ANSWER).channel(form)
    ops, arrived, decided = [], 0, 0
    for piece in pieces:
        new = one.feed(piece)
        ops += new
        arrived += len(piece)
        decided += sum(op.count for op in new)
        assert decided + one.waiting == arrived, f"{arrived} came, {decided} are decided, {one.waiting} wait"
        assert one.waiting <= MOST_WAITING, f"{one.waiting} characters wait"
    ops += one.finish()
    assert sum(op.count for op in ops) == arrived, "characters are lost at the end"
    return applied("".join(pieces), ops)
