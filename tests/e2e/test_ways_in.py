"""Ways into the real Envoy beside URL mode and the plain forward proxy, and what its port of operations tells."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import aiohttp
import httpx
import pytest

from tests.e2e.gateway import Gateway

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

API = "api.githubcopilot.com"
CHAT = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}


def trusting(gateway: Gateway) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(gateway.state / "ca" / "ca.pem"))


async def test_a_client_that_dns_leads_here_gets_the_hosts_certificate_and_an_answer(gateway: Gateway) -> None:
    url = f"https://127.0.0.1:{gateway.ports.https}/chat/completions"
    headers = {"host": API, "authorization": f"Bearer {gateway.token()}"}
    async with httpx.AsyncClient(verify=trusting(gateway), trust_env=False) as client:
        answer = await client.post(url, json=CHAT, headers=headers, extensions={"sni_hostname": API})
    assert answer.status_code == 200
    document = await gateway.document(answer.headers["x-gateway-decision-id"])
    assert (document["principal"]["name"], document["outcome"]) == ("alice", "completed")
    assert gateway.upstream.seen[-1].header("authorization") == f"Bearer {gateway.credential}"


async def test_who_asks_for_another_name_gets_the_gateways_own_certificate(gateway: Gateway) -> None:
    url = f"https://127.0.0.1:{gateway.ports.https}/chat/completions"

    async def status(asked_for: str) -> int:
        async with httpx.AsyncClient(verify=trusting(gateway), trust_env=False) as client:
            return (await client.get(url, extensions={"sni_hostname": asked_for})).status_code

    assert await status("localhost") == 401
    with pytest.raises(httpx.ConnectError, match="Hostname mismatch"):
        await status(f"{API}.example")


async def test_the_forward_proxy_over_tls_is_the_forward_proxy(gateway: Gateway) -> None:
    trust = trusting(gateway)
    url = f"https://me:{gateway.token()}@localhost:{gateway.ports.proxy_https}"
    async with httpx.AsyncClient(proxy=httpx.Proxy(url, ssl_context=trust), verify=trust, trust_env=False) as client:
        answer = await client.post(f"https://{API}/chat/completions", json=CHAT)
        assert answer.status_code == 200
        with pytest.raises(httpx.ProxyError, match="403"):
            await client.get("https://example.com/")
    document = await gateway.document(answer.headers["x-gateway-decision-id"])
    assert document["principal"]["name"] == "alice"


async def test_who_connects_and_says_nothing_is_cut_off(own_gateway: Gateway) -> None:
    """Or a few thousand connections of one pod would shut out everybody: Envoy's number of them is limited."""

    def impatient(config: dict[str, Any]) -> None:
        chains = [
            (listener["name"], chain)
            for listener in config["static_resources"]["listeners"]
            for chain in listener["filter_chains"]
            if "transport_socket" in chain
        ]
        assert [name for name, _ in chains] == ["https", "https", "proxy-https", "intercepted"]
        for _, chain in chains:
            assert chain["transport_socket_connect_timeout"] == "15s"
            chain["transport_socket_connect_timeout"] = "0.3s"
        for listener in config["static_resources"]["listeners"]:
            if listener["name"] in {"proxy", "proxy-https"}:
                options = listener["filter_chains"][0]["filters"][0]["typed_config"]["common_http_protocol_options"]
                assert options["idle_timeout"] == "60s"
                options["idle_timeout"] = "0.3s"

    await own_gateway.prepare(impatient)
    await own_gateway.start()
    tls = trusting(own_gateway)
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        tls.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    for port, trust, said in (
        # 8443 waits for the name that is asked for, with a bound of its own: it is told, and nothing after.
        (own_gateway.ports.https, None, outgoing.read()),
        (own_gateway.ports.proxy_https, None, b""),
        (own_gateway.ports.proxy_https, tls, b""),
        (own_gateway.ports.proxy, None, b""),
    ):
        name = None if trust is None else "localhost"
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname=name)
        writer.write(said)
        async with asyncio.timeout(10):
            await reader.read()
        writer.transport.abort()


async def test_envoy_is_ready_while_a_worker_is_healthy(own_gateway: Gateway) -> None:
    await own_gateway.prepare()
    await own_gateway.start()
    url = f"http://127.0.0.1:{own_gateway.ports.envoy_ops}"
    await own_gateway.ready(f"{url}/ready")

    async def status(method: str, path: str) -> int:
        async with own_gateway.session.request(method, f"{url}{path}") as response:
            return response.status

    assert await status("GET", "/stats/prometheus") == 200
    for method, path in (
        ("POST", "/stats/prometheus"),
        ("POST", "/quitquitquit"),
        ("GET", "/config_dump"),
        ("GET", "/"),
    ):
        assert await status(method, path) == 404, path
    await own_gateway.kill_service()
    last: list[int] = []

    async def became(wanted: int) -> None:
        async with aiohttp.ClientSession() as session:
            while not last or last[-1] != wanted:
                async with session.get(f"{url}/ready") as response:
                    last.append(response.status)

    await became(503)
    await own_gateway.start_service()
    await became(200)
    assert set(last) == {200, 503}


async def test_many_scrapes_do_not_keep_the_admin_interface_from_a_drain(own_gateway: Gateway) -> None:
    await own_gateway.prepare()
    await own_gateway.start()
    scrape = b"GET /stats/prometheus HTTP/1.1\r\nHost: x\r\n\r\n"
    # Nobody reads the answers.
    wires = [await asyncio.open_connection("127.0.0.1", own_gateway.ports.envoy_ops, limit=1) for _ in range(200)]
    for _, writer in wires:
        writer.write(scrape * 3)

    async def counted() -> dict[str, int]:
        url = f"http://127.0.0.1:{own_gateway.ports.admin}/stats"
        async with (
            asyncio.timeout(5),
            own_gateway.session.get(url, params={"filter": "^cluster.admin.upstream_"}) as answer,
        ):
            lines = (await answer.text()).splitlines()
        return {name: int(value) for name, _, value in (line.partition(": ") for line in lines) if value.isdecimal()}

    found: dict[str, int] = {}
    async with asyncio.timeout(20):
        while not found.get("cluster.admin.upstream_rq_pending_overflow"):
            found = await counted()
    assert found["cluster.admin.upstream_cx_active"] <= 4
    for _, writer in wires:
        writer.transport.abort()
    await own_gateway.ready(f"http://127.0.0.1:{own_gateway.ports.envoy_ops}/stats/prometheus")
