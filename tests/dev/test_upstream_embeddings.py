from __future__ import annotations

import base64
import struct
from typing import Any

import pytest

from extproc.dev.upstream_embeddings import EmbeddingsWire
from extproc.dev.upstream_model import BadRequestError
from extproc.dev.upstream_script import Script

WIRE = EmbeddingsWire()


def embedded(**asked: Any) -> list[Any]:
    answer = WIRE.whole(WIRE.read({"model": "m"} | asked), Script(), 1)
    return [one["embedding"] for one in answer["data"]]


def test_each_input_has_a_vector_that_follows_from_its_text() -> None:
    first, second, third = embedded(input=["a", "b", "a"], dimensions=3)
    assert first == third != second
    assert len(first) == 3
    assert len(embedded(input="a")[0]) == 256


def test_vectors_may_be_packed() -> None:
    [packed] = embedded(input="a", dimensions=3, encoding_format="base64")
    assert struct.unpack("<3f", base64.b64decode(packed)) == pytest.approx(embedded(input="a", dimensions=3)[0])


@pytest.mark.parametrize(
    "change", [{"input": ""}, {"input": []}, {"input": [[1]]}, {"dimensions": 0}, {"encoding_format": "hex"}]
)
def test_what_is_no_embeddings_request_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError):
        WIRE.read({"model": "m", "input": "x"} | change)
