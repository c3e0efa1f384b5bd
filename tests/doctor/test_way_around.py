from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from extproc.doctor.check import Status, Verdict, run
from extproc.doctor.tls import Authorities
from extproc.doctor.way_around import HOSTS, Outside, Resolve, checks, resolve
from tests.certificates.handshake import server
from tests.proxying import listening

HOST = "api.githubcopilot.com"


async def idle(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    # A client that does not like the certificate breaks off.
    with suppress(OSError, ssl.SSLError):
        await reader.read()


async def cut(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def at(*addresses: str) -> Resolve:
    async def ask(_host: str) -> list[str]:
        return list(addresses)

    return ask


async def looked(port: int, authorities: Authorities, *addresses: str, seconds: float = 5) -> Verdict:
    (result,) = await run(checks([HOST], [], Outside(authorities, seconds, port), at(*addresses)))
    assert result.id == f"way-around.{HOST}"
    return result.verdict


async def test_github_itself_is_a_way_around(theirs: Path, authorities: Authorities) -> None:
    async with listening(idle, server(theirs)) as port:
        verdict = await looked(port, authorities, "127.0.0.1")
    assert verdict.status is Status.FAILED
    assert f"{HOST} at 127.0.0.1 is reachable without the gateway" in verdict.sentence
    assert "NetworkPolicies" in str(verdict.todo)


async def test_the_gateway_in_its_place_is_none(ours: Path, authorities: Authorities) -> None:
    async with listening(idle, server(ours)) as port:
        verdict = await looked(port, authorities, "127.0.0.1")
    assert (verdict.status, verdict.sentence) == (Status.OK, f"{HOST} at 127.0.0.1 is answered by the gateway.")


async def test_whoever_is_only_guessed_to_be_the_gateway_is_no_proof(ours: Path, authorities: Authorities) -> None:
    # So it looks where a network reads all traffic and lets it out: its authority is in the clients' bundle.
    async with listening(idle, server(ours)) as port:
        verdict = await looked(port, replace(authorities, is_guess=True), "127.0.0.1")
    assert verdict.status is Status.SKIPPED
    assert "--ca-file would tell" in verdict.sentence


async def test_a_certificate_that_nobody_knows_is_not_taken_for_the_gateways(
    strange: Path, authorities: Authorities
) -> None:
    async with listening(idle, server(strange)) as port:
        verdict = await looked(port, authorities, "127.0.0.1")
    assert verdict.status is Status.FAILED
    assert "--ca-file" in str(verdict.todo)


async def test_without_any_authority_nobody_is_taken_for_the_gateway(ours: Path) -> None:
    async with listening(idle, server(ours)) as port:
        assert (await looked(port, Authorities("", ""), "127.0.0.1")).status is Status.FAILED


async def test_every_address_is_looked_at(theirs: Path, authorities: Authorities) -> None:
    async with listening(idle, server(theirs)) as port:
        # Nobody listens at the first ones.
        verdict = await looked(port, authorities, "127.0.0.3", "127.0.0.2", "127.0.0.1")
    assert verdict.status is Status.FAILED


async def test_what_cannot_be_reached_is_no_way(authorities: Authorities) -> None:
    async with listening(idle) as port:
        pass
    verdict = await looked(port, authorities, "127.0.0.1")
    assert (verdict.status, verdict.sentence) == (Status.OK, f"{HOST} at 127.0.0.1 is not reachable from here.")
    assert (await looked(port, authorities)).sentence == f"{HOST} has no address here."


async def test_who_cuts_the_handshake_off_lets_nobody_through(authorities: Authorities) -> None:
    async with listening(cut) as port:
        verdict = await looked(port, authorities, "127.0.0.1")
    assert verdict.status is Status.OK
    assert "cuts them off" in verdict.sentence


async def test_who_does_not_answer_the_handshake_may_be_github(authorities: Authorities) -> None:
    async with listening(idle) as port:
        verdict = await looked(port, authorities, "127.0.0.1", seconds=0.1)
    assert verdict.status is Status.FAILED
    assert "could not be told" in verdict.sentence


async def test_a_resolver_that_breaks_is_not_taken_for_a_closed_way(authorities: Authorities) -> None:
    async def ask(_host: str) -> list[str]:
        raise OSError(5, "Input/output error")

    (result,) = await run(checks([HOST], [], Outside(authorities, 5, 9), ask))
    assert result.verdict.status is Status.FAILED


async def test_a_resolver_that_does_not_answer_leaves_it_open(authorities: Authorities) -> None:
    async def ask(_host: str) -> list[str]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    (result,) = await run(checks([HOST], [], Outside(authorities, 5, 9), ask))
    assert result.verdict.status is Status.SKIPPED
    assert "--address" in result.verdict.sentence


@pytest.mark.parametrize(("folder", "status"), [("theirs", Status.FAILED), ("ours", Status.OK)])
async def test_an_address_by_number_is_tried_whatever_the_resolver_says(
    request: pytest.FixtureRequest, authorities: Authorities, folder: str, status: Status
) -> None:
    async with listening(idle, server(request.getfixturevalue(folder))) as port:
        (result,) = await run(checks([], ["127.0.0.1"], Outside(authorities, 5, port)))
    assert (result.id, result.verdict.status) == ("way-around.127.0.0.1", status)


async def test_the_systems_resolver_is_asked() -> None:
    assert "127.0.0.1" in await resolve("localhost")
    # Where no resolver answers, it is not said that there is no such name.
    with suppress(socket.gaierror):
        assert await resolve("nowhere.invalid") == []


def test_all_hosts_of_copilot_and_github_are_looked_at() -> None:
    assert {"api.githubcopilot.com", "copilot-proxy.githubusercontent.com", "api.github.com", "github.com"} < set(HOSTS)
