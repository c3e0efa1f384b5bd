"""Ways into the real Envoy beside URL mode and the plain forward proxy, and what its port of operations tells."""

from __future__ import annotations

import ssl

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
