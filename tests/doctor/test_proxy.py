from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from extproc.doctor.check import Status, Verdict, run
from extproc.doctor.proxy import Address, Proxy, address_of, checks
from extproc.doctor.tls import Authorities
from extproc.errors import ConfigError
from extproc.secret import Secret
from tests.certificates.handshake import server
from tests.doctor.conftest import pem
from tests.proxying import listening

TOKEN = "a-token-of-alice"
READ = "api.githubcopilot.com:443"


@dataclass
class Fake:
    """Answer each CONNECT with a status, and show the certificate of `inside` in tunnels."""

    inside: ssl.SSLContext
    read: int = 200
    other: int = 403
    nobody: int = 407
    mark: str = "X-Gateway-Decision-Id: 1\r\n"
    heads: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            status = self._status(head)
            writer.write(f"HTTP/1.1 {status} Said\r\n{self.mark}\r\n".encode())
            await writer.drain()
            if status == 200:
                await writer.start_tls(self.inside)
                await reader.read()

    def _status(self, head: str) -> int:
        if "Proxy-Authorization" not in head:
            return self.nobody
        expected = base64.b64encode(f"doctor:{TOKEN}".encode()).decode()
        if f"Proxy-Authorization: Basic {expected}\r\n" not in head:
            return 407
        return self.read if head.startswith(f"CONNECT {READ} HTTP/1.1\r\n") else self.other


@asynccontextmanager
async def looking(
    fake: Fake, ours: Path, theirs: Path, *, tls: ssl.SSLContext | None = None, trusted: str | None = None
) -> AsyncIterator[Proxy]:
    async with listening(fake.serve, tls) as port:
        everybody = pem(ours) + pem(theirs)
        authorities = Authorities(pem(ours), pem(theirs))
        in_use = everybody if trusted is None else trusted
        yield Proxy("127.0.0.1", port, tls is not None, in_use, authorities, Secret(TOKEN), 5)


async def looked(proxy: Proxy) -> dict[str, Verdict]:
    return {result.id.removeprefix("proxy."): result.verdict for result in await run(checks(proxy))}


@pytest.mark.parametrize("is_tls", [False, True])
async def test_the_gateways_proxy_passes(ours: Path, theirs: Path, is_tls: bool) -> None:  # noqa: FBT001
    tls = server(ours, "tls") if is_tls else None
    async with looking(Fake(server(ours)), ours, theirs, tls=tls) as proxy:
        found = await looked(proxy)
    assert {one: verdict.status.value for one, verdict in found.items()} == {"connect": "ok", "confined": "ok"}


async def test_a_tunnel_that_nobody_reads_is_found(ours: Path, theirs: Path) -> None:
    async with looking(Fake(server(theirs)), ours, theirs) as proxy:
        verdict = (await looked(proxy))["connect"]
    assert verdict.status is Status.FAILED
    assert "nobody reads what is in it" in verdict.sentence


async def test_an_authority_that_is_not_trusted_is_told(ours: Path, theirs: Path) -> None:
    async with looking(Fake(server(ours)), ours, theirs, trusted=pem(theirs)) as proxy:
        verdict = (await looked(proxy))["connect"]
    assert verdict.status is Status.FAILED
    assert "not trusted here" in verdict.sentence


async def test_a_tunnel_to_anywhere_is_found(ours: Path, theirs: Path) -> None:
    async with looking(Fake(server(ours), other=200), ours, theirs) as proxy:
        verdict = (await looked(proxy))["confined"]
    assert (verdict.status, verdict.sentence) == (Status.FAILED, "The proxy opens a tunnel to example.com.")


@pytest.mark.parametrize(("status", "todo"), [(407, "is it fresh"), (403, "policy explain"), (503, "gateway.ready")])
async def test_a_refused_tunnel_says_what_to_do(ours: Path, theirs: Path, status: int, todo: str) -> None:
    async with looking(Fake(server(ours), read=status, other=status), ours, theirs) as proxy:
        found = await looked(proxy)
    assert found["connect"].status is Status.FAILED
    assert f"status {status}" in found["connect"].sentence
    assert todo in str(found["connect"].todo)
    # That the host is refused for another reason says nothing of whether it would be.
    assert found["confined"].status is (Status.OK if status == 403 else Status.FAILED)


async def test_a_proxy_that_is_gone_or_speaks_something_else_fails(ours: Path, theirs: Path) -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail\r\n\r\n")

    async with looking(Fake(server(ours)), ours, theirs) as proxy:
        pass
    assert {verdict.status for verdict in (await looked(proxy)).values()} == {Status.FAILED}
    for handler in (hang_up, babble):
        async with listening(handler) as port:
            other = Proxy("127.0.0.1", port, False, "", Authorities("", ""), Secret(TOKEN), 5)  # noqa: FBT003
            assert {verdict.status for verdict in (await looked(other)).values()} == {Status.FAILED}


@pytest.mark.parametrize("token", [Secret(TOKEN), None])
@pytest.mark.parametrize(
    ("nobody", "mark", "sentence"),
    [
        (200, "", "opens a tunnel to {} for everybody"),
        (200, "X-Gateway-Decision-Id: 1\r\n", "opens a tunnel to {} for everybody"),
        (407, "", "refuses {} with status 407, as the gateway does not"),
        (403, "Server: squid\r\n", "refuses {} with status 403, as the gateway does not"),
        (503, "", "No tunnel to {}: status 503"),
    ],
)
async def test_a_proxy_of_somebody_elses_is_found_and_shown_no_token(
    ours: Path, theirs: Path, token: Secret | None, nobody: int, mark: str, sentence: str
) -> None:
    fake = Fake(server(theirs), nobody=nobody, mark=mark)
    async with looking(fake, ours, theirs) as proxy:
        found = await looked(replace(proxy, token=token))
    hosts = {"connect": "api.githubcopilot.com", "confined": "example.com"}
    assert {one: verdict.status for one, verdict in found.items()} == dict.fromkeys(hosts, Status.FAILED)
    assert all(sentence.format(host) in found[one].sentence for one, host in hosts.items())
    assert len(fake.heads) == 2
    assert not [head for head in fake.heads if "Proxy-Authorization" in head]


async def test_without_a_token_the_gateways_proxy_is_asked_nothing_more(ours: Path, theirs: Path) -> None:
    async with looking(Fake(server(ours)), ours, theirs) as proxy:
        found = await looked(replace(proxy, token=None))
    assert {verdict.status for verdict in found.values()} == {Status.SKIPPED}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://gateway:3128", Address("gateway", 3128, False)),  # noqa: FBT003
        ("https://gateway:3129/", Address("gateway", 3129, True)),  # noqa: FBT003
        ("gateway:3128", Address("gateway", 3128, False)),  # noqa: FBT003
        ("http://gateway", Address("gateway", 80, False)),  # noqa: FBT003
    ],
)
def test_addresses_are_as_in_the_environment(url: str, expected: Address) -> None:
    assert address_of(url) == expected


def test_a_token_in_the_address_is_taken_and_not_shown() -> None:
    address = address_of("http://me:to%2Fken@gateway:3128")
    assert address.password is not None
    assert address.password.reveal() == "to/ken"
    assert "ken" not in repr(address)


@pytest.mark.parametrize("url", ["socks5://secret@x:1", "http://:80", "http://secret@x:port", ""])
def test_what_is_no_proxy_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="expected http://HOST:PORT") as refused:
        address_of(url)
    assert "secret" not in str(refused.value)
