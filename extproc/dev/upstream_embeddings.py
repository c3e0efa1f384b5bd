"""`/embeddings` of the demo upstream: vectors that follow from the text and mean nothing."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterator
from typing import Any

from extproc.dev.upstream_model import Asked, need, need_common, openai_error
from extproc.dev.upstream_script import Script

_DIMENSIONS = 256
_MAX_DIMENSIONS = 3072
_MAX_INPUTS = 2048  # OpenAI API reference, "Embeddings": `input`


class EmbeddingsWire:
    """Implement `Wire` for embeddings, which are never streamed; the script reads the last input."""

    def read(self, body: dict[str, Any]) -> Asked:
        """Check a request and say what is asked; raises BadRequestError."""
        need_common(body)
        given, dimensions = body.get("input"), body.get("dimensions", _DIMENSIONS)
        inputs = given if isinstance(given, list) else [given]
        is_texts = all(isinstance(text, str) and text for text in inputs)
        need(is_texts and 0 < len(inputs) <= _MAX_INPUTS, "input", "a non-empty string or a list of them")
        is_size = type(dimensions) is int and 0 < dimensions <= _MAX_DIMENSIONS
        need(is_size, "dimensions", f"an integer from 1 to {_MAX_DIMENSIONS}")
        need(body.get("encoding_format", "float") in {"float", "base64"}, "encoding_format", "float or base64")
        return Asked(body, body["model"], [{"role": "user", "content": text} for text in inputs])

    def whole(self, asked: Asked, _script: Script, _created: int) -> dict[str, Any]:
        """Return one vector for each input."""
        size, packed = asked.body.get("dimensions", _DIMENSIONS), asked.body.get("encoding_format") == "base64"
        vectors = (_vector(message["content"], size) for message in asked.messages)
        data = [
            {"object": "embedding", "index": index, "embedding": _packed(vector) if packed else vector}
            for index, vector in enumerate(vectors)
        ]
        tokens = asked.prompt_tokens()
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "model": asked.model, "data": data, "usage": usage}

    def events(self, _asked: Asked, _script: Script, _created: int) -> Iterator[bytes]:
        """Yield nothing: vectors are not streamed."""
        yield from ()

    def error(self, _status: int, code: str, message: str, param: str | None) -> dict[str, Any]:
        """Return the body of an error."""
        return openai_error(code, message, param)


def _vector(text: str, size: int) -> list[float]:
    data = hashlib.shake_128(text.encode()).digest(size)
    return [byte / 255 * 2 - 1 for byte in data]


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
