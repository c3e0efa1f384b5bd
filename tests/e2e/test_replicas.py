"""Two replicas and a console, each with a state directory of its own, and one account of Cosmos DB for all of them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
import yaml

from extproc.keys.checkpoint_key import FILE_NAME as CHECKPOINT_KEY
from extproc.keys.checkpoint_key import load_or_create_signer
from extproc.keys.fingerprint_key import FILE_NAME as FINGERPRINT_KEY
from extproc.keys.fingerprint_key import load_or_create_key
from extproc.recording.checkpoint import open_note
from extproc.store.cosmos_ledger import CosmosLedger
from tests.cosmos.server import KEY
from tests.e2e import cosmos_process
from tests.e2e.gateway import READY_SECONDS, Gateway, decision_id, free_ports

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

SIGNER: Final = "copilot-extproc"
DECISION: Final = "x-gateway-decision-id"
MERGE: Final = "/repos/octo/shop/pulls/7/merge"


class Cluster:
    """Replica `a`, replica `b`, and where the console's REST API is; people are of the issuer of `a`."""

    def __init__(self, a: Gateway, b: Gateway, account: cosmos_process.CosmosProcess, console: str) -> None:
        self.a = a
        self.b = b
        self.account = account
        self.console = console

    async def api(self, method: str, path: str, user: str, **body: Any) -> Any:
        """Return what the console answers, and check that it is a success."""
        said = json.dumps(body) if body else None
        url, headers = f"{self.console}/api/v1{path}", self.a.headers(user)
        async with self.a.session.request(method, url, headers=headers, data=said) as response:
            text = await response.text()
            assert response.status == 200, text
            return json.loads(text)

    async def merge(self, replica: Gateway) -> tuple[int, str | None]:
        """Ask a replica to merge, which waits for an approver; return the status and the decision's id, if it says."""
        body = json.dumps({"merge_method": "squash"})
        url = f"{replica.url}{MERGE}"
        async with replica.session.put(url, headers=self.a.headers("alice"), data=body) as response:
            await response.read()
            return response.status, response.headers.get(DECISION)

    async def pending(self, count: int) -> list[str]:
        """Return the ids of what waits, by the console, once it is so many."""

        async def listed() -> list[str] | None:
            found = (await self.api("GET", "/approvals?state=pending", "bob"))["approvals"]
            return [one["id"] for one in found] if len(found) == count else None

        found: list[str] = await eventually(listed, f"{count} pending approvals")
        return found


async def eventually(look: Callable[[], Awaitable[Any]], what: str) -> Any:
    """Poll until what is looked for is there: it happens in other processes."""
    deadline = time.monotonic() + READY_SECONDS
    while (found := await look()) is None:
        assert time.monotonic() < deadline, f"{what} did not happen in {READY_SECONDS} s"
        await asyncio.sleep(0.05)
    return found


@pytest_asyncio.fixture(loop_scope="session")
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Run it all."""
    async with AsyncExitStack() as stack:
        account = await stack.enter_async_context(cosmos_process.running(tmp_path / "account.db"))
        gateways = [Gateway(), Gateway()]
        for one in gateways:
            stack.push_async_callback(one.stop)
            await one.prepare()
        keys = tmp_path / "keys"
        load_or_create_signer(keys / CHECKPOINT_KEY, SIGNER)
        load_or_create_key(keys / FINGERPRINT_KEY)
        # What every replica and the console have in common; `store` is that of all.
        settings = yaml.safe_load((gateways[0].state / "gateway.yaml").read_text())
        place = {"endpoint": account.endpoint, "key_file": "cosmos-key", "endpoint_discovery": False}
        for name, one in zip("ab", gateways, strict=True):
            share(keys, one.state)
            recording = {"replica": f"gateway-{name}"}
            people = {section: settings[section] for section in ("issuers", "sign_in", "console")}
            one.configure(**people, store={"cosmos": place}, recording=recording)
            await one.start()
        console = tmp_path / "console"
        console.mkdir()
        share(keys, console)
        for file in ("gateway.yaml", "policy.yaml", "github-token"):
            (console / file).write_bytes((gateways[0].state / file).read_bytes())
        told = yaml.safe_load((console / "gateway.yaml").read_text())
        told["recording"] = {"replica": "console-0", "checkpoints": {"seconds": 1}}
        (console / "gateway.yaml").write_text(yaml.safe_dump(told))
        url = await stack.enter_async_context(console_at(console, gateways[0]))
        yield Cluster(gateways[0], gateways[1], account, url)


def share(keys: Path, state: Path) -> None:
    """Put the keys of all replicas into a state directory, as `extproc keys install` does."""
    for path in keys.iterdir():
        (state / path.name).touch(mode=0o600)
        (state / path.name).write_bytes(path.read_bytes())
    (state / "cosmos-key").write_text(KEY)


@asynccontextmanager
async def console_at(state: Path, gateway: Gateway) -> AsyncIterator[str]:
    """Run a console on a state directory where no gateway runs; give its address."""
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with (state / "console.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "extproc", "console", "--config", str(state / "gateway.yaml"), "--listen", address,
            cwd=state, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        )  # fmt: skip
    try:
        await gateway.ready(f"http://{address}/healthz")
        yield f"http://{address}"
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 20) == 0


async def test_what_waits_at_any_replica_is_approved_at_the_console_and_goes_on(cluster: Cluster) -> None:
    for replica in (cluster.b, cluster.a):
        waiting = asyncio.create_task(cluster.merge(replica))
        [approval] = await cluster.pending(1)
        assert not replica.upstream.seen
        answered = await cluster.api("POST", f"/approvals/{approval}/approve", "bob", reason="reviewed")
        assert answered["state"] == "approved"
        status, decision = await asyncio.wait_for(waiting, READY_SECONDS)
        assert status == 200
        [seen] = replica.upstream.seen
        assert seen.target == MERGE
        found = await cluster.api("GET", f"/approvals/{approval}", "bob")
        assert found["exchange"] == decision
        assert [one["kind"] for one in found["events"]] == ["requested", "verdict", "viewed"]


async def test_what_is_denied_at_the_console_never_leaves_the_replica(cluster: Cluster) -> None:
    waiting = asyncio.create_task(cluster.merge(cluster.b))
    [approval] = await cluster.pending(1)
    await cluster.api("POST", f"/approvals/{approval}/deny", "bob", reason="not on Fridays")
    status, _ = await asyncio.wait_for(waiting, READY_SECONDS)
    assert status == 403
    assert not cluster.b.upstream.seen


async def test_what_a_killed_replica_left_ends_when_it_starts_again_and_that_of_others_waits_on(
    cluster: Cluster,
) -> None:
    left = asyncio.create_task(cluster.merge(cluster.b))
    [orphan] = await cluster.pending(1)
    waiting = asyncio.create_task(cluster.merge(cluster.a))
    [other] = set(await cluster.pending(2)) - {orphan}
    await cluster.b.kill_service()
    assert (await asyncio.wait_for(left, READY_SECONDS))[0] >= 500
    await cluster.b.start_service()
    assert await cluster.pending(1) == [other]
    assert (await cluster.api("GET", f"/approvals/{orphan}", "bob"))["state"] == "interrupted"
    await cluster.api("POST", f"/approvals/{other}/approve", "bob", reason="reviewed")
    assert (await asyncio.wait_for(waiting, READY_SECONDS))[0] == 200


async def test_who_reads_in_the_console_is_recorded_in_the_store_and_signed(cluster: Cluster, tmp_path: Path) -> None:
    async with cluster.a.chat() as response:
        assert response.status == 200
        await response.read()
        decision = decision_id(response)

    async def shown() -> Any:
        url = f"{cluster.console}/api/v1/exchanges/{decision}"
        async with cluster.a.session.get(url, headers=cluster.a.headers("carol")) as answer:
            return await answer.json() if answer.status == 200 else None

    assert (await eventually(shown, "the exchange"))["id"] == decision
    key = load_or_create_signer(tmp_path / "keys" / CHECKPOINT_KEY, SIGNER).public

    def signed() -> list[Any]:
        with closing(CosmosLedger(cluster.account.settings)) as ledger:
            logs = [name for name in ledger.logs() if name.startswith("console-0.")]
            return [
                stored
                for name in logs
                for stored in ledger.entries(name)
                if any(open_note(note, [key]).size > stored.index for note in ledger.checkpoints(name))
            ]

    async def access() -> Any:
        heads = [json.loads(one.head) for one in await asyncio.to_thread(signed)]
        return next((head for head in heads if head["kind"] == "access"), None)

    facts = (await eventually(access, "a signed entry of the access"))["facts"]
    assert (facts["name"], facts["action"], facts["target"]) == ("carol", "show", decision)
