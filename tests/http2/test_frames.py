"""Frames are laid out as RFC 9113 says."""

from __future__ import annotations

import pytest
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from extproc.http2 import frames
from extproc.http2.frames import ConnectionFault, ErrorCode, Setting


def parsed(data: bytes) -> Frame:
    frame, length = Frame.parse_frame_header(memoryview(data[:9]))
    assert length == len(data) - 9
    frame.parse_body(memoryview(data[9:]))
    return frame


def test_another_library_reads_what_we_write() -> None:
    settings = parsed(frames.settings({Setting.INITIAL_WINDOW_SIZE: 262_144, Setting.MAX_CONCURRENT_STREAMS: 7}))
    assert isinstance(settings, SettingsFrame)
    assert settings.settings == {4: 262_144, 3: 7}
    reset = parsed(frames.reset(2**31 - 1, ErrorCode.REFUSED_STREAM))
    assert isinstance(reset, RstStreamFrame)
    assert (reset.stream_id, reset.error_code) == (2**31 - 1, 7)
    goaway = parsed(frames.goaway(9, ErrorCode.ENHANCE_YOUR_CALM))
    assert isinstance(goaway, GoAwayFrame)
    assert (goaway.last_stream_id, goaway.error_code) == (9, 11)
    update = parsed(frames.window_update(3, 70_000))
    assert isinstance(update, WindowUpdateFrame)
    assert (update.stream_id, update.window_increment) == (3, 70_000)
    headers = parsed(frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 5, b"block"))
    assert isinstance(headers, HeadersFrame)
    assert (set(headers.flags), headers.data) == ({"END_HEADERS", "END_STREAM"}, b"block")
    data = parsed(frames.frame(frames.DATA, 0, 1, bytes(70_000)))
    assert isinstance(data, DataFrame)
    assert len(data.data) == 70_000


def test_padding_is_taken_off() -> None:
    assert frames.unpadded(0, b"\x02abc") == b"\x02abc"
    assert frames.unpadded(frames.PADDED, b"\x02abc\0\0") == b"abc"
    assert frames.unpadded(frames.PADDED, b"\x02\0\0") == b""


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"", ErrorCode.FRAME_SIZE_ERROR), (b"\x01", ErrorCode.PROTOCOL_ERROR), (b"\x04abc", ErrorCode.PROTOCOL_ERROR)],
)
def test_padding_that_does_not_fit_its_frame_is_a_fault(payload: bytes, code: ErrorCode) -> None:
    with pytest.raises(ConnectionFault) as raised:
        frames.unpadded(frames.PADDED, payload)
    assert raised.value.code == code


def test_of_several_windows_the_last_one_counts_and_unknown_settings_are_ignored() -> None:
    payload = b"".join(frames.SETTING.pack(*one) for one in [(4, 10), (99, 5), (4, 20), (1, 0), (3, 1), (6, 1)])
    assert frames.announced_window(payload) == 20
    assert frames.announced_window(b"") is None


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (bytes(5), ErrorCode.FRAME_SIZE_ERROR),
        (frames.SETTING.pack(2, 2), ErrorCode.PROTOCOL_ERROR),
        (frames.SETTING.pack(4, 2**31), ErrorCode.FLOW_CONTROL_ERROR),
        (frames.SETTING.pack(5, 16_383), ErrorCode.PROTOCOL_ERROR),
        (frames.SETTING.pack(5, 2**24), ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_settings_out_of_their_range_are_faults(payload: bytes, code: ErrorCode) -> None:
    with pytest.raises(ConnectionFault) as raised:
        frames.announced_window(payload)
    assert raised.value.code == code


def test_a_priority_is_checked_though_it_means_nothing() -> None:
    assert frames.priority_fault(3, bytes(5)) is None
    wrong_size, of_itself = frames.priority_fault(3, bytes(4)), frames.priority_fault(3, b"\x80\0\0\x03\x10")
    assert wrong_size is not None
    assert wrong_size.code == ErrorCode.FRAME_SIZE_ERROR
    assert of_itself is not None
    assert of_itself.code == ErrorCode.PROTOCOL_ERROR
