"""Legacy completions of the demo upstream: what editors ask to complete a line of code, `n` answers at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from extproc.dev.upstream_chat import DONE, usage
from extproc.dev.upstream_model import Asked, event, need, need_common, openai_error
from extproc.dev.upstream_script import Script

_MAX_CHOICES = 128  # OpenAI API reference, "Completions": `n`


class CompletionsWire:
    """Implement `Wire` for legacy completions; the script reads the last line of the prompt that is not empty."""

    def read(self, body: dict[str, Any]) -> Asked:
        """Check a request and say what is asked; raises BadRequestError."""
        # In `/v1/engines/{engine}/completions` the path names the model.
        body = {"model": body.get("engine")} | body
        need_common(body)
        prompt, count = body.get("prompt"), body.get("n", 1)
        prompts: list[Any] = prompt if isinstance(prompt, list) else [prompt]
        need(prompts and all(isinstance(text, str) for text in prompts), "prompt", "a string or a list of strings")
        need(isinstance(body.get("suffix", ""), str | None), "suffix", "a string")
        need(type(count) is int and 1 <= count <= _MAX_CHOICES, "n", f"an integer from 1 to {_MAX_CHOICES}")
        lines = [line for text in prompts for line in text.splitlines() if line.strip()]
        messages = [{"role": "user", "content": line} for line in lines[-1:]]
        return Asked(body, body["model"], messages, stream=body.get("stream") is True)

    def whole(self, asked: Asked, script: Script, created: int) -> dict[str, Any]:
        """Return the answer as one completion."""
        choices = [_choice(index, "".join(pieces), "stop") for index, pieces in enumerate(_variants(asked, script))]
        return _object(asked, created, choices) | {"usage": usage(asked, script)}

    def events(self, asked: Asked, script: Script, created: int) -> Iterator[bytes]:
        """Yield the answer with the choices taking turns, then the ends of all, the usage with the last."""
        variants = list(_variants(asked, script))
        for at in range(max(map(len, variants))):
            for index, pieces in enumerate(variants):
                if at < len(pieces):
                    yield event(_object(asked, created, [_choice(index, pieces[at], None)]))
        for index in range(len(variants)):
            yield event(_object(asked, created, [_choice(index, "", "stop")]))
        yield event(_object(asked, created, []) | {"usage": usage(asked, script)})
        yield DONE

    def error(self, _status: int, code: str, message: str, param: str | None) -> dict[str, Any]:
        """Return the body of an error."""
        return openai_error(code, message, param)


def _variants(asked: Asked, script: Script) -> Iterator[tuple[str, ...]]:
    for index in range(asked.body.get("n", 1)):
        yield (*([f"{index}: "] if index else []), *script.pieces)


def _choice(index: int, text: str, finish_reason: str | None) -> dict[str, Any]:
    return {"text": text, "index": index, "finish_reason": finish_reason, "logprobs": None}


def _object(asked: Asked, created: int, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"cmpl-{asked.id()}",
        "object": "text_completion",
        "created": created,
        "model": asked.model,
        "choices": choices,
    }
