from __future__ import annotations

import itertools
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.dialect.sse import EventTooLarge, SseEvent, SseParser, framed, is_clean, rewritten

BOUND = 1 << 20


def events_of(chunks: list[bytes], bound: int = BOUND) -> list[SseEvent]:
    parser = SseParser(bound)
    return [event for chunk in chunks for event in parser.feed(chunk)] + parser.finish()


def parse(chunks: list[bytes], bound: int = BOUND) -> list[tuple[str, bytes]]:
    return [(event.event, event.data) for event in events_of(chunks, bound) if event.data is not None]


def raws(chunks: list[bytes]) -> list[bytes]:
    return [event.raw for event in events_of(chunks)]


def only(raw: bytes) -> SseEvent:
    (event,) = events_of([raw])
    return event


def cut(data: bytes, positions: list[int]) -> list[bytes]:
    edges = [0, *sorted(position % (len(data) + 1) for position in positions), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def reference(data: bytes) -> list[tuple[str, bytes]]:
    """Follow the standard to the letter, over the whole text, with the end of the text as one more blank line."""
    events = []
    name = ""
    lines: list[bytes] = []
    for line in [*re.split(rb"\r\n|\n|\r", data.removeprefix(b"\xef\xbb\xbf")), b""]:
        if not line:
            if lines:
                events.append((name or "message", b"\n".join(lines)))
            name, lines = "", []
            continue
        field, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if field == b"data":
            lines.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    return events


CASES = {
    "one line": (b"data: a\n\n", [("message", b"a")]),
    "no space after the colon": (b"data:a\n\n", [("message", b"a")]),
    "only the first space is dropped": (b"data:  a\n\n", [("message", b" a")]),
    "several lines": (b"data: a\ndata:\ndata: b\n\n", [("message", b"a\n\nb")]),
    "a field without a colon": (b"data\n\n", [("message", b"")]),
    "a name": (b"event: ping\ndata: a\n\ndata: b\n\n", [("ping", b"a"), ("message", b"b")]),
    "a name without data says nothing": (b"event: ping\n\ndata: a\n\n", [("message", b"a")]),
    "comments": (b": keepalive\n\n:\ndata: a\n: b\n\n", [("message", b"a")]),
    "unknown fields": (b"id: 7\nretry: 9\nDATA: x\n data: y\ndata: a\n\n", [("message", b"a")]),
    "CRLF": (b"data: a\r\n\r\ndata: b\r\n\r\n", [("message", b"a"), ("message", b"b")]),
    "CR": (b"data: a\r\rdata: b\r\r", [("message", b"a"), ("message", b"b")]),
    "mixed": (b"data: a\r\ndata: b\rdata: c\n\r\n", [("message", b"a\nb\nc")]),
    "many blank lines": (b"\n\n\ndata: a\n\n\n\n\ndata: b\n\n\n", [("message", b"a"), ("message", b"b")]),
    "a byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [("message", b"a")]),
    "a later byte order mark is text": (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [("message", b"a")]),
    "half a byte order mark": (b"\xef\xbbdata: a\n\ndata: b\n\n", [("message", b"b")]),
    "no blank line at the end": (b"data: a\n\ndata: b\n", [("message", b"a"), ("message", b"b")]),
    "no line end at the end": (b"data: a\n\ndata: b", [("message", b"a"), ("message", b"b")]),
    "an end inside a byte order mark": (b"\xef\xbb", []),
    "a name that is not UTF-8": (b"event: \xff\ndata: a\n\n", [("\ufffd", b"a")]),
    "nothing": (b"", []),
}


@pytest.mark.parametrize(("data", "events"), CASES.values(), ids=CASES.keys())
def test_events_are_those_of_the_standard_whole_and_byte_by_byte(data: bytes, events: list[tuple[str, bytes]]) -> None:
    assert parse([data]) == events
    assert parse([data[at : at + 1] for at in range(len(data))]) == events
    assert reference(data) == events


def test_an_event_is_returned_as_soon_as_its_blank_line_is_certain() -> None:
    parser = SseParser(BOUND)
    assert parser.feed(b"data: a\r\n\r") == [SseEvent(b"data: a\r\n\r", "message", b"a")]
    assert parser.feed(b"\ndata: b\n") == [SseEvent(b"\n", "message", None)]
    assert parser.feed(b"\n") == [SseEvent(b"data: b\n\n", "message", b"b")]
    assert parser.feed(b"data: c\r") == []
    assert parser.feed(b"\r") == [SseEvent(b"data: c\r\r", "message", b"c")]
    assert parser.finish() == []


def test_comments_before_an_event_are_returned_at_once_and_those_inside_are_part_of_it() -> None:
    parser = SseParser(BOUND)
    assert parser.feed(b": keep") == []
    assert parser.feed(b"alive\n") == [SseEvent(b": keepalive\n", "message", None)]
    assert parser.feed(b"\n") == [SseEvent(b"\n", "message", None)]
    assert parser.feed(b":\r\n:x\r:y\ndata: a\n: in") == [SseEvent(b":\r\n:x\r:y\n", "message", None)]
    assert parser.feed(b"side\n") == []
    assert parser.feed(b"\n") == [SseEvent(b"data: a\n: inside\n\n", "message", b"a")]


def test_what_says_nothing_has_no_data_but_its_bytes() -> None:
    data = b"\xef\xbb\xbfretry: 3\nid: 7\n\nevent: ping\n\nfoo\n\ndata\n\n"
    assert events_of([data]) == [
        SseEvent(b"\xef\xbb\xbf", "message", None),
        SseEvent(b"retry: 3\nid: 7\n\n", "message", None),
        SseEvent(b"event: ping\n\n", "ping", None),
        SseEvent(b"foo\n\n", "message", None),
        SseEvent(b"data\n\n", "message", b""),
    ]


def test_an_empty_chunk_between_cr_and_lf_changes_nothing() -> None:
    assert parse([b"data: a\r", b"", b"\ndata: b\r\n\r\n"]) == [("message", b"a\nb")]


def test_finish_hands_out_the_pending_event_only_once() -> None:
    parser = SseParser(BOUND)
    parser.feed(b"data: a")
    assert parser.finish() == [SseEvent(b"data: a", "message", b"a")]
    assert parser.finish() == []


LINES = st.sampled_from(
    [
        b"data: a",
        b"data:",
        b"data",
        b"data:  \xc3\xa9",
        b"event: x",
        b"event:",
        b": c",
        b"id: 1",
        b"",
        b"",
        b"\xef\xbb\xbf",
    ]
)
TEXTS = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"]))).map(
    lambda pairs: b"".join(line + end for line, end in pairs)
)


@given(
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.one_of(TEXTS, st.binary(max_size=60)),
    st.binary(max_size=3),
    st.lists(st.integers(min_value=0)),
)
def test_any_chunking_gives_the_events_of_the_reference(
    mark: bytes, text: bytes, tail: bytes, positions: list[int]
) -> None:
    data = mark + text + tail
    assert parse(cut(data, positions)) == reference(data)


@given(
    st.one_of(TEXTS, TEXTS.map(lambda text: b"\xef\xbb\xbf" + text), st.binary()), st.lists(st.integers(min_value=0))
)
def test_the_bytes_of_all_events_are_the_stream(data: bytes, positions: list[int]) -> None:
    assert b"".join(raws(cut(data, positions))) == data


@given(TEXTS, st.lists(st.integers(min_value=0)))
def test_nothing_is_kept_but_the_beginning_of_an_event_or_of_a_comment(data: bytes, positions: list[int]) -> None:
    parser = SseParser(BOUND)
    seen, out = b"", b""
    for chunk in cut(data, positions):
        seen += chunk
        out += b"".join(event.raw for event in parser.feed(chunk))
        kept = seen[len(out) :]
        assert seen == out + kept
        if kept.startswith(b":"):
            assert len(kept.splitlines(keepends=True)) == 1
            assert kept[-1:] not in {b"\n", b"\r"}
        elif kept not in {b"\xef", b"\xef\xbb"}:
            assert not re.match(rb"[\r\n]", kept)
            assert not re.search(rb"\n\n|\r\r|\n\r", kept)


@given(st.one_of(TEXTS, st.binary()), st.lists(st.integers(min_value=0)), st.integers(min_value=0, max_value=12))
def test_the_bound_holds_or_is_reported_the_same_for_any_chunking(
    data: bytes, positions: list[int], bound: int
) -> None:
    def outcome(chunks: list[bytes]) -> list[tuple[str, bytes]] | None:
        try:
            return parse(chunks, bound)
        except EventTooLarge:
            return None

    assert outcome(cut(data, positions)) == outcome([data])


def test_comments_are_bounded_each_on_its_own() -> None:
    assert raws([b": keepalive\n" * 1000]) == [b": keepalive\n" * 1000]
    parser = SseParser(11)
    assert parser.feed(b": keepalive\n\n" * 1000)
    with pytest.raises(EventTooLarge):
        parser.feed(b": keep-alive\n")


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_an_event_of_exactly_the_bound_passes_and_one_more_byte_does_not(step: int) -> None:
    data = b"data: " + b"x" * 94 + b"\n\n"
    chunks = [data[at : at + step] for at in range(0, len(data), step)]
    assert parse(chunks, 100) == [("message", b"x" * 94)]
    with pytest.raises(EventTooLarge, match="larger than 99 bytes"):
        parse(chunks, 99)


def test_an_event_without_end_is_refused_before_it_fills_the_memory() -> None:
    parser = SseParser(100)
    for _ in range(10):
        assert parser.feed(b"x" * 10) == []
    with pytest.raises(EventTooLarge):
        parser.feed(b"x")


def test_the_time_for_one_byte_chunks_grows_in_proportion_to_the_length() -> None:
    def cpu_seconds(length: int) -> float:
        parser = SseParser(1 << 30)
        started = time.process_time()
        for _ in range(length):
            parser.feed(b"x")
        return time.process_time() - started

    # 16 times the bytes: 16 times the time when linear, 256 times when quadratic; the margin is for a noisy machine.
    assert min(cpu_seconds(320_000) for _ in range(2)) < 80 * min(cpu_seconds(20_000) for _ in range(5))


REWRITTEN = {
    "the usual": (b"data: a\n\n", b"data: X\n\n"),
    "no space": (b"data:a\n\n", b"data: X\n\n"),
    "CRLF": (b"event: e\r\ndata: a\r\n\r\n", b"event: e\r\ndata: X\r\n\r\n"),
    "half of the last CRLF": (b"data: a\r\n\r", b"data: X\r\n\r"),
    "CR": (b"data: a\rid: 1\r\r", b"data: X\rid: 1\r\r"),
    "several lines": (b"data: a\nid: 1\ndata: b\ndata\n: c\n\n", b"data: X\nid: 1\n: c\n\n"),
    "other fields": (b"foo: s\ndata: a\n data: s\nbar\nretry: 9\nDATA: s\n\n", b"data: X\nretry: 9\n\n"),
    "no blank line": (b"data: a\n", b"data: X\n"),
    "no line end": (b"data: a", b"data: X"),
    "a short field after the data": (b"data: a\nx", b"data: X\n"),
    "no data": (b"event: e\nfoo: s\n\n", b"event: e\n\n"),
}


@pytest.mark.parametrize(("raw", "expected"), REWRITTEN.values(), ids=REWRITTEN.keys())
def test_a_rewritten_event_has_other_data_and_else_the_same_lines(raw: bytes, expected: bytes) -> None:
    assert rewritten(only(raw), b"X") == expected


@given(TEXTS, st.lists(st.sampled_from([b"a", b"", b"data: b", b":"]), min_size=1).map(b"\n".join))
def test_a_rewritten_event_reads_as_the_same_event_with_that_data_and_is_clean(text: bytes, data: bytes) -> None:
    for event in events_of([text]):
        again = events_of([rewritten(event, data)])
        assert all(is_clean(part) for part in again)
        expected = [] if event.data is None else [(event.event, data)]
        assert [(part.event, part.data) for part in again if part.data is not None] == expected


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        (b"data: a\n\n", True),
        (b"event: e\r\nid\r\nretry: 1\r\n:c\r\ndata:a\r\ndata\r\n\r\n", True),
        (b"\xef\xbb\xbf", True),
        (b": c\n\n", True),
        (b"data: a\nfoo: b\n\n", False),
        (b"data: a\nx", False),
        (b" data: a\n\n", False),
        (b'{"error": 1}\n\n', False),
    ],
)
def test_an_event_is_clean_when_the_standard_knows_all_its_lines(raw: bytes, *, clean: bool) -> None:
    assert is_clean(only(raw)) is clean


def test_a_framed_event_reads_as_what_was_framed() -> None:
    assert framed(b"a") == b"data: a\n\n"
    assert framed(b"a", "ping") == b"event: ping\ndata: a\n\n"
    assert parse([framed(b"a\nevent: b\n", "ping")]) == [("ping", b"a\nevent: b\n")]
