from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from extproc.recording.entry import read_head
from extproc.store.sqlite_eraser import SqliteEraser
from tests.commanding import Extproc, runner
from tests.recording.ledgers import LOG, SIGNER, STRANGER, MemoryLedger, Writer, honest_log, put


@pytest.fixture
def extproc(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Extproc:
    return runner(monkeypatch, capsys, tmp_path, "receipt")


@pytest.fixture
def writer() -> Writer:
    """20 entries, signed after every 5, and one that no checkpoint covers."""
    written = honest_log(MemoryLedger())
    written.exchange("pending")
    return written


@pytest.fixture
def state(tmp_path: Path, writer: Writer) -> Path:
    folder = tmp_path / ".extproc"
    folder.mkdir()
    (folder / "checkpoint.key.pub").write_text(f"{SIGNER.vkey}\n")
    put(folder / "record.db", writer)
    return folder


def exchange_at(writer: Writer, index: int) -> str:
    return read_head(writer.sealed[index].head).id


@pytest.mark.parametrize("index", [0, 4, 5, 7, 19])
def test_a_receipt_proves_an_exchange_with_the_public_key_alone(
    extproc: Extproc, state: Path, writer: Writer, tmp_path: Path, index: int
) -> None:
    exchange = exchange_at(writer, index)
    made = extproc(exchange, "--out", "receipt.json")
    assert (made.code, made.out) == (0, "")
    assert json.loads((tmp_path / "receipt.json").read_text())["size"] == (index // 5 + 1) * 5
    shutil.move(state / "checkpoint.key.pub", tmp_path / "key.pub")
    shutil.rmtree(state)
    checked = extproc("--check", "receipt.json", "--public-key", "key.pub")
    assert checked.code == 0
    assert f"exchange {exchange} of session s1, by alice" in checked.out
    assert f"is entry {index} of log {LOG}" in checked.out
    assert "The receipt has no body" in checked.out


def test_a_receipt_goes_to_standard_output_unless_told(extproc: Extproc, state: Path, writer: Writer) -> None:
    exchange = exchange_at(writer, 3)
    assert json.loads(extproc(exchange).out)["exchange"] == exchange


def test_a_receipt_with_the_body_shows_it_and_that_is_recorded(
    extproc: Extproc, state: Path, writer: Writer, tmp_path: Path
) -> None:
    exchange = exchange_at(writer, 3)
    assert extproc(exchange, "--out", "without.json").code == 0
    assert not (state / "spool").exists()
    assert extproc(exchange, "--with-body", "--out", "with.json").code == 0
    assert len(list((state / "spool").iterdir())) == 1
    checked = extproc("--check", "with.json", "--json")
    assert (checked.code, checked.rows[0]["id"], checked.rows[0]["body"]) == (0, exchange, True)
    assert (tmp_path / "with.json").stat().st_mode & 0o777 == 0o600


SETTINGS = """
policy: policy.yaml
state: {state}
store: {{sqlite: {state}/record.db}}
issuers: [{{kind: oidc, issuer: "https://idp.example", audiences: [a]}}]
"""


def test_with_settings_elsewhere_the_access_is_recorded_where_these_say(
    extproc: Extproc, state: Path, writer: Writer, tmp_path: Path
) -> None:
    moved = state.rename(tmp_path / "moved")
    (tmp_path / "settings.yaml").write_text(SETTINGS.format(state=moved))
    assert extproc(exchange_at(writer, 3), "--with-body", "--config", "settings.yaml").code == 0
    assert len(list((moved / "spool").iterdir())) == 1
    assert not state.exists()


def test_a_receipt_that_was_changed_proves_nothing(
    extproc: Extproc, state: Path, writer: Writer, tmp_path: Path
) -> None:
    made = extproc(exchange_at(writer, 3)).out
    (tmp_path / "changed.json").write_text(made.replace("alice", "mally"))
    checked = extproc("--check", "changed.json")
    assert (checked.code, "leads to another root" in checked.err) == (1, True)
    assert "proves nothing: " in checked.err
    (tmp_path / "stranger.pub").write_text(STRANGER.vkey)
    (tmp_path / "good.json").write_text(made)
    assert extproc("--check", "good.json").code == 0
    assert extproc("--check", "good.json", "--public-key", "stranger.pub").code == 1


def test_what_is_not_signed_yet_has_no_receipt(extproc: Extproc, state: Path) -> None:
    done = extproc("pending")
    assert (done.code, "no valid checkpoint covers entry 20" in done.err) == (1, True)


def test_what_is_not_there_has_no_receipt(extproc: Extproc, state: Path) -> None:
    done = extproc("nowhere")
    assert (done.code, "no exchange has the id 'nowhere'" in done.err) == (1, True)


@pytest.mark.parametrize("arguments", [(), ("some", "--check", "x")], ids=["neither", "both"])
def test_it_makes_a_receipt_or_checks_one(extproc: Extproc, state: Path, arguments: tuple[str, ...]) -> None:
    assert extproc(*arguments).code == 2


def test_after_the_beginning_went_by_rule_what_remains_has_receipts(
    extproc: Extproc, state: Path, tmp_path: Path
) -> None:
    written = Writer(MemoryLedger(), "pod-3.0.1")
    written.exchanges(7)
    prefix = written.prefix()
    written.exchanges(6)
    written.checkpoint()
    written.prune(heads=[prefix])
    written.checkpoint()
    put(state / "record.db", written)
    SqliteEraser(state / "record.db").remove_entries("pod-3.0.1", 4)
    for remove in (4, 7):
        SqliteEraser(state / "record.db").remove_entries("pod-3.0.1", remove)
        assert extproc(exchange_at(written, 9), "--out", "receipt.json").code == 0
        assert extproc("--check", "receipt.json").code == 0
    assert extproc(exchange_at(written, 6)).code == 1


def test_an_entry_that_the_frontier_covers_has_no_receipt_any_more(extproc: Extproc, state: Path) -> None:
    written = Writer(MemoryLedger(), "pod-3.0.1")
    written.exchanges(7)
    prefix = written.prefix()
    written.prune(heads=[prefix])
    written.checkpoint()
    put(state / "record.db", written)
    SqliteEraser(state / "record.db").remove_entries("pod-3.0.1", 4)
    done = extproc(exchange_at(written, 5))
    assert (done.code, "`extproc verify` says more" in done.err) == (1, True)


def test_a_log_that_was_changed_gives_no_receipt(extproc: Extproc, state: Path, writer: Writer) -> None:
    with closing(sqlite3.connect(state / "record.db", isolation_level=None)) as connection:
        connection.executescript("DROP TRIGGER entry_stays; DROP TRIGGER entry_remains")
        connection.execute("DELETE FROM entry WHERE idx = 7")
    done = extproc(exchange_at(writer, 8))
    assert (done.code, "`extproc verify` says more" in done.err) == (1, True)
    assert extproc(exchange_at(writer, 3)).code == 0
