"""The embeddings dialect: texts to vectors, at the Copilot API, and at the GitHub API for the index of a repository.

Sources: OpenAI API reference, "Embeddings". GitHub's `/embeddings`, `/embeddings/code/search` and `/chunks` are not
documented; Copilot Chat sends `inputs` and `embedding_model` to the first, and whole files or a question to the others.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any, Final

from extproc.conversation import Answer, Prompt, Usage
from extproc.dialect.json_api import JsonDialect, read_answer, read_tree
from extproc.dialect.port import BadAnswer, BadRequest

_MODEL_NAMES: Final = ("model", "embedding_model")
_INPUT_NAMES: Final = ("input", "inputs")
_NAMES: Final = frozenset({*_MODEL_NAMES, *_INPUT_NAMES})


class EmbeddingsDialect(JsonDialect):
    """Implement `Dialect` for embeddings."""

    # A vector in base64, where the client asks for `encoding_format: base64`.
    opaque: AbstractSet[str] = frozenset({"embedding"})

    def parse_request(self, body: bytes) -> Prompt:
        """Return the inputs as messages, or all of the body where it has none; raises `BadRequest`."""
        tree = read_tree(body, _NAMES)
        if not isinstance(tree, dict):
            raise BadRequest("the body: expected a JSON object")
        inputs = [each for name in _INPUT_NAMES if name in tree for each in _as_list(tree[name])]
        return Prompt(_model(tree), inputs or [tree], [], stream=False)

    def parse_answer(self, body: bytes) -> Answer:
        """Return model and usage of an answer, and nothing of its vectors; raises `BadAnswer`."""
        tree = read_answer(body)
        if not isinstance(tree, dict):
            raise BadAnswer("the answer: expected a JSON object")
        models = (tree.get(name) for name in _MODEL_NAMES)
        model = next((model for model in models if isinstance(model, str)), None)
        return Answer(model, [], _usage(tree.get("usage")), complete=True)


def _model(tree: dict[str, Any]) -> str | None:
    named = {name: tree[name] for name in _MODEL_NAMES if tree.get(name) is not None}
    for name, model in named.items():
        if not (isinstance(model, str) and model):
            raise BadRequest(f"{name}: expected a non-empty string")
    if len(set(named.values())) > 1:
        raise BadRequest("model and embedding_model: expected one of them, or the same model")
    return next(iter(named.values()), None)


def _as_list(value: Any) -> list[Any]:  # noqa: ANN401 - decoded JSON
    return value if isinstance(value, list) else [value]


def _usage(usage: Any) -> Usage | None:  # noqa: ANN401 - decoded JSON
    tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return Usage(tokens, 0) if isinstance(tokens, int) and not isinstance(tokens, bool) and tokens >= 0 else None
