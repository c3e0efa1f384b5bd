"""Header blocks are put together within bounds."""

from __future__ import annotations

import pytest

from extproc.http2 import blocks, frames
from extproc.http2.frames import ConnectionFault, ErrorCode


def test_a_block_of_one_frame_is_whole() -> None:
    block = blocks.begun(frames.END_HEADERS | frames.END_STREAM, 3, b"abc")
    assert (block.number, block.content, block.ends_stream, block.is_sound, block.is_whole) == (
        3,
        b"abc",
        True,
        True,
        True,
    )


def test_padding_and_priority_are_no_part_of_a_block() -> None:
    flags = frames.END_HEADERS | frames.PADDED | frames.PRIORITIZED
    block = blocks.begun(flags, 3, b"\x02" + b"\0\0\0\x01\x10" + b"abc" + bytes(2))
    assert (block.content, block.is_sound) == (b"abc", True)
    assert not blocks.begun(flags, 3, b"\0" + b"\x80\0\0\x03\x10" + b"abc").is_sound


def test_continuations_are_added_until_the_last() -> None:
    block = blocks.begun(0, 1, b"a")
    block.add(0, b"b")
    assert not block.is_whole
    block.add(frames.END_HEADERS, b"c")
    assert (block.is_whole, bytes(block.content)) == (True, b"abc")


@pytest.mark.parametrize(("part", "most"), [(b"", 15), (bytes(16_384), 1)])
def test_a_block_in_too_many_frames_or_bytes_is_a_fault(part: bytes, most: int) -> None:
    block = blocks.begun(0, 1, part)
    for _ in range(most):
        block.add(0, part)
    with pytest.raises(ConnectionFault) as raised:
        block.add(0, part)
    assert raised.value.code == ErrorCode.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("number", [0, 2])
def test_clients_open_only_odd_streams(number: int) -> None:
    with pytest.raises(ConnectionFault) as raised:
        blocks.begun(frames.END_HEADERS, number, b"")
    assert raised.value.code == ErrorCode.PROTOCOL_ERROR


def test_a_priority_that_is_cut_off_is_a_fault() -> None:
    with pytest.raises(ConnectionFault) as raised:
        blocks.begun(frames.PRIORITIZED, 1, bytes(4))
    assert raised.value.code == ErrorCode.FRAME_SIZE_ERROR
