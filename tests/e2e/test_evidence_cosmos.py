"""The record holds in Azure Cosmos DB too: the service is killed with the account up, down and flapping."""

from __future__ import annotations

import asyncio
import random
from contextlib import closing
from pathlib import Path

import pytest

from extproc.store.cosmos_archive import CosmosArchive
from extproc.store.cosmos_ledger import CosmosLedger
from tests.cosmos.server import KEY
from tests.e2e import cosmos_process
from tests.e2e.gateway import Gateway
from tests.e2e.load import Load, check_record, killed_under_load

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

KILLS = 6


async def test_whatever_a_client_saw_is_in_cosmos_once_though_service_and_account_are_killed(
    own_gateway: Gateway, tmp_path: Path
) -> None:
    await own_gateway.prepare()
    async with cosmos_process.running(tmp_path / "account.db") as account:
        (own_gateway.state / "cosmos-key").write_text(KEY)
        place = {"endpoint": account.endpoint, "key_file": "cosmos-key", "endpoint_discovery": False}
        own_gateway.configure(store={"cosmos": place})
        chance = random.Random(5)  # noqa: S311 - no secret, and the same in every run
        load = await killed_under_load(
            own_gateway, KILLS, lambda state: account.state(state, own_gateway.session, chance)
        )
        await asyncio.to_thread(_check, load, account)


def _check(load: Load, account: cosmos_process.CosmosProcess) -> None:
    with closing(CosmosArchive(account.settings)) as archive, closing(CosmosLedger(account.settings)) as ledger:
        check_record(load, archive, ledger)
