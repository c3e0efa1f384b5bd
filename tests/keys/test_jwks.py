from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec
from jwt import PyJWK
from jwt.algorithms import ECAlgorithm

from extproc.errors import Code, Refused
from extproc.identity.issuers import oidc
from extproc.keys.jwks import MAX_DOCUMENT_BYTES, JwksSource, KeyLimits, KeyState


def new_key(kid: str) -> dict[str, Any]:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    return json.loads(ECAlgorithm.to_jwk(public)) | {"kid": kid}  # type: ignore[no-any-return]


class Provider:
    """An issuer on the loopback: what it answers, and how often it was asked."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.keys = [new_key("first")]
        self.padding = ""
        self.status = 200
        self.discovery: dict[str, object] = {}
        self.key_requests = 0
        self.discovery_requests = 0
        self.answering = asyncio.Event()
        self.answering.set()
        self.asked = asyncio.Event()
        self.url = ""

    async def serve_discovery(self, _request: web.Request) -> web.Response:
        self.discovery_requests += 1
        return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/jwks"} | self.discovery)

    async def serve_keys(self, _request: web.Request) -> web.Response:
        self.key_requests += 1
        self.asked.set()
        await self.answering.wait()
        return web.json_response({"keys": self.keys, "padding": self.padding}, status=self.status)

    def forget_requests(self) -> None:
        self.key_requests = 0
        self.asked.clear()


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    provider = Provider()
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", provider.serve_discovery)
    app.router.add_get("/jwks", provider.serve_keys)
    async with TestServer(app) as server:
        provider.url = str(server.make_url("")).rstrip("/")
        yield provider
        provider.answering.set()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def source(provider: Provider, session: aiohttp.ClientSession) -> AsyncIterator[JwksSource]:
    issuer = oidc(provider.url, audiences=["gateway"], jwks_url=f"{provider.url}/jwks")
    source = JwksSource(issuer, session=session, now=lambda: provider.now, limits=KeyLimits())
    yield source
    await source.aclose()


async def landed(source: JwksSource) -> None:
    """Wait for the background request to end."""
    if source._flight is not None:
        await asyncio.wait({source._flight})


async def code(asking: Coroutine[Any, Any, PyJWK]) -> tuple[int, Code]:
    with pytest.raises(Refused) as caught:
        await asking
    return caught.value.refusal.status, caught.value.refusal.code


UNAVAILABLE = (503, Code.IDENTITY_UNAVAILABLE)
UNKNOWN = (401, Code.IDENTITY_KEY_UNKNOWN)


async def test_keys_are_fetched_once_and_their_age_is_told(provider: Provider, source: JwksSource) -> None:
    assert source.age is None
    first = await source.key("first", "ES256")
    provider.now += 599
    assert await source.key("first", "ES256") is first
    assert provider.key_requests == 1
    assert source.age == 599


async def test_keys_are_found_by_discovery(provider: Provider, session: aiohttp.ClientSession) -> None:
    issuer = oidc(provider.url, audiences=["gateway"])
    source = JwksSource(issuer, session=session, now=lambda: provider.now, limits=KeyLimits())
    assert (await source.key("first", "ES256")).key_id == "first"
    assert (provider.discovery_requests, provider.key_requests) == (1, 1)


@pytest.mark.parametrize(
    "discovery",
    [
        {"issuer": "https://other.example"},
        {"issuer": None},
        {"jwks_uri": None},
        {"jwks_uri": "http://idp.example/jwks"},
        {"jwks_uri": "file:///etc/passwd"},
    ],
)
async def test_a_discovery_document_that_does_not_fit_is_refused(
    provider: Provider, session: aiohttp.ClientSession, discovery: dict[str, object]
) -> None:
    provider.discovery = discovery
    issuer = oidc(provider.url, audiences=["gateway"])
    source = JwksSource(issuer, session=session, now=lambda: provider.now, limits=KeyLimits())
    assert await code(source.key("first", "ES256")) == UNAVAILABLE
    assert provider.key_requests == 0


async def test_old_keys_are_refreshed_in_the_background_by_one_request(provider: Provider, source: JwksSource) -> None:
    first = await source.key("first", "ES256")
    provider.forget_requests()
    provider.now += 600
    provider.answering.clear()
    # The issuer does not answer, and yet nobody waits.
    assert [await source.key("first", "ES256") for _ in range(5)] == [first] * 5
    await provider.asked.wait()
    provider.answering.set()
    await landed(source)
    assert provider.key_requests == 1
    assert source.age == 0
    assert await source.key("first", "ES256") is not first


async def test_a_withdrawn_key_is_unknown_after_the_refresh(provider: Provider, source: JwksSource) -> None:
    await source.key("first", "ES256")
    provider.keys = [new_key("second")]
    provider.now += 600
    await source.key("first", "ES256")
    await landed(source)
    assert await code(source.key("first", "ES256")) == UNKNOWN


async def test_callers_without_keys_share_one_request(provider: Provider, source: JwksSource) -> None:
    found = await asyncio.gather(*(source.key("first", "ES256") for _ in range(20)))
    assert len(set(map(id, found))) == 1
    assert provider.key_requests == 1


async def test_a_new_key_is_found_at_once_and_unknown_ones_do_not_become_a_storm(
    provider: Provider, source: JwksSource
) -> None:
    await source.key("first", "ES256")
    provider.keys.append(new_key("second"))
    provider.forget_requests()
    assert (await source.key("second", "ES256")).key_id == "second"
    for number in range(20):
        assert await code(source.key(f"unknown {number}", "ES256")) == UNKNOWN
    assert provider.key_requests == 1
    provider.now += 30
    await asyncio.gather(*(code(source.key(f"unknown {number}", "ES256")) for number in range(20)))
    assert provider.key_requests == 2


async def test_an_unknown_key_in_a_set_just_fetched_is_not_looked_up_twice(
    provider: Provider, source: JwksSource
) -> None:
    assert await code(source.key("unknown", "ES256")) == UNKNOWN
    assert provider.key_requests == 1


async def test_a_caller_who_leaves_does_not_take_the_shared_request_along(
    provider: Provider, source: JwksSource
) -> None:
    provider.answering.clear()
    leaving = asyncio.create_task(source.key("first", "ES256"))
    staying = asyncio.create_task(source.key("first", "ES256"))
    await provider.asked.wait()
    leaving.cancel()
    provider.answering.set()
    assert (await staying).key_id == "first"
    assert provider.key_requests == 1
    assert leaving.cancelled()


async def test_a_dead_issuer_refuses_at_once_between_attempts(provider: Provider, source: JwksSource) -> None:
    provider.status = 500
    assert [await code(source.key("first", "ES256")) for _ in range(5)] == [UNAVAILABLE] * 5
    assert provider.key_requests == 1
    provider.status = 200
    provider.now += 4.9
    assert await code(source.key("first", "ES256")) == UNAVAILABLE
    provider.now += 0.1
    assert (await source.key("first", "ES256")).key_id == "first"
    assert source.state() == KeyState(age=0, refreshed=1, failed=1)


async def test_known_keys_outlive_a_dead_issuer_for_a_day(provider: Provider, source: JwksSource) -> None:
    first = await source.key("first", "ES256")
    provider.status = 500
    for _ in range(3):
        provider.now += 86_399 / 3
        assert await source.key("first", "ES256") is first
        await landed(source)
    assert provider.key_requests == 4
    assert await code(source.key("unknown", "ES256")) == UNAVAILABLE
    provider.now += 1
    assert await code(source.key("first", "ES256")) == UNAVAILABLE
    provider.status = 200
    provider.now += 5
    assert (await source.key("first", "ES256")).key_id == "first"


async def test_a_background_refresh_that_fails_is_not_repeated_by_every_caller(
    provider: Provider, source: JwksSource
) -> None:
    await source.key("first", "ES256")
    provider.status = 500
    provider.now += 600
    for _ in range(5):
        await source.key("first", "ES256")
        await landed(source)
    assert provider.key_requests == 2


async def test_a_set_without_usable_keys_does_not_replace_the_known_one(provider: Provider, source: JwksSource) -> None:
    await source.key("first", "ES256")
    provider.keys = [{"kty": "oct", "k": "c2VjcmV0", "kid": "first"}]
    provider.now += 600
    await source.key("first", "ES256")
    await landed(source)
    assert (await source.key("first", "ES256")).key_id == "first"
    assert source.age == 600


async def test_a_document_beyond_the_limit_is_refused(provider: Provider, source: JwksSource) -> None:
    provider.padding = "x" * MAX_DOCUMENT_BYTES
    assert await code(source.key("first", "ES256")) == UNAVAILABLE


async def test_closing_ends_the_request_under_way(provider: Provider, source: JwksSource) -> None:
    provider.answering.clear()
    asking = asyncio.create_task(source.key("first", "ES256"))
    await provider.asked.wait()
    await source.aclose()
    assert await code(wait_for(asking)) == UNAVAILABLE


async def wait_for(task: asyncio.Task[PyJWK]) -> PyJWK:
    return await task
