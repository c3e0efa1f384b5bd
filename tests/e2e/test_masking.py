"""No secret passes, in any dialect, however it is spread: on the real Envoy."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import io
import json
import re
import zlib
from typing import Any

import aiohttp
import openai
import pytest

from extproc.dev.upstream_encoding import ENCODERS
from extproc.dev.upstream_model import to_json
from tests.e2e.gateway import Gateway, decision_id, until
from tests.e2e.upstream import DONE, Call, Script, answer_json, event
from tests.e2e.wires import (
    ARGUMENTS,
    CASES,
    EXPECTED,
    KEY,
    NPM,
    TEXT,
    TOKEN,
    Case,
    cuts,
    leaked,
    plain,
    progress,
    skeleton,
    trees,
)

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

MIB = 1 << 20


def post(gateway: Gateway, path: str, body: Any, **headers: str) -> Any:
    return gateway.session.post(f"{gateway.url}{path}", headers=gateway.headers() | headers, data=to_json(body))


def streams(body: bytes, seed: int = 0, **headers: str) -> Script:
    """Answer with a stream in chunks cut anywhere."""

    async def play(call: Call) -> None:
        await call.head(content_type="text/event-stream", transfer_encoding="chunked", **headers)
        for piece in cuts(body, seed):
            await call.chunk(piece)
        await call.end()

    return play


def answers(body: bytes, content_type: str = "application/json", **headers: str) -> Script:
    async def play(call: Call) -> None:
        await call.whole(body, content_type=content_type, **headers)

    return play


def check_said(case: Case, said: list[tuple[str, str]]) -> None:
    wanted = {"text"} | ({"patch" if case.is_custom else "arguments"} if "prompt" not in case.request else set())
    wanted |= {"thought"} if {"reasoning", "thinking"} & set(case.request) else set()
    assert {kind for kind, _ in said} == wanted
    for kind, text in said:
        assert not leaked(text.encode())
        assert "[MASKED:" in text
        if kind == "arguments":
            masked, sent = json.loads(text), json.loads(ARGUMENTS)
            assert masked["path"] == sent["path"]
            # The file is JSON of its own, and stays it.
            masked, sent = json.loads(masked["file_text"]), json.loads(sent["file_text"])
            assert {name: plain(value) for name, value in masked.items()} == {
                name: plain(value) for name, value in sent.items()
            }
        else:
            assert plain(text) == plain(EXPECTED[kind])


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("dialect", CASES)
async def test_a_streamed_answer_says_the_same_without_the_secrets(gateway: Gateway, dialect: str, size: int) -> None:
    case = CASES[dialect]
    sent = case.events(size)
    gateway.upstream.play(streams(sent, size))
    async with post(gateway, case.path, case.asked(stream=True)) as response:
        received = await response.read()
        assert response.status == 200
        document = await gateway.document(decision_id(response))
    check_said(case, case.read_events(trees(received)))
    assert leaked(received) == []
    # Events may pass others that wait, those of other texts.
    assert sorted(map(str, map(skeleton, trees(received)))) == sorted(map(str, map(skeleton, trees(sent))))
    assert received.endswith(DONE) is case.done
    assert document["outcome"] == "completed"
    assert leaked(json.dumps(document, ensure_ascii=False).encode()) == []
    assert {one["direction"] for one in document["findings"]} == {"answer"}


@pytest.mark.parametrize("dialect", CASES)
async def test_a_json_answer_says_the_same_without_the_secrets(gateway: Gateway, dialect: str) -> None:
    case = CASES[dialect]
    sent = case.body()
    gateway.upstream.play(answers(sent))
    async with post(gateway, case.path, case.asked(stream=False)) as response:
        received = await response.read()
        assert (response.status, int(response.headers["content-length"])) == (200, len(received))
        document = await gateway.document(decision_id(response))
    check_said(case, case.read_json(json.loads(received)))
    assert leaked(received) == []
    assert skeleton(json.loads(received)) == skeleton(json.loads(sent))
    assert document["outcome"] == "completed"
    assert leaked(json.dumps(document, ensure_ascii=False).encode()) == []


RPC: dict[str, Any] = {"jsonrpc": "2.0", "id": 7}
ISSUE: list[dict[str, Any]] = [{"number": 1, "body": TEXT, "labels": [{"name": NPM}]}]
OTHERS: dict[str, tuple[str, str, Any, Any]] = {
    "mcp": ("POST", "/mcp/", {**RPC, "method": "tools/call", "params": {"name": "get", "arguments": {}}},
            {**RPC, "result": {"content": [{"type": "text", "text": TEXT}], "isError": False}}),
    "github": ("GET", "/repos/o/r/issues", None, ISSUE),
    "models": ("GET", "/models", None, {"object": "list", "data": [{"id": "m", "description": TEXT}]}),
    "embeddings": ("POST", "/embeddings", {"model": "m", "input": "hi"}, {"data": [], "model": TOKEN, "note": TEXT}),
    "error": ("POST", "/chat/completions", CASES["chat"].asked(stream=False), {"error": {"message": TEXT}}),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
async def test_answers_that_are_no_models_are_masked_too(gateway: Gateway, kind: str) -> None:
    method, path, asked, answer = OTHERS[kind]
    gateway.upstream.play(answers(to_json(answer)))
    body = None if asked is None else to_json(asked)
    url = f"{gateway.url}{path}"
    async with gateway.session.request(method, url, headers=gateway.headers(), data=body) as response:
        received = await response.read()
    assert "[MASKED:" in received.decode()
    assert leaked(received) == []
    assert plain(json.dumps(json.loads(received), ensure_ascii=False)) == plain(
        json.dumps(json.loads(to_json(answer)), ensure_ascii=False).replace(KEY.replace("\n", "\\n"), "•")
    )


async def test_a_tool_servers_stream_is_masked_and_its_progress_passes(gateway: Gateway) -> None:
    _, path, asked, answer = OTHERS["mcp"]
    gateway.upstream.play(streams(progress(1) + event_of(answer) + progress(2)))
    async with post(gateway, path, asked, accept="application/json, text/event-stream") as response:
        received = await response.read()
    first, second, third = trees(received)
    assert (progress(1) in received, first["method"], third["method"]) == (True, *["notifications/progress"] * 2)
    assert plain(second["result"]["content"][0]["text"]) == plain(TEXT)
    assert leaked(received) == []


def event_of(tree: Any) -> bytes:
    return b"event: message\ndata: " + to_json(tree) + b"\n\n"


async def test_plain_text_of_github_is_masked_word_by_word_and_trailers_flush_the_rest(gateway: Gateway) -> None:
    async def play(call: Call) -> None:
        await call.head(content_type="text/plain", transfer_encoding="chunked")
        for piece in cuts(f"{TEXT} {TOKEN}".encode(), 1):
            await call.chunk(piece)
        await call.end(b"x-trailer: 1\r\n")

    gateway.upstream.play(play)
    async with gateway.session.get(f"{gateway.url}/repos/o/r/contents/a", headers=gateway.headers()) as response:
        received = await response.text()
    assert plain(received) == plain(f"{TEXT} {TOKEN}")
    assert leaked(received.encode()) == []


# --- What has to stay as it is ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["responses", "messages"])
@pytest.mark.parametrize("stream", [True, False])
async def test_opaque_parts_pass_byte_for_byte(gateway: Gateway, dialect: str, stream: bool) -> None:  # noqa: FBT001
    # An opaque text may well look like a secret; it is one to nobody but its maker.
    case = CASES[dialect]
    sent = case.events(3) if stream else case.body()
    opaque = b'"gAAAAAB%b' % TOKEN.encode()
    sent = sent.replace(b'"gAAAAAB', opaque)
    assert opaque in sent
    gateway.upstream.play(streams(sent) if stream else answers(sent))
    async with post(gateway, case.path, case.asked(stream=stream)) as response:
        received = await response.read()
    assert received.count(opaque) == sent.count(opaque)
    assert received.count(TOKEN.encode()) == received.count(opaque)


@pytest.mark.parametrize("dialect", CASES)
@pytest.mark.parametrize("stream", [True, False])
async def test_what_holds_no_secret_passes_byte_for_byte(gateway: Gateway, dialect: str, stream: bool) -> None:  # noqa: FBT001
    case = CASES[dialect]
    script = case.script(4)
    call = script.tool_call and dataclasses.replace(script.tool_call, arguments='{ "path" : "a\\u002fb.py" }')
    pieces = (
        "The commit ",
        "3f786850e387550fdab836ed7e6dc881de23001b",
        " is fine … ",
        "世界 ",
        "so I ",
        "cre",
        "ate it",
    )
    script = dataclasses.replace(script, pieces=pieces, reasoning=("Let me ", "see"), tool_call=call)
    asked = case.wire.read(case.request)
    # Written otherwise than anybody would write it anew.
    whole = json.dumps(case.wire.whole(asked, script, 1), indent=1).encode()
    sent = b"".join(case.wire.events(asked, script, 1)) if stream else whole
    gateway.upstream.play(streams(sent, 2) if stream else answers(sent))
    async with post(gateway, case.path, case.asked(stream=stream)) as response:
        assert await response.read() == sent


async def test_keep_alive_comments_pass_while_an_event_waits(gateway: Gateway) -> None:
    received = bytearray()

    async def play(call: Call) -> None:
        await call.head(content_type="text/event-stream", transfer_encoding="chunked")
        await call.chunk(event("it is "))
        await call.chunk(event(TOKEN[:20]))
        await call.chunk(b": keep-alive\n\n")
        await until(lambda: b"keep-alive" in received, "the comment at the client", 5)
        assert TOKEN[:6].encode() not in received
        await call.chunk(event(TOKEN[20:]) + event(" indeed", finish="stop") + DONE)
        await call.end()

    gateway.upstream.play(play)
    async with gateway.chat(stream=True) as response:
        async for data in response.content.iter_any():
            received += data
    texts = [choice["delta"].get("content") or "" for tree in trees(bytes(received)) for choice in tree["choices"]]
    assert plain("".join(texts)) == "it is • indeed"


@pytest.mark.parametrize("separator", [b"\r\n", b"\r"])
async def test_streams_with_other_line_ends_are_masked_alike(gateway: Gateway, separator: bytes) -> None:
    case = CASES["messages"]
    sent = case.events(3).replace(b"\n", separator)
    gateway.upstream.play(streams(sent, 4))
    async with post(gateway, case.path, case.asked(stream=True)) as response:
        # The LF of a CRLF that was cut in two may come before an event that waits: another blank line, no other event.
        received = re.sub(rb"\r\n|\r", b"\n", await response.read())
    check_said(case, case.read_events(trees(received)))
    assert len(re.findall(rb"[^\n]\n\n", received)) == case.events(3).count(b"\n\n")


async def test_trailers_flush_what_waited(gateway: Gateway) -> None:
    async def play(call: Call) -> None:
        await call.head(content_type="text/event-stream", transfer_encoding="chunked")
        await call.chunk(event("half a token: ") + event(TOKEN[:20]) + event(finish="stop"))
        # The last event lacks the empty line that would end it.
        await call.chunk(DONE.rstrip(b"\n"))
        await call.end(b"x-trailer: 1\r\n")

    gateway.upstream.play(play)
    async with gateway.chat(stream=True) as response:
        received = await response.read()
    assert received.startswith(event("half a token: "))
    assert b"[DONE]" in received


# --- However an answer is written ------------------------------------------------------------------------------------


def _event(content: bytes) -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % content


ODD = {
    "escapes": _event("".join(f"\\u{ord(char):04x}" for char in TOKEN).encode()),
    "two data lines": _event(TOKEN.encode()).replace(b'"delta"', b'\ndata: "delta"'),
    "byte order mark": b"\xef\xbb\xbf" + _event(TOKEN.encode()),
    "member twice": _event(b"").replace(b'"content":""', b'"content":"%b","content":"masked"' % TOKEN.encode()),
    "no object": f'data: ["{TOKEN}"]\n\ndata: {TOKEN}\n\n'.encode(),
    "comment": f": {TOKEN}\n\n".encode(),
    "comment in an event": f": {TOKEN}\n".encode() + _event(b"hi"),
    "id and type": f"id: {TOKEN}\nevent: {TOKEN}\n".encode() + _event(b"hi"),
    "unknown field": f"note: {TOKEN}\n".encode() + _event(b"hi"),
}


@pytest.mark.parametrize("kind", ODD)
async def test_a_secret_is_masked_however_and_wherever_an_event_has_it(gateway: Gateway, kind: str) -> None:
    gateway.upstream.play(streams(ODD[kind] + event(finish="stop") + DONE, 5))
    async with gateway.chat(stream=True) as response:
        received = await response.read()
    assert leaked(received) == []
    assert received.endswith(event(finish="stop") + DONE)


@pytest.mark.parametrize(
    ("path", "content_type"), [("/chat/completions", "application/json"), ("/agents/a", "text/plain")]
)
async def test_events_under_another_content_type_give_no_secret_to_a_client_that_joins_them(
    gateway: Gateway, path: str, content_type: str
) -> None:
    # Clients that asked for a stream read events, whatever the header says.
    gateway.upstream.play(answers(CASES["chat"].events(3), content_type))
    async with post(gateway, path, CASES["chat"].asked(stream=True)) as response:
        received = await response.read()
    joined = CASES["chat"].read_events(trees(received)) if response.status == 200 else []
    assert [kind for kind, text in joined if leaked(text.encode())] == []


async def test_half_a_character_in_each_of_two_events_passes_and_is_recorded(gateway: Gateway) -> None:
    sent = _event(b"x \\ud83d") + _event(b"\\ude00 y") + event(finish="stop") + DONE
    gateway.upstream.play(streams(sent))
    async with gateway.chat(stream=True) as response:
        assert await response.read() == sent
        document = await gateway.document(decision_id(response))
    assert document["outcome"] == "completed"


@pytest.mark.parametrize("path", [f"/search/code?q={TOKEN}", f"/repos/o/{TOKEN}"])
async def test_a_secret_in_the_path_is_not_recorded(gateway: Gateway, path: str) -> None:
    gateway.upstream.play(answers(b"{}"))
    async with gateway.session.get(f"{gateway.url}{path}", headers=gateway.headers()) as response:
        document = await gateway.document(decision_id(response))
    assert leaked(json.dumps(document).encode()) == []


async def test_findings_say_where_a_secret_was(gateway: Gateway) -> None:
    gateway.upstream.play(answers(answer_json(f"see {TOKEN}")))
    async with gateway.chat(text=f"see {TOKEN}") as response:
        document = await gateway.document(decision_id(response))
    gateway.upstream.play(streams(event(f"see {TOKEN}") + event(finish="stop") + DONE))
    async with gateway.chat(stream=True) as response:
        streamed = await gateway.document(decision_id(response))
    found = [(one["rule"], one["direction"], one["where"], one["offset"]) for one in document["findings"]]
    assert found == [
        ("github-pat", "prompt", "messages[0].content", 4),
        ("github-pat", "answer", "choices[0].message.content", 4),
    ]
    assert len({one["fingerprint"] for one in document["findings"] + streamed["findings"]}) == 1


# --- The clients of others -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("dialect", ["chat", "completions", "responses"])
async def test_the_openai_client_reads_masked_answers(gateway: Gateway, dialect: str, stream: bool) -> None:  # noqa: FBT001
    case = CASES[dialect]
    gateway.upstream.play(streams(case.events(5)) if stream else answers(case.body()))
    async with openai.AsyncOpenAI(base_url=gateway.url, api_key=gateway.token(), max_retries=0) as client:
        create: Any = {
            "chat": client.chat.completions.create,
            "completions": client.completions.create,
            "responses": client.responses.create,
        }[dialect]
        answer = await create(**case.request, stream=stream)
        if stream:
            said = case.read_events([part.model_dump(exclude_unset=True) async for part in answer])
        else:
            said = case.read_json(answer.model_dump(exclude_unset=True))
    check_said(case, said)


# --- Compressed answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ENCODERS)
@pytest.mark.parametrize("stream", [True, False])
async def test_compressed_answers_are_decoded_and_masked(gateway: Gateway, coding: str, stream: bool) -> None:  # noqa: FBT001
    case = CASES["chat"]
    parts = [piece + b"\n\n" for piece in case.events(7).split(b"\n\n")[:-1]] if stream else [case.body()]
    body = b"".join(ENCODERS[coding](parts))
    script = streams(body, content_encoding=coding) if stream else answers(body, content_encoding=coding)
    gateway.upstream.play(script)
    async with post(gateway, case.path, case.asked(stream=stream)) as response:
        received = await response.read()
        assert "content-encoding" not in response.headers
        if not stream:
            assert int(response.headers["content-length"]) == len(received)
    check_said(case, case.read_events(trees(received)) if stream else case.read_json(json.loads(received)))


BOMB = gzip.compress(b" " * (40 * MIB))
CUT = gzip.compress(answer_json(TEXT))[:-20]
BAD = {"bomb": ("gzip", BOMB), "cut": ("gzip", CUT), "garbage": ("br", b"\x00\xff" * 99), "unknown": ("x-own", b"{}")}


@pytest.mark.parametrize("kind", BAD)
async def test_an_answer_that_cannot_be_decoded_is_502(gateway: Gateway, kind: str) -> None:
    coding, body = BAD[kind]
    gateway.upstream.play(answers(body, content_encoding=coding))
    async with gateway.chat() as response:
        assert response.status == 502
        assert (await response.json())["error"]["code"] in {"upstream.encoded", "upstream.too_large"}


@pytest.mark.parametrize("kind", ["bomb", "cut"])
async def test_a_stream_that_cannot_be_decoded_ends_in_a_cut(gateway: Gateway, kind: str) -> None:
    encoder = zlib.compressobj(wbits=31)
    received = bytearray()

    async def play(call: Call) -> None:
        await call.head(content_type="text/event-stream", transfer_encoding="chunked", content_encoding="gzip")
        await call.chunk(encoder.compress(event("hello")) + encoder.flush(zlib.Z_SYNC_FLUSH))
        await until(lambda: received, "the first event at the client", 5)
        if kind == "bomb":
            await call.chunk(encoder.compress(b": " + b" " * (40 * MIB)) + encoder.flush())
        await call.end()

    gateway.upstream.play(play)
    with pytest.raises(aiohttp.ClientPayloadError):
        async with gateway.chat(stream=True) as response:
            async for data in response.content.iter_any():
                received += data
    assert received == event("hello")
    document = await gateway.document(decision_id(response))
    assert document["error"]["code"] in {"upstream.encoded", "upstream.too_large"}


# --- Prompts ---------------------------------------------------------------------------------------------------------


def _chat_prompt(arguments: str) -> dict[str, Any]:
    call = {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": arguments}}
    messages = [
        {"role": "system", "content": f"The key is\n{KEY}"},
        {"role": "user", "content": [{"type": "text", "text": TEXT}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": f"NPM_TOKEN={NPM}"},
    ]
    return {"model": "gpt-5", "messages": messages}


def _responses_prompt(arguments: str) -> dict[str, Any]:
    items = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": TEXT}]},
        {"type": "function_call", "call_id": "c1", "name": "bash", "arguments": arguments},
        {"type": "function_call_output", "call_id": "c1", "output": f"NPM_TOKEN={NPM}"},
    ]
    return {"model": "gpt-5.5", "instructions": f"The key is\n{KEY}", "input": items}


def _messages_prompt(arguments: str) -> dict[str, Any]:
    messages = [
        {"role": "user", "content": TEXT},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t", "name": "b", "input": json.loads(arguments)}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": f"NPM_TOKEN={NPM}"}]},
    ]
    system = [{"type": "text", "text": f"The key is\n{KEY}"}]
    return {"model": "claude", "max_tokens": 9, "system": system, "messages": messages}


def _mcp_prompt(arguments: str) -> dict[str, Any]:
    return {**RPC, "method": "tools/call", "params": {"name": "ask", "arguments": json.loads(arguments)}}


PROMPTS = {
    "/chat/completions": _chat_prompt,
    "/responses": _responses_prompt,
    "/v1/messages": _messages_prompt,
    "/v1/messages/count_tokens": _messages_prompt,
    "/agents/helper": _chat_prompt,
    "/v1/engines/m/completions": lambda _: {"prompt": TEXT, "suffix": KEY, "extra": {"context": [f"t = '{NPM}'"]}},
    "/embeddings": lambda _: {"model": "m", "input": [TEXT, KEY]},
    "/mcp/": _mcp_prompt,
}


@pytest.mark.parametrize("path", PROMPTS)
async def test_the_upstream_and_the_record_get_every_prompt_masked(gateway: Gateway, path: str) -> None:
    prompt = PROMPTS[path](ARGUMENTS)
    gateway.upstream.play(answers(b'{"input_tokens":1,"choices":[],"output":[],"content":[],"data":[]}'))
    async with post(gateway, path, prompt) as response:
        assert response.status == 200
        document = await gateway.document(decision_id(response))
    [seen] = gateway.upstream.seen
    assert seen.header("content-length") == str(len(seen.body))
    assert leaked(seen.body) == []
    assert leaked(json.dumps(document, ensure_ascii=False).encode()) == []
    assert "[MASKED:" in json.dumps(document["request"])
    assert {one["direction"] for one in document["findings"]} == {"prompt"}
    sent, got = list(_strings(json.loads(to_json(prompt)))), list(_strings(json.loads(seen.body)))
    assert [_layers(text) for text in got] == [_layers(text) for text in sent]


def _strings(tree: Any) -> list[str]:
    if isinstance(tree, dict | list):
        return [text for one in (tree.values() if isinstance(tree, dict) else tree) for text in _strings(one)]
    return [tree] if isinstance(tree, str) else []


def _layers(text: str) -> Any:
    """Return a text with its secrets out; JSON in it is compared by what it says, at every layer."""
    try:
        tree = json.loads(text)
    except ValueError:
        return plain(text)
    return [_layers(one) for one in _strings(tree)] if isinstance(tree, dict) else plain(text)


async def test_a_prompt_without_secrets_passes_byte_for_byte(gateway: Gateway) -> None:
    body = (
        b'{ "messages":[{"role":"user","content":"caf\\u00e9 \xe4\xb8\x96"}],\n "model" : "gpt-5", "own": [1.0, 1e2] }'
    )
    url = f"{gateway.url}/chat/completions"
    async with gateway.session.post(url, headers=gateway.headers(), data=body) as response:
        assert response.status == 200
    assert gateway.upstream.seen[0].body == body


# --- Ways around -----------------------------------------------------------------------------------------------------


async def test_no_client_is_led_to_a_web_socket_and_none_gets_one(gateway: Gateway) -> None:
    listed = {"data": [{"id": "m", "supported_endpoints": ["/responses", "ws:/responses"]}]}
    gateway.upstream.play(answers(to_json(listed)))
    async with gateway.session.get(f"{gateway.url}/models", headers=gateway.headers()) as response:
        assert (await response.json())["data"][0]["supported_endpoints"] == ["/responses"]
    gateway.upstream.play(answers(b"{}"))
    upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-key": "x", "sec-websocket-version": "13"}
    async with gateway.session.get(f"{gateway.url}/responses", headers=gateway.headers() | upgrade) as response:
        assert response.status == 403
    assert gateway.upstream.seen == []


# --- Large bodies ----------------------------------------------------------------------------------------------------


PARAGRAPHS = [f"Line {number} of a long log, with nothing in it. " for number in range(5 * MIB // 47)]
LARGE = "".join([*PARAGRAPHS[: len(PARAGRAPHS) // 2], f"then {TOKEN} ", *PARAGRAPHS[len(PARAGRAPHS) // 2 :]])


@pytest.mark.parametrize("way", ["prompt", "answer"])
async def test_five_megabytes_are_masked_and_other_exchanges_go_on_meanwhile(gateway: Gateway, way: str) -> None:
    async def play(call: Call) -> None:
        large = len(call.seen.body) > MIB or b"large" in call.seen.body
        await call.whole(answer_json(LARGE if large and way == "answer" else "small"))

    async def ask_large() -> str:
        body = to_json(
            {"model": "gpt-5", "messages": [{"role": "user", "content": LARGE if way == "prompt" else "large"}]}
        )
        url = f"{gateway.url}/chat/completions"
        async with gateway.session.post(url, headers=gateway.headers(), data=io.BytesIO(body)) as response:
            assert response.status == 200
            text: str = (await response.json())["choices"][0]["message"]["content"]
            return text

    gateway.upstream.play(play)
    task = asyncio.create_task(ask_large())
    meanwhile = 0
    while not task.done():
        async with gateway.chat() as response:
            assert response.status == 200
        meanwhile += not task.done()
    said = await task
    if way == "prompt":
        [body] = [seen.body for seen in gateway.upstream.seen if len(seen.body) > MIB]
        said = json.loads(body)["messages"][0]["content"]
    assert plain(said) == plain(LARGE)
    assert TOKEN not in said
    assert meanwhile >= 3
