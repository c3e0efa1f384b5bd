"""By its decision id an exchange is found in Envoy's access log, in our log and in the record; by its trace too."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from tests.e2e.gateway import Gateway, decision_id, until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
PROMPT = "what nobody may read in a log"


def our_log(gateway: Gateway) -> list[dict[str, Any]]:
    lines = (gateway.state / "serve.log").read_text().splitlines()
    return [line for text in lines if text.startswith("{") and (line := json.loads(text))["message"] == "exchange"]


async def asked(gateway: Gateway, parent: str, **headers: str) -> aiohttp.ClientResponse:
    said = json.dumps({"model": "gpt-5", "messages": [{"role": "user", "content": PROMPT}]})
    sent = {**gateway.headers(), "traceparent": parent, "tracestate": "vendor=1", **headers}
    async with gateway.session.post(f"{gateway.url}/chat/completions", headers=sent, data=said) as response:
        await response.read()
    return response


async def joined(gateway: Gateway, wanted: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return what Envoy's access log, our log and the record have of a decision."""
    [envoys] = await until(
        lambda: [line for line in gateway.access_log() if line["decision_id"] == wanted], "the line of Envoy"
    )
    [ours] = await until(lambda: [line for line in our_log(gateway) if line["decision_id"] == wanted], "our line")
    return envoys, ours, await gateway.document(wanted)


async def test_an_allowed_exchange_is_one_line_in_each_log_and_one_record_and_its_trace_goes_on(
    gateway: Gateway,
) -> None:
    response = await asked(gateway, PARENT)
    assert response.status == 200
    envoys, ours, document = await joined(gateway, decision_id(response))
    assert envoys["status"] == ours["status"] == document["response"]["status"] == 200
    assert envoys["traceparent"] == PARENT
    assert ours["trace_id"] == document["client"]["trace"] == TRACE
    assert (ours["outcome"], ours["model"], ours["input_tokens"]) == ("completed", "gpt-5", 3)
    assert ours["duration_ms"] >= ours["released_ms"] > 0
    [seen] = gateway.upstream.seen
    assert (seen.header("traceparent"), seen.header("tracestate")) == (PARENT, "vendor=1")
    assert PROMPT not in json.dumps([envoys, ours])


async def test_a_refused_exchange_is_too(gateway: Gateway) -> None:
    response = await asked(gateway, PARENT, authorization="Bearer nobody")
    assert response.status == 401
    envoys, ours, document = await joined(gateway, decision_id(response))
    assert envoys["status"] == ours["status"] == document["response"]["status"] == 401
    assert envoys["traceparent"] == PARENT
    assert ours["trace_id"] == document["client"]["trace"] == TRACE
    assert ours["code"] == document["error"]["code"] == "identity.malformed"


async def test_a_malformed_traceparent_is_passed_on_and_otherwise_ignored(gateway: Gateway) -> None:
    odd = "00-zz-" + "x" * 80
    response = await asked(gateway, odd)
    envoys, ours, document = await joined(gateway, decision_id(response))
    [seen] = gateway.upstream.seen
    assert seen.header("traceparent") == odd
    assert envoys["traceparent"] == odd[:55]
    assert ours["trace_id"] is document["client"]["trace"] is None


async def test_the_metrics_of_a_running_service_are_served(gateway: Gateway) -> None:
    await asked(gateway, PARENT)
    async with gateway.session.get(f"http://127.0.0.1:{gateway.ports.ops}/metrics") as response:
        text = await response.text()
    digest = (await gateway.document(decision_id(await asked(gateway, PARENT))))["decision"]["policy"]
    assert f'extproc_policy_info{{digest="{digest}"}} 1.0' in text
    assert 'extproc_tokens_total{group="developers",model="gpt-5",type="input"}' in text
    assert f'extproc_jwks_age_seconds{{issuer="{gateway.ports.issuer_url}"}}' in text
    for name in ("extproc_chain_index ", "extproc_store_writes_total ", "extproc_event_loop_lag_seconds_count "):
        (value,) = [line.split()[1] for line in text.splitlines() if line.startswith(name)]
        assert float(value) > 0
