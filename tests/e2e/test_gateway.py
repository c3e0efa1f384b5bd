"""What users of the gateway see, on the real Envoy."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import ssl
import sys
from typing import Any

import aiohttp
import grpc.aio
import jwt
import openai
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from grpc_health.v1 import health_pb2, health_pb2_grpc
from yarl import URL

from extproc import wire
from tests.e2e.gateway import Gateway, decision_id, free_ports, until
from tests.e2e.upstream import DONE, Call, answer_json, event

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


def client(gateway: Gateway) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=gateway.url, api_key=gateway.token(), max_retries=0)


async def test_the_openai_client_completes_a_plain_chat_and_it_is_recorded(gateway: Gateway) -> None:
    async with client(gateway) as openai_client:
        raw = await openai_client.chat.completions.with_raw_response.create(
            model="gpt-5", messages=[{"role": "user", "content": "hi"}]
        )
    assert raw.parse().choices[0].message.content == "hello"
    document = await gateway.document(raw.headers["x-gateway-decision-id"])
    assert document["outcome"] == "completed"
    assert document["principal"]["name"] == "alice"
    assert document["decision"]["rule"] == "developers-models"
    assert document["request"]["model"] == "gpt-5"
    assert document["request"]["messages"] == [{"role": "user", "content": "hi"}]
    assert document["response"]["text"] == "hello"
    assert document["response"]["finish_reason"] == "stop"
    assert document["response"]["usage"] == {"input_tokens": 3, "output_tokens": 5}


async def test_the_openai_client_completes_a_streaming_chat_with_its_rhythm_recorded(gateway: Gateway) -> None:
    sent: list[str] = []
    texts: list[str | None] = []

    async def slow(call: Call) -> None:
        await call.head(content_type="text/event-stream", transfer_encoding="chunked")
        for text in ("hello, ", "world. "):
            await call.chunk(event(text))
            sent.append(text)
            await until(lambda: len(texts) >= len(sent), "the client's next piece")
        await call.chunk(event(finish="stop") + DONE)
        await call.end()

    gateway.upstream.play(slow)
    async with client(gateway) as openai_client:
        stream = await openai_client.chat.completions.create(
            model="gpt-5", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        async for chunk in stream:
            texts.append(chunk.choices[0].delta.content)  # noqa: PERF401 - the upstream waits for each of them
    assert texts == ["hello, ", "world. ", None]
    document = await gateway.document(stream.response.headers["x-gateway-decision-id"])
    assert document["outcome"] == "completed"
    assert document["response"]["text"] == "hello, world. "
    assert document["response"]["complete"] is True
    pieces = document["timing"]["pieces"]
    assert [(channel, count) for _, channel, count in pieces] == [("0.text", 7), ("0.text", 7)]
    assert pieces[0][0] < pieces[1][0]


async def test_the_upstream_sees_the_gateways_credential_and_nothing_of_the_callers(gateway: Gateway) -> None:
    token = gateway.token()
    secret_headers = {
        "authorization": f"Bearer {token}", "x-api-key": "k", "cookie": "c=1", "proxy-authorization": "Basic x",
        "forwarded": "for=1.2.3.4", "x-forwarded-for": "1.2.3.4", "x-goog-api-key": "k", "request-hmac": "h",
        "x-gateway-upstream": "evil.example", "x-envoy-original-path": "/evil", "X-Envoy-Retry-On": "5xx",
        "accept-encoding": "gzip", "x-initiator": "user", "x-interaction-id": "i-1",
    }  # fmt: skip
    url = f"{gateway.url}/v1/chat/completions?api_key=leak&x=1"
    body = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
    async with gateway.session.post(url, headers=secret_headers, json=body) as response:
        assert response.status == 200
    [seen] = gateway.upstream.seen
    assert seen.target == "/chat/completions?x=1"
    assert [value for name, value in seen.headers if name == "authorization"] == [f"Bearer {gateway.credential}"]
    assert seen.header("host") == "api.githubcopilot.com"
    assert seen.header("accept-encoding") == "identity"
    assert (seen.header("x-initiator"), seen.header("x-interaction-id")) == ("user", "i-1")
    assert seen.header("content-length") == str(len(seen.body))
    gone = {"x-api-key", "cookie", "proxy-authorization", "forwarded", "x-goog-api-key", "request-hmac"}
    names = {name for name, _ in seen.headers}
    assert not gone & names
    assert not [name for name in names if name.startswith(("x-forwarded-", "x-gateway-", "x-envoy-"))]
    assert token not in repr(seen)


async def test_models_are_listed_and_recorded(gateway: Gateway) -> None:
    async with gateway.session.get(f"{gateway.url}/models", headers=gateway.headers()) as response:
        assert response.status == 200
        assert await response.json() == {"object": "list", "data": []}
        document = await gateway.document(decision_id(response))
    assert (document["outcome"], document["request"]["endpoint"]) == ("completed", "models")


async def test_metadata_passes_and_is_recorded_without_bodies(gateway: Gateway) -> None:
    async with gateway.session.get(f"{gateway.url}/_ping", headers=gateway.headers()) as response:
        assert response.status == 200
        assert await response.json() == {"object": "list", "data": []}
        document = await gateway.document(decision_id(response))
    assert document["outcome"] == "completed"
    assert document["request"]["endpoint"] == "metadata"
    assert "text" not in document["response"]


async def test_the_https_listener_serves_with_a_certificate_of_the_dev_ca(gateway: Gateway) -> None:
    trust = ssl.create_default_context(cafile=str(gateway.state / "ca" / "ca.pem"))
    url = f"https://127.0.0.1:{gateway.ports.https}/models"
    async with gateway.session.get(url, headers=gateway.headers(), ssl=trust) as response:
        assert response.status == 200


async def test_a_refused_model_or_person_gets_422_with_code_and_decision_id(gateway: Gateway) -> None:
    async with gateway.chat(user="mallory") as response:
        assert response.status == 422
        error = (await response.json())["error"]
        assert error["code"] == "policy.denied"
        assert error["decision_id"] == decision_id(response)
        document = await gateway.document(decision_id(response))
    assert document["outcome"] == "denied"
    assert document["decision"]["rule"] == "default"
    assert gateway.upstream.seen == []


async def test_an_unknown_endpoint_is_refused_not_passed(gateway: Gateway) -> None:
    async with gateway.session.get(f"{gateway.url}/unheard-of", headers=gateway.headers()) as response:
        assert response.status == 403
        assert (await response.json())["error"]["code"] == "endpoint.unknown"
    assert gateway.upstream.seen == []


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer nonsense"}, {"authorization": "Digest x"}])
async def test_without_a_good_token_it_is_401_and_recorded(gateway: Gateway, headers: dict[str, str]) -> None:
    async with gateway.session.post(f"{gateway.url}/chat/completions", headers=headers, data="{}") as response:
        assert response.status == 401
        code = (await response.json())["error"]["code"]
        document = await gateway.document(decision_id(response))
    assert code.startswith("identity.")
    assert (document["outcome"], document["error"]["code"]) == ("denied", code)
    assert gateway.upstream.seen == []


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"exp": 1}, "identity.expired"),
        ({"nbf": 4102444800}, "identity.not_yet_valid"),
        ({"aud": "another"}, "identity.audience"),
        ({"iss": "http://127.0.0.1:1"}, "identity.issuer"),
    ],
)
async def test_a_token_that_is_not_for_us_is_401_with_its_code(
    gateway: Gateway, claims: dict[str, Any], code: str
) -> None:
    headers = {"authorization": f"Bearer {gateway.token(**claims)}"}
    async with gateway.session.get(f"{gateway.url}/models", headers=headers) as response:
        assert response.status == 401
        assert (await response.json())["error"]["code"] == code


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example/models",
        "/models%2f..%2fuser",
        "/x/../models",
        "/%2e%2e/models",
        "/models%00",
        "/mod\\els",
        "/models%zz",
    ],
)
async def test_an_ambiguous_path_is_refused_and_recorded(gateway: Gateway, path: str) -> None:
    url = URL(f"{gateway.url}{path}", encoded=True)
    async with gateway.session.get(url, headers=gateway.headers()) as response:
        assert response.status == 400
        assert (await response.json())["error"]["code"] == "request.path"
        document = await gateway.document(decision_id(response))
    assert document["outcome"] == "denied"
    assert gateway.upstream.seen == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b'{"model":"gpt-5"}',
        b'{"model":1,"messages":[]}',
        b'{"model":"\xff","messages":[{"role":"user"}]}',
    ],
)
async def test_a_body_that_is_not_a_chat_request_is_400(gateway: Gateway, body: bytes) -> None:
    url = f"{gateway.url}/chat/completions"
    async with gateway.session.post(url, headers=gateway.headers(), data=body) as response:
        assert response.status == 400
        assert (await response.json())["error"]["code"] == "request.body"
    assert gateway.upstream.seen == []


async def test_a_websocket_upgrade_is_refused(gateway: Gateway) -> None:
    upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-key": "x", "sec-websocket-version": "13"}
    async with gateway.session.get(f"{gateway.url}/responses", headers=gateway.headers() | upgrade) as response:
        assert response.status == 403
    assert gateway.upstream.seen == []


async def test_an_html_answer_becomes_a_clean_502(gateway: Gateway) -> None:
    async def html(call: Call) -> None:
        await call.whole(b"<html>login</html>", content_type="text/html")

    gateway.upstream.play(html)
    async with gateway.chat() as response:
        assert response.status == 502
        assert (await response.json())["error"]["code"] == "upstream.content_type"
        document = await gateway.document(decision_id(response))
    assert document["outcome"] == "upstream_error"
    assert document["response"]["upstream_status"] == 200


async def test_an_encoding_nobody_knows_is_refused(gateway: Gateway) -> None:
    async def encoded(call: Call) -> None:
        await call.whole(answer_json(), content_encoding="aes128gcm")

    gateway.upstream.play(encoded)
    async with gateway.chat() as response:
        assert response.status == 502
        assert (await response.json())["error"]["code"] == "upstream.encoded"


async def test_an_upstream_that_refuses_the_gateways_credential_does_not_send_the_client_to_sign_in(
    gateway: Gateway,
) -> None:
    async def unauthorized(call: Call) -> None:
        await call.whole(b'{"message":"Bad credentials"}', "401 Unauthorized")

    gateway.upstream.play(unauthorized)
    async with gateway.chat() as response:
        assert response.status == 502
        assert (await response.json())["error"]["code"] == "credential.refused"


async def test_an_upstream_error_in_json_passes_byte_for_byte(gateway: Gateway) -> None:
    body = b'{"error":{"message":"too many","code":"rate_limited","extra":[1,2]}}'

    async def limited(call: Call) -> None:
        await call.whole(body, "429 Too Many Requests", retry_after="2")

    gateway.upstream.play(limited)
    async with gateway.chat() as response:
        assert response.status == 429
        assert response.headers["retry-after"] == "2"
        assert await response.read() == body
        document = await gateway.document(decision_id(response))
    assert (document["outcome"], document["response"]["error"]) == ("upstream_error", body.decode())


async def test_an_upstream_that_resets_a_json_answer_gives_a_clean_error(gateway: Gateway) -> None:
    async def broken(call: Call) -> None:
        await call.head(content_type="application/json", content_length="1000")
        await call.send(b'{"choices":')
        call.reset()

    gateway.upstream.play(broken)
    async with gateway.chat() as response:
        assert response.status == 502
        error = (await response.json())["error"]
    document = await gateway.document(error["decision_id"])
    assert (document["outcome"], document["error"]["code"]) == ("upstream_error", "upstream.reset")
    assert document["response"]["status"] == 502
    # On a busy machine the reset overtakes the headers before it.
    assert document["response"]["upstream_status"] in {200, None}


async def test_a_client_that_hangs_up_at_the_terminal_event_has_completed(gateway: Gateway) -> None:
    gone = asyncio.Event()

    async def lingering(call: Call) -> None:
        await call.head(content_type="text/event-stream", transfer_encoding="chunked")
        await call.chunk(event("all there is", finish="stop") + DONE)
        await gone.wait()

    gateway.upstream.play(lingering)
    async with gateway.chat(stream=True) as response:
        while DONE not in await response.content.readany():
            pass
        response.close()
    document = await gateway.document(decision_id(response))
    gone.set()
    assert (document["outcome"], document["error"]) == ("completed", None)
    assert document["response"]["text"] == "all there is"


async def test_an_upstream_that_resets_a_stream_is_recorded_with_what_was_said(gateway: Gateway) -> None:
    async def broken(call: Call) -> None:
        await call.head(content_type="text/event-stream", transfer_encoding="chunked")
        await call.chunk(event("half an "))
        await until(lambda: received, "the client's first bytes")
        call.reset()

    received: list[bytes] = []
    gateway.upstream.play(broken)
    with pytest.raises(aiohttp.ClientPayloadError):
        async with gateway.chat(stream=True) as response:
            async for data in response.content.iter_any():
                received.append(data)  # noqa: PERF401 - the upstream waits for the first of them
    assert b"".join(received) == event("half an ")
    document = await gateway.document(decision_id(response))
    assert (document["outcome"], document["error"]["code"]) == ("upstream_error", "upstream.reset")
    assert document["response"]["text"] == "half an "
    assert document["response"]["complete"] is False


async def test_a_client_that_goes_away_is_recorded_as_aborted_with_what_it_received(gateway: Gateway) -> None:
    gone = asyncio.Event()

    async def endless(call: Call) -> None:
        await call.head(content_type="text/event-stream", transfer_encoding="chunked")
        await call.chunk(event("one "))
        await call.chunk(event("two "))
        await gone.wait()

    gateway.upstream.play(endless)
    async with gateway.chat(stream=True) as response:
        received = b""
        while len(received) < len(event("one ") + event("two ")):
            received += await response.content.readany()
        response.close()
    document = await gateway.document(decision_id(response))
    gone.set()
    assert (document["outcome"], document["error"]["code"]) == ("aborted", "client.gone")
    assert document["response"]["text"] == "one two "


@pytest.mark.parametrize("separator", [b"\n\n", b"\r\n\r\n", b"\r\r"])
async def test_streams_pass_byte_for_byte_however_they_are_cut_and_ended(gateway: Gateway, separator: bytes) -> None:
    frames = [b": keep-alive", event("h\u00e9llo \u4e16\u754c").strip(), event(finish="stop").strip(), DONE.strip()]
    body = separator.join(frames) + separator

    async def cut(call: Call) -> None:
        await call.head(content_type="text/event-stream", transfer_encoding="chunked")
        for at in range(0, len(body), 7):
            await call.chunk(body[at : at + 7])
        await call.end(b"x-trailer: 1\r\n")

    gateway.upstream.play(cut)
    async with gateway.chat(stream=True) as response:
        assert await response.read() == body
        document = await gateway.document(decision_id(response))
    assert document["response"]["text"] == "h\u00e9llo \u4e16\u754c"


async def test_an_echoed_credential_never_reaches_the_client_nor_the_record(gateway: Gateway) -> None:
    secret = gateway.credential

    async def echo(call: Call) -> None:
        body = answer_json(f"you sent {call.seen.header('authorization')}")
        await call.whole(body, x_echo=f"Bearer {secret}", copilot_edits_session="vault", set_cookie="a=b")

    gateway.upstream.play(echo)
    async with gateway.chat() as response:
        text = await response.text()
        assert response.status == 200
        assert "[MASKED:gateway-credential]" in text
        assert secret not in text + repr(response.headers)
        assert response.headers["x-echo"] == "Bearer [MASKED:gateway-credential]"
        assert "copilot-edits-session" not in response.headers
        assert "set-cookie" not in response.headers
        document = await gateway.document(decision_id(response))
    assert secret not in json.dumps(document)


async def test_a_credential_spread_over_events_is_masked_where_it_began(gateway: Gateway) -> None:
    secret = gateway.credential

    async def echo(call: Call) -> None:
        await call.head(content_type="text/event-stream", transfer_encoding="chunked")
        for at in range(0, len(secret), 5):
            await call.chunk(event(secret[at : at + 5]))
        await call.chunk(event(finish="stop") + DONE)
        await call.end()

    gateway.upstream.play(echo)
    async with gateway.chat(stream=True) as response:
        assert response.status == 200
        received = await response.read()
        document = await gateway.document(decision_id(response))
    assert received.endswith(DONE)
    frames = [json.loads(frame.removeprefix(b"data: ")) for frame in received.split(b"\n\n")[:-2]]
    texts = [frame["choices"][0]["delta"].get("content") for frame in frames]
    assert texts == ["[MASKED:gateway-credential]", *[""] * (len(texts) - 2), None]
    assert (document["outcome"], document["response"]["text"]) == ("completed", "[MASKED:gateway-credential]")
    assert [(one["rule"], one["direction"]) for one in document["findings"]] == [("gateway-credential", "answer")]
    assert secret[:10] not in json.dumps(document)


async def test_envoys_access_log_carries_the_decision_id(gateway: Gateway) -> None:
    async with gateway.chat() as response:
        await response.read()
        wanted = decision_id(response)
    [line] = await until(
        lambda: [line for line in gateway.access_log() if line["decision_id"] == wanted], "the access log line"
    )
    assert (line["status"], line["path"], line["upstream"]) == (200, "/chat/completions", "api.githubcopilot.com")


async def test_the_clients_session_id_groups_exchanges_of_one_person_only(gateway: Gateway) -> None:
    sessions = []
    for user in ("alice", "alice", "bob"):
        headers = gateway.headers(user) | {"x-client-session-id": "s-1"}
        async with gateway.session.get(f"{gateway.url}/models", headers=headers) as response:
            sessions.append((await gateway.document(decision_id(response)))["session"])
    assert sessions[0] == sessions[1] != sessions[2]


def _forged(gateway: Gateway, kind: str) -> str:
    claims = {"iss": gateway.ports.issuer_url, "aud": "copilot-extproc", "sub": "alice", "exp": 4102444800}
    claims |= {"groups": ["developers"], "preferred_username": "alice"}
    if kind == "alg none":
        return jwt.encode(claims, "", algorithm="none", headers={"kid": gateway.key.kid})
    if kind == "public key as hmac":
        public = gateway.key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        # PyJWT refuses to make such a token, so it is made by hand.
        head, payload = (
            base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
            for part in ({"alg": "HS256", "kid": gateway.key.kid}, claims)
        )
        mac = hmac.new(public, head + b"." + payload, "sha256").digest()
        return b".".join((head, payload, base64.urlsafe_b64encode(mac).rstrip(b"="))).decode()
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    kid = gateway.key.kid if kind == "another key" else "never heard of"
    return jwt.encode(claims, other, algorithm="RS256", headers={"kid": kid})


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("alg none", "identity.algorithm"),
        ("public key as hmac", "identity.algorithm"),
        ("another key", "identity.signature"),
        ("unknown kid", "identity.key_unknown"),
    ],
)
async def test_a_forged_token_is_401_with_its_code(gateway: Gateway, kind: str, code: str) -> None:
    headers = {"authorization": f"Bearer {_forged(gateway, kind)}"}
    async with gateway.session.get(f"{gateway.url}/models", headers=headers) as response:
        assert response.status == 401
        assert (await response.json())["error"]["code"] == code
        document = await gateway.document(decision_id(response))
    assert document["error"]["code"] == code
    assert gateway.upstream.seen == []


async def _start_with_exchange(gateway: Gateway, api: str) -> None:
    """Start with a credential that needs Copilot's token exchange; GitHub's answer names `api` as the host to use."""

    async def github(call: Call) -> None:
        if call.seen.target == "/copilot_internal/v2/token":
            token = {"token": "tid=1;exp=9:mac-mac-mac", "expires_at": 4102444800, "refresh_in": 1500}
            await call.whole(json.dumps({**token, "endpoints": {"api": api}}).encode())
        else:
            await call.whole(answer_json())

    await gateway.prepare()
    exchange = {"url": f"http://127.0.0.1:{gateway.upstream.port}/copilot_internal/v2/token"}
    gateway.configure(credentials={"github": {"file": "github-token", "exchange": exchange}})
    gateway.upstream.play(github)
    await gateway.start()


async def test_an_exchanged_token_goes_to_the_host_github_named_and_the_github_token_stays(
    own_gateway: Gateway,
) -> None:
    await _start_with_exchange(own_gateway, "https://api.business.githubcopilot.com")
    async with own_gateway.chat() as first, own_gateway.chat() as response:
        assert (first.status, response.status) == (200, 200)
        document = await own_gateway.document(decision_id(response))
    asked, *chats = own_gateway.upstream.seen
    assert asked.header("authorization") == f"token {own_gateway.credential}"
    assert [chat.header("authorization") for chat in chats] == ["Bearer tid=1;exp=9:mac-mac-mac"] * 2
    assert [chat.header("host") for chat in chats] == ["api.business.githubcopilot.com"] * 2
    record = json.dumps(document)
    assert "mac-mac-mac" not in record
    assert own_gateway.credential not in record


async def test_a_token_exchange_that_names_another_host_sends_nothing(own_gateway: Gateway) -> None:
    await _start_with_exchange(own_gateway, "https://api.githubcopilot.com.evil.example")
    async with own_gateway.chat() as response:
        assert response.status == 503
        assert (await response.json())["error"]["code"] == "credential.unavailable"
    assert [seen.target for seen in own_gateway.upstream.seen] == ["/copilot_internal/v2/token"]


async def test_a_rotated_credential_file_is_used_at_once(own_gateway: Gateway) -> None:
    await own_gateway.prepare()
    await own_gateway.start()
    async with own_gateway.chat():
        pass
    (own_gateway.state / "github-token").write_text("gho_rotated_value\n")
    async with own_gateway.chat():
        pass
    sent = [seen.header("authorization") for seen in own_gateway.upstream.seen]
    assert sent[1] == "Bearer gho_rotated_value" != sent[0]


async def test_the_grpc_health_service_answers_on_a_tcp_address_too(own_gateway: Gateway) -> None:
    [port] = free_ports(1)
    await own_gateway.prepare()
    own_gateway.configure(listen=["unix:ext_proc.sock", f"127.0.0.1:{port}"])
    await own_gateway.start_service()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(service=wire.PROCESSOR_SERVICE))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def _refused_start(gateway: Gateway) -> str:
    """Run `extproc serve` with settings it must refuse; return its one message."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "extproc", "serve", "--config", str(gateway.state / "gateway.yaml"),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, error = await process.communicate()
    assert process.returncode == 2
    assert "Traceback" not in error.decode()
    return error.decode()


async def test_a_wrong_settings_file_is_one_readable_message_and_exit_code_2(own_gateway: Gateway) -> None:
    await own_gateway.prepare()
    own_gateway.configure(issuers=[{"kind": "oidc", "issuer": "http://127.0.0.1:1", "audience": ["typo"]}])
    error = await _refused_start(own_gateway)
    assert "gateway.yaml:" in error
    assert "audience" in error


async def test_a_port_in_use_is_one_readable_message_and_exit_code_2(own_gateway: Gateway) -> None:
    await own_gateway.prepare()
    own_gateway.configure(operations=f"127.0.0.1:{own_gateway.upstream.port}")
    assert f"cannot listen on 127.0.0.1:{own_gateway.upstream.port}" in await _refused_start(own_gateway)
