from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.approval.touch import Touch
from extproc.dialect.chat import ChatStream
from extproc.dialect.port import AnswerStream, Dialect, More, Slot
from extproc.dialect.sse import SseEvent
from extproc.masking.alike import Alike
from extproc.masking.finding import Action
from extproc.masking.masker import Masker
from extproc.masking.stream import MaskedStream
from extproc.rules import DIALECTS
from tests.masking.fields import STREAMED, Streamed
from tests.masking.running import OURS, PASSWORD, TOKEN, masker

PIECES = st.one_of(
    st.sampled_from(
        [TOKEN, f'password = "{PASSWORD}"', OURS, "-----BEGIN RSA PRIVATE KEY-----\n", "```tf title=a.tf\n"]
    ),
    st.sampled_from(
        ["some words ", "a line\n", "```", 'a "quote"', "back\\slash", "ümläut ", "\u2028", "\x00", " ", "."]
    ),
    st.text(max_size=12),
)


class Unlike:
    """A dialect that never says of an event that others may be like it."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dialect, name)

    def stream(self) -> AnswerStream:
        inner = self._dialect.stream()

        class Stream:
            def __getattr__(self, name: str) -> Any:
                return getattr(inner, name)

            def more(self, event: str, tree: dict[str, Any]) -> None:
                return None

        return Stream()


def passed(
    dialect: Dialect, by: Masker, chunks: list[bytes], is_privileged: Callable[[Touch], bool] | None
) -> tuple[list[bytes], object, object]:
    stream = MaskedStream(dialect, by, max_event_bytes=1 << 20, is_privileged=is_privileged)
    return [*map(stream.feed, chunks), stream.finish(), stream.release()], by.findings, stream.answer()


@pytest.mark.parametrize("where", STREAMED, ids=lambda one: f"{one.kind}-{one.name}")
@given(
    texts=st.lists(PIECES, max_size=12),
    places=st.lists(st.integers(0, 4000), max_size=6),
    action=st.sampled_from(Action),
    is_privileged=st.sampled_from([None, lambda touch: touch.path == "a.tf"]),
)
@settings(max_examples=25, deadline=None)
def test_events_that_are_alike_are_treated_as_if_each_was_read(
    where: Streamed,
    texts: list[str],
    places: list[int],
    action: Action,
    is_privileged: Callable[[Touch], bool] | None,
) -> None:
    data = where.stream(texts)
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    chunks = [data[start:end] for start, end in itertools.pairwise(edges)]
    dialect = DIALECTS[where.kind]
    unlike = passed(Unlike(dialect), masker(action), chunks, is_privileged)
    assert passed(dialect, masker(action), chunks, is_privileged) == unlike


EVENT = {"id": "c-1", "choices": [{"index": 0, "delta": {"content": "first"}}]}


def framed(tree: Any) -> bytes:
    return b"data: " + json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def said(text: str) -> bytes:
    return framed({**EVENT, "choices": [{"index": 0, "delta": {"content": text}}]})


def like(tree: dict[str, Any], *, varying: tuple[str, ...] = ()) -> Alike:
    raw = framed(tree)
    slot = Slot(tree["choices"][0]["delta"], "content", "0.content")
    event = SseEvent(raw, "message", raw[6:-2])
    return Alike(event, tree, slot, More(None, varying), lambda text: OURS in text)


def test_only_the_text_may_differ() -> None:
    data = said("one") + said('t\\w"o\n') + said("dré")
    found, end = like(EVENT).run(b"  " + data, 2)
    assert [one.text for one in found] == ["one", 't\\w"o\n', "dré"]
    assert b"".join(one.raw for one in found) == data
    assert end == len(data) + 2


@pytest.mark.parametrize(
    "other",
    [
        said(""),
        said("x").replace(b"c-1", b"c-2"),
        said("x").replace(b"}}]}", b"}}],}"),
        said("x").replace(b'"x"', b'"x","y":"z"'),
        said("x").replace(b'"x"', b'"\\u0041"'),
        said("x").replace(b'"x"', b'"\x01"'),
        said("x").replace(b'"x"', b'"\xff"'),
        said("x").replace(b'"x"', b'"\\"'),
        said("x").replace(b'"x"', b"1"),
        said("x").replace(b"data", b"id: 1\ndata"),
        said("x")[:-1],
        said("x").replace(b"\n", b"\r\n"),
    ],
)
def test_whatever_else_differs_is_read_the_usual_way(other: bytes) -> None:
    assert like(EVENT).run(other, 0) == ([], 0)


@pytest.mark.parametrize("text", ["c-1", "content", "a\\b", "\u0001"])
def test_an_event_whose_text_cannot_be_told_from_its_bytes_is_like_no_other(text: str) -> None:
    with pytest.raises(ValueError, match="event"):
        like({**EVENT, "choices": [{"delta": {"content": text}}]})


@given(st.lists(PIECES.filter(bool), min_size=2, max_size=9), st.binary(max_size=30))
def test_events_that_come_together_are_those_that_come_one_by_one(texts: list[str], rest: bytes) -> None:
    data = b"".join(map(said, texts)) + rest
    alike = like(EVENT)
    together = alike.together(data, 0)
    if together is None:
        # Escapes by number are left to the usual way.
        assert len(alike.run(data, 0)[0]) < len(texts)
        return
    one_by_one, end = alike.run(together.raw, 0)
    assert data.startswith(together.raw)
    assert end == len(together.raw)
    assert together.text == "".join(one.text for one in one_by_one)
    assert len(one_by_one) > 1


def test_one_event_or_one_that_is_not_whole_is_none_that_come_together() -> None:
    alike, two = like(EVENT), said("a") + said("b")
    assert alike.together(said("a"), 0) is None
    assert alike.together(two[:-1], 0) is None
    together = alike.together(b"x" + two + said("c")[:-1], 1)
    assert together is not None
    assert (together.raw, together.text) == (two, "ab")


def test_however_many_come_together_all_are_found_by_looking_farther_each_time() -> None:
    alike, data = like(EVENT), said("word") * 1000
    at, looks = 0, []
    while (together := alike.together(data, at)) is not None:
        looks.append(len(together.raw))
        at += looks[-1]
    assert at == len(data)
    assert [one // len(said("word")) for one in looks[:3]] == [8, 16, 32]
    assert 8_192 < max(looks) <= 16_384


@pytest.mark.parametrize("text", [b"", b'a"', b"a\\", b"\xc3", b"\n"])
def test_an_event_that_is_none_by_itself_makes_none_together(text: bytes) -> None:
    odd = said("odd").replace(b"odd", text)
    assert like(EVENT).together(said("a") + odd + said("b"), 0) is None


def test_members_that_mean_nothing_may_differ_unless_they_carry_a_credential() -> None:
    tree = {**EVENT, "number": 7, "padding": "aZ3"}
    known = like(tree, varying=("number", "padding", "absent"))
    found, _ = known.run(framed({**tree, "number": 8, "padding": "kQ9k"}), 0)
    assert [one.varied for one in found] == [{"number": 8, "padding": "kQ9k"}]
    for other in (
        {"number": 1.5},
        {"number": -1},
        {"padding": "a b"},
        {"padding": OURS},
        {"padding": None},
        {"id": "x"},
    ):
        assert known.run(framed({**tree, **other}), 0) == ([], 0)


@pytest.mark.parametrize("value", [1.5, None, True, "two words", ["a"]])
def test_members_that_are_neither_words_nor_numbers_cannot_vary(value: object) -> None:
    with pytest.raises(ValueError, match="member"):
        like({**EVENT, "padding": value}, varying=("padding",))


def test_an_event_is_written_anew_with_its_own_members_and_another_text() -> None:
    known = like({**EVENT, "number": 7}, varying=("number",))
    [one], _ = known.run(framed({**EVENT, "number": 8}), 0)
    event, data = known.written(one, "masked")
    assert event.raw == framed({**EVENT, "number": 8})
    assert json.loads(data)["choices"][0]["delta"] == {"content": "masked"}
    assert json.loads(data)["number"] == 8


def test_what_is_like_the_last_event_is_not_read_again() -> None:
    class Counted(ChatStream):
        __slots__ = ("reads",)

        def read(self, event: str, tree: dict[str, Any]) -> Any:
            self.reads = getattr(self, "reads", 0) + 1
            return super().read(event, tree)

    class Dialect(type(DIALECTS[STREAMED[0].kind])):  # type: ignore[misc]
        def stream(self) -> AnswerStream:
            made.append(Counted())
            return made[-1]

    made: list[Counted] = []
    stream = MaskedStream(Dialect(), masker(), max_event_bytes=1 << 20)
    data = b"".join(said(f"word {number} ") for number in range(100))
    assert stream.feed(data) + stream.finish() == data
    assert [one.reads for one in made] == [1]
    assert stream.answer().choices[0].text == "".join(f"word {number} " for number in range(100))
