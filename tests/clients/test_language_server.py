"""Completions of the language server: it signs in with the gateway's own token, completes, and is refused politely."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from extproc.client_settings.settings import Mode
from tests.clients.access import Access, make_access, remove
from tests.clients.language_server import CLIENTS, Editor, version
from tests.clients.product import Product
from tests.clients.table import SECRET, Table

# The demo upstream completes what the last comment before the cursor asks for.
CODE = 'def add(a, b):\n    """Return the sum."""\n    # {}\n    '


@pytest.fixture(params=list(Mode))
def mode(request: pytest.FixtureRequest) -> Mode:
    found: Mode = request.param
    return found


@pytest.fixture
def table(product: Product, mode: Mode, in_ci: bool) -> Iterator[Table]:  # noqa: FBT001 - a fixture
    if version() is None:
        (pytest.fail if in_ci else pytest.skip)("the language server is not installed: run `make test-clients`")
    access = make_access(product, mode, "alice")
    product.forget_seen()
    yield Table(product, CLIENTS[0], access)
    remove(access)


def completed(access: Access, comment: str) -> tuple[str, list[str], Editor]:
    """Return the status of the sign-in, what was proposed, and the closed editor."""
    editor = Editor(access)
    try:
        return editor.status(), editor.complete(CODE.format(comment)), editor
    finally:
        editor.close()


def test_it_completes_with_a_token_of_the_gateway(table: Table) -> None:
    status, proposed, editor = completed(table.access, "count to 3")
    assert status == "OK", editor.lsp.story()
    assert [text.strip() for text in proposed] == ["1 2 3"], editor.lsp.story()
    table.check_upstream()
    table.check_record()
    # The token it got is the gateway's: GitHub was asked for none.
    assert not [seen for seen in table.product.seen() if seen.path == "/copilot_internal/v2/token"]
    assert all("tid=" not in seen.text for seen in table.product.seen())


def test_a_completion_holds_no_secret(table: Table) -> None:
    _, proposed, editor = completed(table.access, "leak")
    assert "[MASKED:" in "".join(proposed), editor.lsp.story()
    assert not SECRET.search("".join(proposed))
    table.check_upstream()
