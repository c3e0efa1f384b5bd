from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from extproc.spool.frames import HEADER_BYTES, MAX_FRAME_BYTES, framed, frames, needed

payloads = st.lists(st.binary(min_size=1, max_size=40), max_size=6)


def joined(payloads: list[bytes]) -> bytes:
    return b"".join(map(framed, payloads))


def read(data: bytes) -> list[bytes]:
    return [payload for payload, _ in frames(data)]


@given(payloads)
def test_whole_frames_come_back_each_with_the_place_after_it(given_payloads: list[bytes]) -> None:
    data = joined(given_payloads)
    found = list(frames(data))
    assert [payload for payload, _ in found] == given_payloads
    assert [after for _, after in found] == [len(joined(given_payloads[: n + 1])) for n in range(len(given_payloads))]


@given(payloads, st.binary(min_size=1, max_size=40), st.data())
def test_a_frame_that_is_cut_off_is_not_there_and_those_before_are(
    before: list[bytes], last: bytes, data: st.DataObject
) -> None:
    torn = framed(last)[: data.draw(st.integers(0, len(last) + HEADER_BYTES - 1))]
    assert read(joined(before) + torn) == before


@given(payloads, st.binary(min_size=1, max_size=40), st.data())
def test_a_frame_with_a_changed_bit_is_not_there_and_those_before_are(
    before: list[bytes], last: bytes, data: st.DataObject
) -> None:
    changed = bytearray(framed(last))
    bit = data.draw(st.integers(0, len(changed) * 8 - 1))
    changed[bit // 8] ^= 1 << bit % 8
    assert read(joined(before) + bytes(changed)) == before


@given(payloads, st.integers(1, 100))
def test_zeros_at_the_end_are_no_frames(before: list[bytes], count: int) -> None:
    assert read(joined(before) + bytes(count)) == before


@given(payloads, st.binary(max_size=60))
def test_any_other_bytes_at_the_end_are_read_without_an_error(before: list[bytes], rest: bytes) -> None:
    assert read(joined(before) + rest)[: len(before)] == before


@given(st.binary(min_size=1, max_size=40), st.binary(max_size=20))
def test_a_frame_says_how_many_bytes_it_needs(payload: bytes, rest: bytes) -> None:
    frame = framed(payload)
    assert needed(frame + rest) == len(frame)
    assert needed(frame[: HEADER_BYTES - 1]) == 0


def test_no_more_is_needed_for_a_length_that_no_frame_has() -> None:
    assert needed((MAX_FRAME_BYTES + 1).to_bytes(4, "big") + bytes(4)) == 0
