"""What the whole is for: a client that is told of a proxy and nothing else, and edits a file, governed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest

from extproc.client_settings.settings import Mode
from tests.clients import copilot
from tests.clients.access import Access, make_access, remove
from tests.clients.cells import AFTER, BEFORE
from tests.clients.client import Client
from tests.clients.install import ROOT
from tests.clients.process import Process
from tests.clients.product import Product
from tests.clients.table import Table

Start = Callable[[Access, str], Process]


def _start(access: Access, command: list[str], variables: dict[str, str]) -> Process:
    env = {"HOME": str(access.home), "PATH": os.environ["PATH"], **variables}
    return Process(command, cwd=access.work, env=env, log=access.home / "client.log")


def _three_variables(access: Access, prompt: str) -> Process:
    variables = {
        "HTTPS_PROXY": f"http://alice:{access.token}@127.0.0.1:{access.product.ports.proxy}",
        "NODE_EXTRA_CA_CERTS": str(access.product.ca),
        "GH_TOKEN": f"gho_{access.token}",
    }
    return _start(access, copilot.cli_command(prompt), variables)


def _extproc_run(access: Access, prompt: str) -> Process:
    command = [sys.executable, "-m", "extproc", "run", "--", *copilot.cli_command(prompt)]
    variables = {
        "EXTPROC_GATEWAY": access.product.url,
        "EXTPROC_TOKEN": access.token,
        # Without these it would look for a keyring, and for this package.
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        "PYTHONPATH": str(ROOT),
    }
    return _start(access, command, variables)


@pytest.mark.quick
@pytest.mark.parametrize("start", [_three_variables, _extproc_run])
def test_no_more_is_needed_to_edit_a_file_through_the_gateway(product: Product, start: Start) -> None:
    if copilot.cli_version() is None:
        pytest.skip("Copilot CLI is not installed: install Node with npm, then run `make test-clients`")
    client = Client("Copilot CLI", copilot.cli_version, start)
    access = make_access(product, Mode.PROXY, "alice")
    table = Table(product, client, access)
    path = access.file("notes.txt", BEFORE)
    product.forget_seen()
    try:
        ran = table.run(f'edit {path} replacing "old" with "new"')
        assert path.read_text() == AFTER, ran
        table.check_upstream()
        table.check_record()
    finally:
        table.clear()
        remove(access)
