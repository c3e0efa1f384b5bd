from __future__ import annotations

from pathlib import Path

import pytest

from tests.commanding import Extproc, runner
from tests.cosmos import running
from tests.cosmos.server import FakeCosmos

SETTINGS = """
policy: policy.yaml
store: {store}
issuers: [{{ kind: oidc, issuer: "http://127.0.0.1:9", audiences: [a] }}]
"""


@pytest.fixture
def extproc(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Extproc:
    return runner(monkeypatch, capsys, tmp_path, "store", "provision")


def configure(folder: Path, store: str) -> None:
    (folder / "gateway.yaml").write_text(SETTINGS.format(store=store))


def with_key(folder: Path, server: FakeCosmos) -> None:
    settings = running.settings(server)
    assert settings.key is not None
    (folder / "cosmos.key").write_text(settings.key.reveal())
    place = f"endpoint: '{settings.endpoint}', database: audit, container: fresh, endpoint_discovery: false"
    configure(folder, f"{{ cosmos: {{ {place}, key_file: cosmos.key }} }}")


def test_with_a_key_the_container_is_made_and_making_it_again_changes_nothing(extproc: Extproc, tmp_path: Path) -> None:
    with running.running() as server:
        with_key(tmp_path, server)
        first, second = extproc(), extproc()
    ready = [f"container {name} of database audit is ready\n" for name in ("fresh", "approvals")]
    assert first.out == second.out == "".join(ready)
    assert (first.code, first.err, second.code) == (0, "", 0)


def test_with_an_identity_the_commands_of_somebody_with_rights_are_printed(extproc: Extproc, tmp_path: Path) -> None:
    configure(tmp_path, "{ cosmos: { endpoint: 'https://acme-audit.documents.azure.com' } }")
    run = extproc("--group", "security", "--principal", "0000-1111", "--console-principal", "2222")
    lines = run.out.splitlines()
    assert run.code == 0
    assert all(line.startswith("az cosmosdb sql ") for line in lines)
    assert all("--account-name acme-audit --resource-group security" in line for line in lines)
    given = [line.split() for line in lines if "assignment" in line]
    roles = [
        (line[line.index("--principal-id") + 1], line[line.index("--principal-id") - 1], line[-1]) for line in given
    ]
    assert roles == [
        ("0000-1111", "writer'", "/dbs/extproc/colls/recording"),
        ("0000-1111", "approvals'", "/dbs/extproc/colls/approvals"),
        ("2222", "reader'", "/dbs/extproc/colls/recording"),
        ("2222", "writer'", "/dbs/extproc/colls/recording"),
        ("2222", "approvals'", "/dbs/extproc/colls/approvals"),
    ]


def test_a_sqlite_store_needs_none(extproc: Extproc, tmp_path: Path) -> None:
    configure(tmp_path, "{ sqlite: record.db }")
    run = extproc()
    assert run.code == 2
    assert "a SQLite file is made by the service itself" in run.err


@pytest.mark.parametrize("store", ["{}", "{ sqlite: a.db, cosmos: { endpoint: 'https://a.test' } }"])
def test_a_store_is_one_of_both(extproc: Extproc, tmp_path: Path, store: str) -> None:
    configure(tmp_path, store)
    run = extproc()
    assert run.code == 2
    assert "store: expected one of sqlite and cosmos" in run.err
