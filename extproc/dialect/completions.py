"""The legacy completions dialect, `POST /v1/engines/<engine>/completions`: what editors ask to complete a line.

Source: OpenAI API reference, "Completions". Its answers, streams and errors are those of chat completions, but that a
choice has a `text` and no message.
"""

from __future__ import annotations

from typing import Any, Final

from extproc.conversation import Prompt
from extproc.dialect.chat import ChatDialect, ChatStream
from extproc.dialect.port import AnswerStream, BadRequest
from extproc.dialect.request_body import read_fields, read_stream

_REQUEST_FIELDS: Final = frozenset({"model", "prompt", "suffix", "extra", "stream"})


class CompletionsDialect(ChatDialect):
    """Implement `Dialect` for legacy completions."""

    _object = "text_completion"

    def parse_request(self, body: bytes) -> Prompt:
        """Return what the request asks; raises `BadRequest`.

        The messages are one of role `user` for each prompt, then, where there are any, one of role `suffix` (the text
        behind the cursor) and one of role `extra` (Copilot's object with the language and texts of other files). The
        model is None where the path alone names it.
        """
        fields = read_fields(body, _REQUEST_FIELDS)
        model, prompt, suffix, extra = (fields.get(name) for name in ("model", "prompt", "suffix", "extra"))
        prompts = prompt if isinstance(prompt, list) else [prompt]
        if not (model is None or (isinstance(model, str) and model)):
            raise BadRequest("model: expected a non-empty string")
        # The API also takes lists of token numbers, which nobody here can read and so nobody could mask or record.
        if not (prompts and all(isinstance(text, str) for text in prompts)):
            raise BadRequest("prompt: expected a string or a non-empty list of strings")
        if not isinstance(suffix, str | None):
            raise BadRequest("suffix: expected a string")
        if not isinstance(extra, dict | None):
            raise BadRequest("extra: expected an object")
        messages = [{"role": "user", "content": text} for text in prompts]
        messages += [{"role": role, "content": said} for role, said in (("suffix", suffix), ("extra", extra)) if said]
        return Prompt(model, messages, [], stream=read_stream(fields))

    def stream(self) -> AnswerStream:
        """Return what gathers a streamed answer."""
        return CompletionsStream()

    def _said(self, index: int, text: str) -> dict[str, Any]:
        """Return a whole choice."""
        return {"index": index, "text": text, "logprobs": None, "finish_reason": "stop"}


class CompletionsStream(ChatStream):
    """Implement `AnswerStream` for legacy completions; both slots and pieces have the channel `<choice>.text`."""

    __slots__ = ()

    _object = "text_completion"

    def _entries(self, index: int, text: str) -> list[dict[str, Any]]:
        """Return the last entries of `choices` for a choice."""
        said = {"index": index, "text": text, "logprobs": None, "finish_reason": None}
        return [said, {**said, "text": "", "finish_reason": "stop"}]
