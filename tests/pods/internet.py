"""What is outside of the cluster, in one process: `python -m tests.pods.internet FOLDER GITHUB ISSUER`.

On the address GITHUB, port 443, answers for all hosts of GitHub: what it was asked is appended to FOLDER/seen.jsonl. A
question "stream N" is answered with N events, 20 each second. The same address echoes UDP on port 443, where HTTP/3
would be. On ISSUER are the issuers with the keys of their tokens:
Entra ID, the cluster's own and another one. FOLDER has their certificate and the issuer's key.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
import time
from pathlib import Path
from typing import Any

from aiohttp import web

from extproc.dev import keys
from tests.e2e.upstream import DONE, Call, Upstream, answer_json, event
from tests.pods import linux

EVENTS_A_SECOND = 20
CREDENTIAL = "gho_held_by_the_gateway"
COPILOT_TOKEN = "tid=1;exp=2;what-the-credential-is-exchanged-for"


async def answer(call: Call) -> None:
    is_exchange = call.seen.target == "/copilot_internal/v2/token"
    expected = f"token {CREDENTIAL}" if is_exchange else f"Bearer {COPILOT_TOKEN}"
    if call.seen.header("authorization") != expected:
        await call.whole(b'{"message":"Bad credentials"}', "401 Unauthorized")
        return
    if is_exchange:
        times = {"expires_at": int(time.time()) + 1800, "refresh_in": 1500}
        token = {"token": COPILOT_TOKEN, **times, "endpoints": {"api": "https://api.githubcopilot.com"}}
        await call.whole(json.dumps(token).encode())
        return
    if call.seen.method != "POST":
        await call.whole(b'{"object":"list","data":[]}')
        return
    asked = json.loads(call.seen.body)
    question = asked["messages"][-1]["content"]
    found = re.match(r"stream (\d+)", question)
    if found is None:
        await call.whole(answer_json(f"answer to {question}"))
        return
    await call.head(content_type="text/event-stream", transfer_encoding="chunked")
    for number in range(int(found[1])):
        await call.chunk(event(f"word {number} "))
        await asyncio.sleep(1 / EVENTS_A_SECOND)
    await call.chunk(event(finish="stop"))
    await call.chunk(DONE)
    await call.end()


class _Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.transport.sendto(data, address)


def issuer(key: keys.SigningKey) -> web.Application:
    app = web.Application()

    async def jwks(_: web.Request) -> web.Response:
        return web.json_response({"keys": [key.jwk()]})

    async def discovery(request: web.Request) -> web.Response:
        base = f"https://{request.host}{request.path.removesuffix('.well-known/openid-configuration')}"
        # That of AKS has a path, and a slash at its end.
        issuer = base if request.match_info else base.removesuffix("/")
        return web.json_response({"issuer": issuer, "jwks_uri": f"{base}openid/v1/jwks"})

    app.router.add_get("/.well-known/openid-configuration", discovery)
    app.router.add_get("/openid/v1/jwks", jwks)
    app.router.add_get("/{tenant}/{cluster}/.well-known/openid-configuration", discovery)
    app.router.add_get("/{tenant}/{cluster}/openid/v1/jwks", jwks)
    app.router.add_get("/{tenant}/discovery/v2.0/keys", jwks)
    app.router.add_get("/{tenant}/discovery/keys", jwks)
    return app


async def main(folder: Path, github: str, issuer_address: str) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "internet.crt", folder / "internet.key")
    upstream = Upstream()

    async def script(call: Call) -> None:
        seen = call.seen
        line = {"method": seen.method, "target": seen.target, "headers": seen.headers, "body": seen.body.decode()}
        with (folder / "seen.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        await answer(call)

    upstream.play(script)
    server = await asyncio.start_server(upstream._serve, github, 443, ssl=tls)
    await asyncio.get_running_loop().create_datagram_endpoint(_Echo, local_addr=(github, 443))
    runner = web.AppRunner(issuer(keys.load_or_create(folder / keys.KEY_FILE)), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, issuer_address, 443, ssl_context=tls).start()
    linux.end_with_parent()
    print("ready", flush=True)  # noqa: T201 - whoever starts it waits for this line
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
