from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator

import pytest

from tests.clients import results
from tests.clients.cells import CELLS
from tests.clients.install import ROOT
from tests.clients.product import Product
from tests.clients.results import Results

PAGE = ROOT / "docs" / "clients.md"
RESULTS = pytest.StashKey[Results]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-table", action="store_true", help=f"write the table of results into {PAGE.name}")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "quick: the subset that runs for every submission")
    config.stash[RESULTS] = Results([cell.name for cell in CELLS])


@pytest.fixture(scope="session")
def product() -> Iterator[Product]:
    product = Product()
    try:
        product.start()
        yield product
    finally:
        product.stop()


@pytest.fixture(scope="session")
def matrix(pytestconfig: pytest.Config) -> Results:
    return pytestconfig.stash[RESULTS]


@pytest.fixture(scope="session")
def in_ci() -> bool:
    return os.environ.get("CI") == "true"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    found = config.stash[RESULTS]
    if not found.rows:
        return
    table = found.table(dt.datetime.now(dt.UTC).date())
    terminalreporter.section("clients")
    terminalreporter.write_line(table)
    if config.getoption("--write-table"):
        results.write(PAGE, table)
        terminalreporter.write_line(f"written into {PAGE}")
