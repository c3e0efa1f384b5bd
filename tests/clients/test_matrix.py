"""Every client through every mode: it answers, edits files, is masked, held, denied and refused."""

from __future__ import annotations

from typing import Any

import pytest

from extproc.client_settings.settings import Mode
from tests.clients import copilot, language_server, opencode, sdks
from tests.clients.access import make_access, remove
from tests.clients.cells import CELLS, Cell
from tests.clients.client import Client
from tests.clients.product import Product
from tests.clients.results import OK, Results
from tests.clients.table import Table

CLIENTS = (*copilot.CLIENTS, *language_server.CLIENTS, *opencode.CLIENTS, *sdks.CLIENTS)


def _cases() -> list[Any]:
    return [
        pytest.param(
            client,
            mode,
            cell,
            marks=[pytest.mark.quick] if client.quick else [],
            id=f"{client.name}-{mode}-{cell.name}",
        )
        for client in CLIENTS
        for mode in Mode
        for cell in CELLS
    ]


@pytest.mark.parametrize(("client", "mode", "cell"), _cases())
def test_the_client_works_governed(
    product: Product,
    matrix: Results,
    client: Client,
    mode: Mode,
    cell: Cell,
    in_ci: bool,  # noqa: FBT001 - a fixture
) -> None:
    why_not = client.cannot.get((mode, cell.name))
    if why_not is not None:
        matrix.add(client.name, mode, cell.name, why_not)
        pytest.skip(why_not)
    version = client.version()
    if version is None:
        matrix.add(client.name, mode, cell.name, "not installed")
        message = f"{client.name} is not installed: {client.needs}"
        pytest.skip(message) if client.optional or not in_ci else pytest.fail(message)
    assert version is not None
    matrix.versions[client.name] = version
    matrix.add(client.name, mode, cell.name, "FAILED")
    _play(product, client, mode, cell)
    matrix.add(client.name, mode, cell.name, OK)


def _play(product: Product, client: Client, mode: Mode, cell: Cell) -> None:
    access = make_access(product, mode, cell.user)
    table = Table(product, client, access)
    product.forget_seen()
    try:
        cell.check(table)
        table.check_upstream()
        table.check_record()
    finally:
        table.clear()
        remove(access)
