"""What masking costs: CPU for each event of a stream, how late text leaves because of it, how much text it can read.

CPU is that of the thread, so other programs disturb it only through caches and clock speeds.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any, Final

from bench import texts
from extproc import json_body
from extproc.dialect.port import Dialect
from extproc.dialect.sse import SseParser
from extproc.endpoint import EndpointKind
from extproc.masking.anchors import anchors
from extproc.masking.body import masked_json
from extproc.masking.finding import Direction, Hit
from extproc.masking.masker import Masking
from extproc.masking.policy import MaskingPolicy
from extproc.masking.stream import MaskedStream
from extproc.rules import DIALECTS
from tests.detecting import FINGERPRINTS, loaded, masking
from tests.masking.fields import STREAMED, Streamed, compact, trees_of

_MAX_EVENT_BYTES: Final = 1 << 20
_PIECE_CHARS: Final = 4096
_FIELDS: Final = {
    name: next(one for one in STREAMED if (one.kind, one.name) == (kind, field))
    for name, kind, field in (
        ("chat", EndpointKind.CHAT, "content"),
        ("responses", EndpointKind.RESPONSES, "output_text"),
        ("messages", EndpointKind.MESSAGES, "text_delta"),
    )
}
_CHAT: Final = DIALECTS[EndpointKind.CHAT]
_TEXTS: Final = {"prose": texts.prose, "code": texts.code, "armed": texts.armed}
Feed = Callable[[bytes], object]


class _FindsNothing:
    """Stand in for a detector: there is nothing to find, so nothing is ever held."""

    patterns: Mapping[str, str] = {}
    digest = ""

    def scan(self, data: bytes, since: int = 0) -> list[Hit]:  # noqa: ARG002 - the port's shape
        return []

    def suspects(self, data: bytes) -> list[Hit]:  # noqa: ARG002 - the port's shape
        return []

    def set_of(self, rule: str) -> str:  # noqa: ARG002 - the port's shape
        return "secrets"


_IDLE: Final = Masking(_FindsNothing(), MaskingPolicy(), FINGERPRINTS)


def _stream(of: Masking, dialect: Dialect) -> MaskedStream:
    return MaskedStream(dialect, of.masker(Direction.ANSWER), max_event_bytes=_MAX_EVENT_BYTES)


def _unmasked(dialect: Dialect) -> Feed:
    """Return what only parses, decodes, reads and takes the events, as a gateway that records must anyway."""
    parser, answers = SseParser(_MAX_EVENT_BYTES), dialect.stream()

    def feed(data: bytes) -> bytes:
        released = []
        for event in parser.feed(data):
            tree: Any = json_body.decoded(event.data or b"")
            answers.read(event.event, tree)
            answers.take(event.event, tree)
            released.append(event.raw)
        return b"".join(released)

    return feed


# --- CPU -------------------------------------------------------------------------------------------------------------


def cpu(*, quick: bool) -> list[dict[str, Any]]:
    """Return the µs of each event without masking, what masking adds, and what it adds where nothing is looked for."""
    count, rounds = (800, 3) if quick else (3000, 9)
    lines = []
    for name, where in _FIELDS.items():
        for kind, text in (("prose", texts.prose(count * 10)), ("code", texts.code(count * 10))):
            cut = texts.pieces(text)[:count]
            dialect = DIALECTS[where.kind]
            events = [where.frame(tree) for tree in [*where.around("")[0], *map(where.event, cut)]]
            ways: list[Callable[[], Feed]] = [
                lambda dialect=dialect: _unmasked(dialect),  # type: ignore[misc]
                lambda dialect=dialect: _stream(masking(), dialect).feed,  # type: ignore[misc]
                lambda dialect=dialect: _stream(_IDLE, dialect).feed,  # type: ignore[misc]
            ]
            taken = [[_per_event(way(), events) for way in ways] for _ in range(rounds + 1)][1:]
            lines.append(
                {
                    "dialect": name,
                    "text": kind,
                    "median_chars": texts.median_chars(cut),
                    "unmasked_us": median(one[0] for one in taken),
                    "added_us": median(one[1] - one[0] for one in taken),
                    "added_max_us": max(one[1] - one[0] for one in taken),
                    "added_idle_us": median(one[2] - one[0] for one in taken),
                }
            )
    return lines


def _per_event(feed: Feed, events: Sequence[bytes]) -> float:
    began = time.thread_time()
    for event in events:
        feed(event)
    return (time.thread_time() - began) / len(events) * 1e6


# --- Hold-back -------------------------------------------------------------------------------------------------------


def hold_back(*, quick: bool) -> dict[str, Any]:
    """Return by how many events each character is late, for several kinds of text, and the first one of an answer."""
    chars = 20_000 if quick else 150_000
    kinds = {name: texts.pieces(_clean(text(chars))) for name, text in _TEXTS.items()}
    kinds["words that begin no secret"] = _harmless_words(texts.prose(chars))
    where = _FIELDS["chat"]
    late = {kind: _distribution(_late(where, cut)) for kind, cut in kinds.items()}
    starts = [texts.pieces(text[:200]) for text in texts.prose(chars).split("\n\n") if len(text) > 60]
    first = [_late(where, cut)[0] for cut in starts[: 100 if quick else 1000]]
    return {"late": late, "first": _distribution(first)}


def _late(where: Streamed, cut: Sequence[str]) -> list[int]:
    """Return for each character how many events after its own it leaves; one event after another, one piece each."""
    stream = _stream(masking(), DIALECTS[where.kind])
    before, after = where.around("")
    arrived: list[int] = []
    late: list[int] = []
    for number, tree in enumerate([*before, *map(where.event, cut), *after]):
        said = where.joined([tree])
        arrived += [number] * len(said)
        left = where.joined(list(trees_of(stream.feed(where.frame(tree)))))
        late += [number - arrived[len(late) + at] for at in range(len(left))]
    if stream.masker.findings or len(late) != len(arrived):
        raise AssertionError("the text of this measurement holds no secret, and all of it must leave")
    return late


def _clean(text: str) -> str:
    """Return the text without lines in which anything is found: what is masked is not late."""
    scan = loaded().scan
    return "\n".join(line for line in text.split("\n") if not scan(line.encode()))


def _harmless_words(text: str) -> list[str]:
    """Return as pieces only those words that are no beginning of a secret and contain nothing that announces one."""
    detector = loaded()
    known = anchors(detector.patterns.items(), detector.patterns)
    words = re.findall(r"[a-z]{2,}", text)
    return [
        f" {word}" for word in words if not known.keyword_ends(f" {word} ") and not known.begins(word, 0, len(word))
    ]


def _distribution(values: Iterable[int]) -> dict[str, Any]:
    ordered = sorted(values)
    return {
        "count": len(ordered),
        "at_once": ordered.count(0) / len(ordered),
        "p50": ordered[len(ordered) // 2],
        "p99": ordered[len(ordered) * 99 // 100],
        "max": ordered[-1],
    }


# --- Throughput ------------------------------------------------------------------------------------------------------


def throughput(*, quick: bool) -> list[dict[str, Any]]:
    """Return the MB/s of each way to mask plain text, beside the engine's own scan of the same text in one piece."""
    size, rounds = (200_000, 3) if quick else (1_000_000, 7)
    lines = []
    for kind, text in (("prose", texts.prose(size)), ("code", texts.code(size))):
        data = text.encode()
        small = [text[at : at + _PIECE_CHARS] for at in range(0, len(text), _PIECE_CHARS)]
        prompt = _prompt(text[:200_000])
        ways: dict[str, tuple[Callable[[], object], int]] = {
            "engine": (lambda data=data: loaded().scan(data), len(data)),  # type: ignore[misc]
            "channel, whole": (lambda text=text: _through_channel([text]), len(data)),  # type: ignore[misc]
            "channel, 4 KB pieces": (lambda small=small: _through_channel(small), len(data)),  # type: ignore[misc]
            "masked_json, 200 KB prompt": (
                lambda prompt=prompt: masked_json(prompt, masking().masker(Direction.PROMPT), _CHAT),  # type: ignore[misc]
                len(prompt),
            ),
        }
        speeds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, (way, length) in ways.items():
                began = time.thread_time()
                way()
                speeds[name].append(length / (time.thread_time() - began) / 1e6)
        engine = speeds["engine"]
        for name, taken in speeds.items():
            ratio = median(one / other for one, other in zip(taken, engine, strict=True))
            lines.append({"text": kind, "way": name, "mb_per_s": median(taken), "of_engine": ratio})
    return lines


def _through_channel(parts: Sequence[str]) -> None:
    channel = masking().masker(Direction.ANSWER).plain_channel()
    for part in parts:
        channel.feed(part)
    channel.finish()


def _prompt(text: str) -> bytes:
    """Return a request of ten messages."""
    size = len(text) // 10
    parts = [text[at : at + size] for at in range(0, len(text), size)]
    return compact({"model": "m", "messages": [{"role": "user", "content": part} for part in parts], "stream": True})
