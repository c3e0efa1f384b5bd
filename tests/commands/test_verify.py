from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from extproc.commands.evidence import notes
from extproc.recording.checkpoint import Checkpoint, Signer
from extproc.recording.entry import address_of, canonical_bytes, read_head
from extproc.recording.merkle import Frontier, leaf_hash
from tests.commanding import Extproc, runner
from tests.recording.ledgers import LOG, NAME, NOW, SIGNER, STRANGER, MemoryLedger, Writer, honest_log, put
from tests.test_architecture import MODULES, imports

OTHER = "pod-2.0.1"


@pytest.fixture
def extproc(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Extproc:
    return runner(monkeypatch, capsys, tmp_path, "verify")


@pytest.fixture
def writer() -> Writer:
    """20 entries, signed after every 5, by now at the latest; and an end."""
    written = honest_log(MemoryLedger())
    written.close()
    return written


@pytest.fixture
def state(tmp_path: Path, writer: Writer) -> Path:
    folder = tmp_path / ".extproc"
    folder.mkdir()
    (folder / "checkpoint.key.pub").write_text(f"{SIGNER.vkey}\n")
    put(folder / "record.db", writer)
    return folder


@pytest.fixture
def witness(state: Path, writer: Writer) -> Path:
    path = state / "witness.log"
    path.write_bytes(b"".join(msgspec.json.encode({"at": NOW, "note": note}) + b"\n" for note in writer.witnessed))
    return path


def test_many_logs_that_ended_are_told_in_one_line(extproc: Extproc, state: Path, witness: Path) -> None:
    for number in range(6):
        written = honest_log(MemoryLedger(), f"pod-1.command.{number}")
        written.close()
        put(state / "record.db", written)
        with witness.open("ab") as file:
            file.writelines(msgspec.json.encode({"at": NOW, "note": note}) + b"\n" for note in written.witnessed)
    done = extproc()
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "7 logs that ended: 147 entries, all proven (--json, or --log LOG, shows each)",
        "",
        "7 logs, 147 entries, 0 of them pending: nothing was changed",
    ]
    assert len(extproc("--json").out.splitlines()) > 7


def test_all_is_good(extproc: Extproc, witness: Path) -> None:
    done = extproc()
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        f"{LOG}: 21 entries, all below 21 proven, 6 checkpoints, the last signed 2025-10-09 08:53:20 UTC, closed",
        "",
        "1 log, 21 entries, 0 of them pending: nothing was changed",
    ]


def test_without_a_witness_it_says_what_cannot_show(extproc: Extproc, state: Path) -> None:
    done = extproc()
    assert done.code == 0
    assert "warning: no witness was asked" in done.out


@pytest.mark.parametrize(("content", "warnings"), [("", 1), ("half a line", 2)])
def test_a_witness_without_a_checkpoint_is_none(extproc: Extproc, state: Path, content: str, warnings: int) -> None:
    (state / "witness.log").write_text(content)
    done = extproc()
    told = [line for line in done.out.splitlines() if line.startswith("warning: ")]
    assert (done.code, len(told)) == (0, warnings)
    assert told[-1].startswith("warning: the witness has no checkpoint: if somebody removed")
    assert extproc("--json").rows[-1]["witnessed"] is False


def test_a_store_without_a_log_is_not_called_unchanged(extproc: Extproc, state: Path) -> None:
    tamper(state, "DELETE FROM entry; DELETE FROM checkpoint")
    assert "there is nothing to verify" in extproc().out


# --- tampering with the file ------------------------------------------------------------------------------------------


def tamper(state: Path, script: str) -> None:
    """Do to the file what somebody with the rights of its owner can do."""
    with closing(sqlite3.connect(state / "record.db", isolation_level=None)) as connection:
        drop_guards(connection)
        connection.executescript(script)


def drop_guards(connection: sqlite3.Connection) -> None:
    triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
    indexes = connection.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL").fetchall()
    for kind, names in (("TRIGGER", triggers), ("INDEX", indexes)):
        for (name,) in names:
            connection.execute(f"DROP {kind} {name}")


def rehash(state: Path, index: int, *, signer: Signer | None = None) -> None:
    """Change an entry, and make everything after it follow on that; with a signer sign all of it again."""
    with closing(sqlite3.connect(state / "record.db", isolation_level=None)) as connection:
        drop_guards(connection)
        prev, frontier = "", Frontier()
        for at, data, named in connection.execute("SELECT idx, head, hash FROM entry ORDER BY idx").fetchall():
            head, name = read_head(data), named
            if at >= index:
                changes = {"facts": {"user": "mallory"}} if at == index else {"prev": prev}
                head = msgspec.structs.replace(head, **changes)
                data = canonical_bytes(head)  # noqa: PLW2901 - what is stored in its place
                name = address_of(data)
                connection.execute("UPDATE entry SET head = ?, hash = ? WHERE idx = ?", (data, name, at))
            prev = name
            frontier.append(leaf_hash(data))
            if signer is not None:
                note = signer.sign(Checkpoint(f"{NAME}/{LOG}", frontier.size, frontier.root(), NOW))
                connection.execute("UPDATE checkpoint SET note = ? WHERE size = ?", (note, frontier.size))


def edit(state: Path) -> None:
    tamper(
        state,
        """UPDATE entry SET head = CAST(replace(CAST(head AS TEXT), '"alice"', '"mally"') AS BLOB)
                     WHERE idx = 7 AND log = 'pod-1.0.1'""",
    )


def edit_body(state: Path) -> None:
    tamper(state, "UPDATE entry SET body = CAST('{}' AS BLOB) WHERE idx = 7")


def delete(state: Path) -> None:
    tamper(state, "DELETE FROM entry WHERE idx IN (7, 8)")


def swap(state: Path) -> None:
    tamper(
        state,
        "UPDATE entry SET idx = -1 WHERE idx = 3; UPDATE entry SET idx = 3 WHERE idx = 12;"
        "UPDATE entry SET idx = 12 WHERE idx = -1",
    )


def swap_bodies(state: Path) -> None:
    tamper(
        state,
        "CREATE TABLE kept AS SELECT idx, body FROM entry WHERE idx IN (3, 12);"
        "UPDATE entry SET body = (SELECT body FROM kept WHERE kept.idx = 15 - entry.idx) WHERE idx IN (3, 12)",
    )


def truncate(state: Path) -> None:
    tamper(state, "DELETE FROM entry WHERE idx >= 17")


def truncate_with_checkpoints(state: Path) -> None:
    tamper(state, "DELETE FROM entry WHERE idx >= 15; DELETE FROM checkpoint WHERE size > 15")


def insert(state: Path) -> None:
    tamper(
        state,
        "UPDATE entry SET idx = -idx - 1 WHERE idx >= 7; UPDATE entry SET idx = -idx WHERE idx < 0;"
        "INSERT INTO entry (log, idx, hash, head, body) SELECT log, 7, hash, head, body FROM entry WHERE idx = 2",
    )


def remove_blob(state: Path) -> None:
    tamper(state, "DELETE FROM blob WHERE data = CAST('pod-1.0.1 part 8' AS BLOB)")


def remove_body(state: Path) -> None:
    tamper(state, "UPDATE entry SET body = NULL WHERE idx = 7")


def edit_blob(state: Path) -> None:
    tamper(state, "UPDATE blob SET data = CAST('forged' AS BLOB) WHERE data = CAST('pod-1.0.1 part 8' AS BLOB)")


def remove_checkpoints(state: Path) -> None:
    tamper(state, "DELETE FROM checkpoint; DELETE FROM entry WHERE idx > 4")


TAMPERED: list[tuple[Callable[[Path], None], list[str]]] = [
    (edit, [f"EDITED: {LOG}, entry 7: its head was changed"]),
    (edit_body, [f"EDITED: {LOG}, entry 7: its body was changed"]),
    (delete, [f"REMOVED: {LOG}, entries 7 to 8: missing, and no prune record says why"]),
    (swap, [f"REORDERED: {LOG}, entry 3: it is entry 12", f"REORDERED: {LOG}, entry 12: it is entry 3"]),
    (swap_bodies, [f"REORDERED: {LOG}, entry 3: its body is that of", f"REORDERED: {LOG}, entry 12: its body is that"]),
    (truncate, [f"TRUNCATED: {LOG}, entries 17 to 20: the end of the log is missing: the last that is left is entry"]),
    (truncate_with_checkpoints, [f"TRUNCATED: {LOG}, entries 15 to 20: the end of the log is missing"]),
    (insert, [f"INSERTED: {LOG}, entry 7: it does not belong here", f"REORDERED: {LOG}, entry 7: it is entry 2",
              f"INSERTED: {LOG}, entry 7: it is a second entry"]),
    (remove_blob, [f"REMOVED: {LOG}, entry 7: the part {address_of(b'pod-1.0.1 part 8')} of its body is missing"]),
    (remove_body, [f"REMOVED: {LOG}, entry 7: its body is missing"]),
    (edit_blob, [f"EDITED: {LOG}, entry 7: the part {address_of(b'pod-1.0.1 part 8')} of its body was changed"]),
    (remove_checkpoints, [f"TRUNCATED: {LOG}, entries 5 to 20: the end of the log is missing"]),
    (lambda state: rehash(state, 7), [f"REWRITTEN: {LOG}, entries 5 to 9: the entries fit together, but are not the"]),
    (lambda state: rehash(state, 7, signer=SIGNER), [f"FORKED: {LOG}, entries 5 to 9: two histories of the log were"]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), TAMPERED, ids=[one[0].__name__ for one in TAMPERED])
def test_what_is_done_to_the_file_is_found_and_named(
    extproc: Extproc, state: Path, witness: Path, change: Callable[[Path], None], expected: list[str]
) -> None:
    change(state)
    done = extproc()
    assert done.code == 1
    found = [line for line in done.out.splitlines() if line.partition(":")[0].isupper()]
    assert len(found) == len(expected)
    for line in expected:
        assert [one for one in found if one.startswith(line)], (line, found)


def test_checkpoints_of_a_strangers_key_are_no_checkpoints(extproc: Extproc, state: Path, witness: Path) -> None:
    rehash(state, 7, signer=STRANGER)
    done = extproc()
    assert done.code == 1
    assert f"UNSIGNED: {LOG}: a checkpoint in the store does not hold: unknown signer" in done.out
    assert f"REWRITTEN: {LOG}, entries 5 to 9" in done.out


def test_an_old_copy_of_the_file_shows_by_the_witness(
    extproc: Extproc, state: Path, witness: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old.db"
    shutil.copy(state / "record.db", old)
    later = honest_log(MemoryLedger(), OTHER)
    put(state / "record.db", later)
    with witness.open("ab") as file:
        file.writelines(msgspec.json.encode({"at": NOW, "note": note}) + b"\n" for note in later.witnessed)
    assert extproc().code == 0
    for suffix in ("-wal", "-shm"):
        (state / f"record.db{suffix}").unlink(missing_ok=True)
    shutil.copy(old, state / "record.db")
    done = extproc()
    assert done.code == 1
    assert f"TRUNCATED: {OTHER}, entries 0 to 19: the end of the log is missing: all its entries are gone" in done.out


# --- how it is asked and told -----------------------------------------------------------------------------------------


def test_rows_in_json_say_the_same(extproc: Extproc, state: Path, witness: Path, writer: Writer) -> None:
    edit_body(state)
    done = extproc("--json")
    assert done.code == 1
    log, fault, total = done.rows
    assert (log["type"], log["id"], log["entries"], log["proven"], log["closed"]) == ("log", LOG, 21, 21, True)
    assert (fault["type"], fault["kind"], fault["first"], fault["last"]) == ("fault", "edited", 7, 7)
    assert fault["exchange"] == read_head(writer.sealed[7].head).id
    assert (total["type"], total["good"], total["faults"], total["witnessed"]) == ("total", False, 1, True)


def test_nothing_in_the_store_can_look_like_a_line_of_ours(extproc: Extproc, state: Path) -> None:
    tamper(state, "UPDATE entry SET log = 'x' || char(10) || '0 logs: nothing was changed' || char(27) || '[2J'")
    done = extproc()
    assert done.code == 1
    assert "\x1b" not in done.out
    assert not [line for line in done.out.splitlines() if line.startswith("0 logs")]


def test_an_auditor_gives_keys_and_witnesses_of_their_own(
    extproc: Extproc, state: Path, witness: Path, tmp_path: Path
) -> None:
    key, folder = tmp_path / "own.pub", tmp_path / "witness"
    shutil.move(state / "checkpoint.key.pub", key)
    folder.mkdir()
    shutil.move(witness, folder / "1.log")
    assert extproc().code == 2
    assert extproc("--public-key", str(key)).code == 0
    truncate_with_checkpoints(state)
    assert extproc("--public-key", str(key)).code == 0
    assert extproc("--public-key", str(key), "--witness", str(folder)).code == 1


def test_only_the_log_that_is_named_is_looked_at(extproc: Extproc, state: Path, witness: Path) -> None:
    put(state / "record.db", honest_log(MemoryLedger(), OTHER))
    edit(state)
    assert extproc("--log", OTHER).code == 0
    assert extproc("--log", LOG).code == 1
    unknown = extproc("--log", "nowhere")
    assert (unknown.code, "has a log 'nowhere'" in unknown.err) == (2, True)


def test_a_log_that_fell_silent_is_a_warning(extproc: Extproc, state: Path) -> None:
    put(state / "record.db", honest_log(MemoryLedger(), OTHER))
    done = extproc()
    assert done.code == 0
    assert f"warning: {OTHER}: the log has not ended, and the last checkpoint of it was signed 2025-10-09" in done.out
    assert "has not ended" not in extproc("--max-silence", "1e9").out


@pytest.mark.parametrize("missing", ["record.db", "checkpoint.key.pub"])
def test_what_cannot_be_looked_at_is_not_called_changed(extproc: Extproc, state: Path, missing: str) -> None:
    (state / missing).unlink()
    done = extproc()
    assert done.code == 2
    assert str(Path(".extproc") / missing) in done.err


def test_a_file_that_is_no_store_is_not_called_changed(extproc: Extproc, state: Path) -> None:
    (state / "record.db").write_bytes(b"no database" * 1000)
    assert extproc().code == 2


def test_a_witness_that_is_not_there_is_an_error(extproc: Extproc, state: Path) -> None:
    done = extproc("--witness", "nowhere.log")
    assert (done.code, "nowhere.log: there is no such file" in done.err) == (2, True)


def test_it_needs_no_right_to_write(extproc: Extproc, state: Path, witness: Path) -> None:
    before = {path.name: path.read_bytes() for path in state.iterdir()}
    assert extproc().code == 0
    after = {path.name: path.read_bytes() for path in state.iterdir()}
    # Readers of a database that writes ahead share an index in memory, which is a file of its own.
    assert {name: data for name, data in after.items() if not name.endswith(("-shm", "-wal"))} == before


def test_progress_is_shown_to_a_person_only(extproc: Extproc, state: Path, witness: Path) -> None:
    assert extproc().err == ""


# --- witnesses' files -------------------------------------------------------------------------------------------------


def test_notes_are_read_from_lines_and_as_they_are(tmp_path: Path, writer: Writer) -> None:
    first, second, third = writer.witnessed[:3]
    lines = tmp_path / "lines"
    lines.write_text(f'{{"at":1,"note":{json.dumps(first)}}}\n{{"at":1,"no\n{{"note":{json.dumps(second)}}}\n')
    plain = tmp_path / "plain"
    plain.write_text(f"\n{first}\n{second}{third}\n\n")
    assert list(notes([lines])) == [first, '{"at":1,"no\n', second]
    assert list(notes([plain])) == [first, second, third]
    assert list(notes([tmp_path])) == [first, '{"at":1,"no\n', second, first, second, third]


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(b"{" + b"x" * 1_000_000)
    assert max(len(note) for note in notes([path])) < 500_000


# --- what it is made of -----------------------------------------------------------------------------------------------


def closure(*roots: str) -> set[str]:
    """Return these modules and all of ours that they import, with whatever is imported on the way to them."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += [one for one in imports(module) if one in MODULES]
    return found


def test_what_verifies_imports_nothing_that_writes() -> None:
    verifying = closure("extproc.verification.verify", "extproc.store.sqlite_ledger", "extproc.store.port")
    assert "extproc.recording.merkle" in verifying
    writers = ("sqlite_store", "sqlite_eraser", "cosmos_store", "shipping", "spool", "eraser", "recorder", "witness.")
    assert sorted(one for one in verifying if any(name in one for name in writers)) == []
    # This test sees writers where they are.
    assert "extproc.store.sqlite_store" in closure("extproc.stores")


def test_the_store_is_opened_read_only(extproc: Extproc, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    connect = sqlite3.connect

    def spy(database: str, **more: Any) -> Any:
        opened.append(database)
        return connect(database, **more)

    monkeypatch.setattr(sqlite3, "connect", spy)
    assert extproc().code == 0
    assert opened
    assert all(str(one).endswith("?mode=ro") for one in opened)
