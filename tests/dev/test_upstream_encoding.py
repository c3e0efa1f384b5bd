from __future__ import annotations

import pytest

from extproc.dev.upstream_encoding import ENCODERS
from extproc.encoding import decoder


@pytest.mark.parametrize("name", ENCODERS)
def test_each_part_can_be_read_as_soon_as_it_arrived(name: str) -> None:
    parts = [b"data: one\n\n", b"data: two\n\n", b""]
    decoding = decoder(name, max_ratio=200, max_bytes=1000)
    assert decoding is not None
    assert [decoding.feed(part) for part in ENCODERS[name](parts)] == [*parts, b""]
    decoding.finish()
