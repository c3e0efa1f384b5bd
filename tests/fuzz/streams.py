"""Fuzz the streamed answers of every dialect."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from random import Random
from typing import Any

from extproc.dialect.sse import EventTooLarge, SseParser
from extproc.endpoint import EndpointKind
from extproc.masking.finding import Direction
from extproc.masking.stream import MaskedStream
from extproc.rules import DIALECTS
from tests.detecting import masking
from tests.fuzz.formats import goldens
from tests.fuzz.mutate import cut, mutated, mutated_tree, spelled
from tests.fuzz.planted import assert_hidden, harmless, planted
from tests.fuzz.texts import MOST_WAITING, Note
from tests.masking.fields import STREAMED, Streamed, Tree, decoded, strings
from tests.masking.shown import put_in

_EXTRA: tuple[Any, ...] = (10**30, 1.5, 2**63, "é😀", None, {"a": {}}, [1e22], "\ud83d")


def valid(kind: EndpointKind, random: Random, note: Note) -> None:
    """Stream a secret among other texts, in any pieces and spelling: it must not show, all else must arrive."""
    fields = [one for one in STREAMED if one.kind is kind]
    if not fields:
        return
    where = random.choice(fields)
    # Content is one text to a client, whether it comes as a string or in parts.
    other = random.choice([one for one in fields if one is where or one.name.split()[0] != where.name.split()[0]])
    sample, aside = planted(random), harmless(random)
    with_secret = random.random() < 0.8
    text = sample.text if with_secret else harmless(random)
    trees = _woven(where, put_in(text, is_json=where.is_json), other, put_in(aside, is_json=other.is_json), random)
    data = b"".join(_framed(tree, where, random) for tree in trees)
    note(data)
    out, again = (_run(kind, cut(data, random), random) or b"" for _ in range(2))
    assert _said(out) == _said(again), f"it depends on how the bytes were cut: {out!r} or {again!r}"
    if not with_secret:
        assert _lines(out) == _lines(data), f"nothing was to be masked, yet it is {out!r}"
        return
    read = [tree for tree in _data(out) if isinstance(tree, dict)]
    joined = where.joined(read)
    assert_hidden(sample, out.decode("utf-8", "replace"), joined, *(text for tree in read for text in strings(tree)))
    assert len(read) == len(trees)
    assert sorted(repr(tree.get("x_extra")) for tree in read) == sorted(repr(tree.get("x_extra")) for tree in trees)
    if where.is_json:
        assert isinstance(json.loads(joined), dict)
        assert_hidden(sample, *strings(json.loads(joined)))
    if other is not where:
        assert other.joined(read) == other.joined(trees), "another text was changed"


def havoc(kind: EndpointKind, random: Random, note: Note) -> None:
    """Change a stream anyhow: nothing raises, nothing depends on the cuts, what is not masked stays."""
    data = random.choice(goldens(f"{kind}/*.sse") or goldens("chat/*.sse"))
    if random.random() < 0.1:
        note(data)
        out = _run(kind, cut(data, random), random)
        # Only comments pass what waits.
        assert _raws(out) == _raws(data), f"a valid stream was changed: {out!r}"
        assert list(_data(out)) == list(_data(data)), f"events changed places: {out!r}"
        return
    if random.random() < 0.6:
        data = b"".join(_changed(event, random) for event in data.split(b"\n\n"))
    if random.random() < 0.6:
        data = mutated(data, random)
    note(data)
    largest = random.choice((200, 1 << 20, 1 << 20))
    first, second = (_run(kind, cut(data, random), random, largest) for _ in range(2))
    assert (first is None) == (second is None)
    assert _said(first) == _said(second), f"it depends on how the bytes were cut: {first!r} or {second!r}"


def _woven(where: Streamed, text: str, other: Streamed, aside: str, random: Random) -> list[Tree]:
    """Return the events of one text, those of another among them."""
    before, after = where.around(text)
    own, others = [where.event(piece) for piece in cut(text, random)], []
    if other is not where:
        others = [other.event(piece) for piece in cut(aside, random)]
    trees = list(before)
    while own or others:
        trees.append((own if own and (not others or random.random() < 0.6) else others).pop(0))
    return [tree | ({"x_extra": random.choice(_EXTRA)} if random.random() < 0.2 else {}) for tree in [*trees, *after]]


def _framed(tree: Tree, where: Streamed, random: Random) -> bytes:
    """Write an event as upstreams may: with a comment before it, an id, its data on several lines."""
    end = random.choice(("\n", "\n", "\r\n"))
    lines = [f"data: {line}" for line in spelled(tree, random).split("\n")]
    if where.named:
        lines.insert(0, f"event: {tree['type']}")
    if random.random() < 0.1:
        lines.insert(random.randint(0, len(lines)), f"id: {random.randrange(100)}")
    comment = f": keepalive{end}{end}" if random.random() < 0.05 else ""
    return (comment + end.join(lines) + end + end).encode("utf-8", "surrogatepass")


def _changed(event: bytes, random: Random) -> bytes:
    head, data, rest = event.partition(b"data: ")
    tree = decoded(rest)
    if data and not isinstance(tree, str) and random.random() < 0.3:
        rest = _spelled_line(tree, random)
    return b"" if random.random() < 0.03 else head + data + rest + b"\n\n"


def _spelled_line(tree: Any, random: Random) -> bytes:
    return spelled(mutated_tree(tree, random), random).replace("\n", " ").encode("utf-8", "surrogatepass")


def _run(kind: EndpointKind, chunks: Sequence[bytes], random: Random, largest: int = 1 << 20) -> bytes | None:
    """Return what leaves, None where an event was too large; fail where too much is held or something is lost."""
    masker = masking().masker(Direction.ANSWER)
    stream = MaskedStream(DIALECTS[kind], masker, max_event_bytes=largest)
    out = []
    try:
        for chunk in chunks:
            out.append(stream.feed(chunk))
            for line in stream._lines.values():
                assert line.channel.waiting <= MOST_WAITING, f"{line.channel.waiting} characters of {line.name} wait"
            if random.random() < 0.02:
                _ends_anywhere(stream)
        out.append(stream.finish())
    except EventTooLarge:
        return None
    _ends_anywhere(stream)
    if not masker.findings:
        came, left = b"".join(chunks), b"".join(out)
        assert _lines(left) == _lines(came), f"something is lost: {left!r}"
        assert len(_said(left)) >= len(_said(came)), f"two events became one: {left!r}"
    return b"".join(out)


def _ends_anywhere(stream: MaskedStream) -> None:
    asdict(stream.answer())
    for tree in _data(stream._answers.ending("The end.")):
        assert isinstance(tree, dict) or tree == "[DONE]"


def _data(stream: bytes | None) -> Iterator[Any]:
    for event in _events(stream):
        if event.data:
            yield decoded(event.data)


def _raws(stream: bytes | None) -> list[bytes]:
    return sorted(event.raw for event in _events(stream))


def _lines(stream: bytes | None) -> list[str]:
    """Return what a stream says, sorted; what is no JSON line by line, because it may leave as several events."""
    said: list[Any] = []
    for tree in _data(stream):
        lines = filter(None, tree.splitlines()) if isinstance(tree, str) else [tree]
        said += [decoded(one.encode("utf-8", "surrogatepass")) if isinstance(one, str) else one for one in lines]
    return sorted(map(repr, said))


def _said(stream: bytes | None) -> list[tuple[str, bytes]]:
    # Comments pass what waits, and so does the LF of a CRLF that was cut in two.
    return [(event.event, event.data) for event in _events(stream) if event.data is not None]


def _events(stream: bytes | None) -> list[Any]:
    parser = SseParser(1 << 24)
    return [*parser.feed(stream or b""), *parser.finish()]
