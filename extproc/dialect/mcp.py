"""The Model Context Protocol over streamable HTTP: JSON-RPC messages in a body, or one in each event of a stream.

Sources: Model Context Protocol specification 2025-11-25, "Transports", "Tools", "Resources" and "Prompts", and the
batches of 2025-03-26; JSON-RPC 2.0 specification.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any, Final

import msgspec

from extproc.conversation import Answer, Prompt, ToolCall
from extproc.dialect.json_api import as_text, kept, read_answer
from extproc.dialect.mcp_answer import McpStream
from extproc.dialect.port import BadAnswer, BadRequest
from extproc.dialect.request_body import MAX_CONTAINERS, read_fields
from extproc.errors import Refusal
from extproc.json_body import decoded, encoded

_MEMBERS: Final = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
_CALL_MEMBERS: Final = frozenset({"name", "arguments"})

# "Server error" of JSON-RPC 2.0, section 5.1: the codes from -32099 to -32000 are the implementation's own.
_REFUSED: Final = -32000


class _Parts(msgspec.Struct):
    params: msgspec.Raw = msgspec.Raw()


_BATCH: Final = msgspec.json.Decoder(list[msgspec.Raw])
_NAMES: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_PARTS: Final = msgspec.json.Decoder(_Parts)


class McpDialect:
    """Implement `Dialect` for the Model Context Protocol."""

    # The server's own, and no text. Ids are not here: they are numbers or short labels, and `id` may be anybody's data.
    opaque: AbstractSet[str] = frozenset({"cursor", "nextCursor"})
    json_texts: AbstractSet[str] = frozenset()

    def parse_request(self, body: bytes) -> Prompt:
        """Return the JSON-RPC messages as they are, and the tools they call; raises `BadRequest`.

        `GET`, which opens a stream of the server's own messages, and `DELETE`, which ends a session, have no body.
        """
        messages: list[Any] = []
        calls: list[ToolCall] = []
        for raw in _split(body):
            message = _read_message(raw)
            messages.append(message)
            if message.get("method") == "tools/call":
                calls.append(_read_call(raw, message))
        return Prompt(None, messages, [], stream=False, tool_calls=calls)

    def parse_answer(self, body: bytes) -> Answer:
        """Return what JSON-RPC responses say; nothing where the body is empty (202). Raises `BadAnswer`."""
        stream = McpStream()
        tree = read_answer(body) if body.strip() else []
        if not isinstance(tree, dict | list):
            raise BadAnswer("the answer: expected a JSON-RPC message or a list of them")
        for message in tree if isinstance(tree, list) else [tree]:
            if isinstance(message, dict):
                stream.take("message", message)
            else:
                stream.take_unparsed(as_text(message))
        return replace(stream.answer(), complete=True)

    def amend(self, tree: Any) -> bool:  # noqa: ANN401, ARG002 - decoded JSON, which the port hands to every dialect
        """Change nothing: what servers say of other servers is text to their clients."""
        return False

    def stream(self) -> McpStream:
        """Return what gathers the messages of a stream."""
        return McpStream()

    def refused_answer(self, body: bytes, text: str) -> bytes:
        """Return every response in `body`, also an error, as the result of a tool that failed and says `text`.

        Requests and notifications of the server are left out. Without any response it is one whose id is null.
        """
        tree = decoded(body)
        result = {"content": [{"type": "text", "text": text}], "isError": True}
        ids = [kept(message, {"id": str | int}).get("id") for message in _responses(tree)]
        answers = [{"jsonrpc": "2.0", "id": each, "result": result} for each in ids or [None]]
        return encoded(answers if isinstance(tree, list) else answers[0])

    def error_body(self, refusal: Refusal, decision_id: str) -> bytes:
        """Return the refusal as a JSON-RPC error.

        Its id is null, as JSON-RPC has it where the request's is not known: with an error status, clients show the
        body itself and match it to no request.
        """
        data = {"code": refusal.code.value, "decision_id": decision_id}
        error = {"code": _REFUSED, "message": refusal.message, "data": data}
        return msgspec.json.encode({"jsonrpc": "2.0", "id": None, "error": error})


def _responses(tree: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - decoded JSON
    messages = tree if isinstance(tree, list) else [tree]
    return [each for each in messages if isinstance(each, dict) and each.keys() & {"result", "error"}]


def _split(body: bytes) -> list[bytes]:
    """Return the JSON text of every message of a body."""
    if not body.strip():
        return []
    if not body.lstrip().startswith(b"["):
        return [body]
    if body.count(b"[") + body.count(b"{") > MAX_CONTAINERS:
        raise BadRequest(f"the body has more than {MAX_CONTAINERS} lists and objects")
    try:
        batch = [bytes(raw) for raw in _BATCH.decode(body)]
    except RecursionError as error:
        raise BadRequest("the body is nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest("the body: expected a JSON-RPC message or a list of them") from error
    if not batch:
        raise BadRequest("the body: expected at least one JSON-RPC message")
    return batch


def _read_message(raw: bytes) -> dict[str, Any]:
    message = read_fields(raw, _MEMBERS)
    if unknown := _NAMES.decode(raw).keys() - _MEMBERS:
        raise BadRequest(f"the body: expected no other fields than those of JSON-RPC, and {len(unknown)} are")
    if message.get("jsonrpc") != "2.0":
        raise BadRequest('jsonrpc: expected "2.0"')
    if "id" in message and (isinstance(message["id"], bool) or not isinstance(message["id"], str | int)):
        raise BadRequest("id: expected a string or an integer")
    if not isinstance(message.get("params", {}), dict):
        raise BadRequest("params: expected an object")
    kinds = [name for name in ("method", "result", "error") if name in message]
    if len(kinds) != 1:
        raise BadRequest("the body: expected one of method, result and error")
    if "method" in message and not isinstance(message["method"], str):
        raise BadRequest("method: expected a string")
    return message


def _read_call(raw: bytes, message: dict[str, Any]) -> ToolCall:
    try:
        params = read_fields(bytes(_PARTS.decode(raw).params), _CALL_MEMBERS)
    except BadRequest as error:
        raise BadRequest(f"params: {error}") from error
    name, arguments = params.get("name"), params.get("arguments")
    if not (isinstance(name, str) and name):
        raise BadRequest("params.name: expected a non-empty string")
    if not isinstance(arguments, dict | None):
        raise BadRequest("params.arguments: expected an object")
    return ToolCall(str(message.get("id", "")), name, as_text(arguments or {}))
