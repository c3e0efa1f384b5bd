from __future__ import annotations

import base64
import hashlib
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from extproc.errors import ConfigError, ExtprocError
from extproc.export import bundle as export_bundle
from extproc.export import exporting
from extproc.export.bundle import Bundle
from extproc.export.exporting import Source
from extproc.export.formats import Format
from extproc.recording.checkpoint import BadCheckpoint, Signer
from extproc.recording.facts import microseconds
from extproc.retention.plan import Keep, Rules
from extproc.retention.retaining import Retention
from extproc.store.port import Search
from extproc.store.sqlite_archive import SqliteArchive
from extproc.verification.proven import Unproved
from tests.evidence import DAY, ENVELOPE, SIGNER, Altered, Evidence
from tests.recording_of import NOW, Exchange, exchange

RULES = Rules((), Keep("default", 30, 60), digest="d" * 64)


@pytest.fixture
def store(tmp_path: Path) -> Evidence:
    return Evidence(tmp_path / "record.db")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "PART_DOCUMENTS", 3)


def talk(count: int, session: str = "s1", at: float = NOW, **more: Any) -> list[Exchange]:
    """Return turns of a conversation that is sent whole each time, long enough to be cut into blobs."""
    said: list[dict[str, Any]] = []
    turns = []
    for turn in range(count):
        said = [*said, {"role": "user", "content": f"turn {turn} of {session} " + "naïve \u2028\x01\x7f words " * 150}]
        turns.append(exchange(f"{session}-{turn}", session=session, at=at + turn, messages=list(said), **more))
        said = [*said, {"role": "assistant", "content": "Hello"}]
    return turns


def source(store: Evidence) -> Source:
    return Source(store.archive, store.ledger, store.keys)


def export(
    store: Evidence,
    out: Path,
    *,
    wanted: Format = Format.JSONL,
    search: Search | None = None,
    where: Source | None = None,
) -> Bundle:
    where = where or source(store)
    bundle = export_bundle.load(out) or export_bundle.create(
        out, exporting.begin(where, search or Search(), wanted, NOW, {})
    )
    exporting.run(where, bundle, lambda *_: None)
    return bundle


def check(out: Path, *arguments: str) -> tuple[int, str]:
    """Run the copy of the checker as an auditor would, away from this package."""
    command = [sys.executable, "-I", str(out / "check_export.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)  # noqa: S603 - our own program
    assert done.stderr == ""
    return done.returncode, done.stdout


def documents(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for part in sorted((out / "documents").iterdir()) for line in lines_of(part)]


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def files(out: Path) -> dict[str, bytes]:
    return {str(one.relative_to(out)): one.read_bytes() for one in sorted(out.rglob("*")) if one.is_file()}


def test_a_bundle_has_the_documents_and_verifies_offline(store: Evidence, tmp_path: Path) -> None:
    store.log("a.0.1", talk(5))
    store.log("b.0.1", talk(4, "s2", at=NOW + 0.5))
    bundle = export(store, tmp_path / "out")
    assert documents(tmp_path / "out") == list(store.archive.exchanges())
    assert bundle.manifest.contents == {"clear": 9}
    assert bundle.manifest.parts == 3
    code, told = check(tmp_path / "out")
    assert told.splitlines()[-1] == "ok: 9 documents, 9 entries of 2 logs are proved"
    assert f"manifest {bundle.digest}" in told
    assert "compare them, or give --key FILE" in told
    assert code == 0


def test_a_search_selects(store: Evidence, tmp_path: Path) -> None:
    store.log("a.0.1", [*talk(2), *talk(2, "s2", user="bob")])
    export(store, tmp_path / "out", search=Search(user="bob"))
    assert [one["id"] for one in documents(tmp_path / "out")] == ["s2-0", "s2-1"]
    assert check(tmp_path / "out")[0] == 0


@pytest.mark.parametrize("wanted", [Format.HAR, Format.MARKDOWN])
def test_other_formats_have_the_proofs_and_say_what_binds_the_documents(
    store: Evidence, tmp_path: Path, wanted: Format
) -> None:
    store.log("a.0.1", talk(4))
    export(store, tmp_path / "out", wanted=wanted)
    assert not (tmp_path / "out" / "stored").exists()
    code, told = check(tmp_path / "out")
    assert code == 0
    assert f"documents are {wanted}: what they say is bound by the manifest alone" in told


def test_what_no_checkpoint_covers_is_left_out_and_counted(store: Evidence, tmp_path: Path) -> None:
    store.log("a.0.1", talk(2))
    store.log("a.0.1", talk(3, "s2"), signed=False)
    where = source(store)
    bundle = export_bundle.create(tmp_path / "out", exporting.begin(where, Search(), Format.JSONL, NOW, {}))
    assert exporting.run(where, bundle, lambda *_: None) == 3
    assert len(documents(tmp_path / "out")) == 2
    assert check(tmp_path / "out")[0] == 0


def test_nothing_to_export_is_a_bundle_too(store: Evidence, tmp_path: Path) -> None:
    store.log("a.0.1", talk(1))
    export(store, tmp_path / "out", search=Search(user="nobody"))
    assert check(tmp_path / "out")[1].splitlines()[-1] == "ok: 0 documents, 0 entries of 0 logs are proved"


# --- stopped ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", list(Format))
def test_an_export_stopped_anywhere_and_run_again_is_the_same_bundle(
    store: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: Format
) -> None:
    # All at one time: the position within it must be remembered too.
    turns = [one for name in "uvwx" for one in talk(2, name)]
    store.log("a.0.1", turns[:4])
    store.log("b.0.1", turns[4:])
    manifest = exporting.begin(source(store), Search(), wanted, NOW, {})
    whole = export_bundle.create(tmp_path / "whole", replace_sizes(manifest))
    exporting.run(source(store), whole, lambda *_: None)
    out = tmp_path / "stopped"
    export_bundle.create(out, replace_sizes(manifest))
    # What comes meanwhile does not get in.
    store.log("a.0.1", talk(3, "late"))
    ends = (stopped_after(out, source(store), monkeypatch, writes=writes) for writes in range(100))
    assert list(itertools.takewhile(lambda ended: not ended, ends)).count(False) > 5
    assert files(out) == files(tmp_path / "whole")


def replace_sizes(manifest: export_bundle.Manifest) -> export_bundle.Manifest:
    """Return a manifest of its own: a run changes it."""
    return export_bundle.Manifest(
        v=1,
        format=manifest.format,
        search=dict(manifest.search),
        started_at=manifest.started_at,
        since={},
        sizes=dict(manifest.sizes),
    )


def stopped_after(out: Path, where: Source, monkeypatch: pytest.MonkeyPatch, writes: int) -> bool:
    """Run until so many files were written, then die in the middle of one; return whether it ended before."""
    left = writes
    real = export_bundle._write

    def dying(path: Path, content: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            real(path, [b"half"])
            raise KeyboardInterrupt
        return real(path, content)

    bundle = export_bundle.load(out)
    assert bundle is not None
    with monkeypatch.context() as patch:
        patch.setattr(export_bundle, "_write", dying)
        try:
            exporting.run(where, bundle, lambda *_: None)
        except KeyboardInterrupt:
            return False
    return True


def test_a_folder_of_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ConfigError, match="expected an empty folder, or one with the manifest of an export"):
        export_bundle.load(tmp_path)


# --- removed by rule -------------------------------------------------------------------------------------------------


def prune(store: Evidence, days: float) -> None:
    names = iter(f"{days}-{number}" for number in range(99))
    work = Retention(store.ledger, store.keys, microseconds(NOW + days * DAY), lambda: next(names))
    work.apply(work.plan(RULES), RULES, store.eraser, store.record, "dave")


def test_what_was_removed_by_rule_is_explained_by_proved_records(store: Evidence, tmp_path: Path) -> None:
    store.log("a.0.1", [*talk(3), *talk(2, "s2", at=NOW + 40 * DAY)])
    prune(store, 50)
    bundle = export(store, tmp_path / "out")
    assert bundle.manifest.contents == {"gone": 3, "clear": 2}
    code, told = check(tmp_path / "out")
    assert (code, told.splitlines()[-1]) == (0, "ok: 5 documents, 6 entries of 2 logs are proved")


def test_a_log_whose_beginning_went_still_proves_the_rest(store: Evidence, tmp_path: Path) -> None:
    turns = [one for day in range(13) for one in talk(1, f"d{day}", at=NOW + day * DAY)]
    store.log("a.0.1", turns)
    prune(store, 66)
    export(store, tmp_path / "out")
    assert len(documents(tmp_path / "out")) == 6
    code, told = check(tmp_path / "out")
    assert code == 0, told


def test_content_that_somebody_removed_is_a_fault_of_the_bundle(store: Evidence, tmp_path: Path) -> None:
    store.log("a.0.1", talk(2))
    store.eraser.remove_bodies([("a.0.1", 1)])
    export(store, tmp_path / "out")
    code, told = check(tmp_path / "out")
    assert code == 1
    assert "FAILED: document s1-1: its content is missing, and no record says why" in told


def test_content_that_was_encrypted_is_bound_by_the_manifest_and_that_is_told(store: Evidence, tmp_path: Path) -> None:
    store.log("a.0.1", talk(1))
    store.encrypted("a.0.1", talk(1, "s2")[0])
    readable = replace(source(store), archive=SqliteArchive(store.path, ENVELOPE))
    bundle = export(store, tmp_path / "readable", where=readable)
    assert bundle.manifest.contents == {"clear": 1, "encrypted": 1}
    code, told = check(tmp_path / "readable")
    assert (code, "1 documents were encrypted at rest: bound by the manifest alone" in told) == (0, True)
    # Whoever has no key exports the facts.
    assert export(store, tmp_path / "facts").manifest.contents == {"clear": 1, "unreadable": 1}
    code, told = check(tmp_path / "facts")
    assert (code, "1 documents are encrypted, and were exported without their key" in told) == (0, True)


def test_content_whose_key_was_erased_is_explained_by_a_record_or_a_fault(store: Evidence, tmp_path: Path) -> None:
    store.encrypted("a.0.1", talk(1)[0])
    store.encrypted("a.0.1", talk(1, "s2")[0])
    names = iter("abcdef")
    work = Retention(store.ledger, store.keys, microseconds(NOW + DAY), lambda: next(names))
    done = work.erase("s1", store.eraser, store.record, by="dave", reason="asked")
    assert (done.keys, done.bodies) == (1, 0)
    assert export(store, tmp_path / "out").manifest.contents == {"erased": 1, "unreadable": 1}
    assert check(tmp_path / "out")[0] == 0
    store.eraser.remove_keys("s2")
    export(store, tmp_path / "bad")
    code, told = check(tmp_path / "bad")
    assert (code, "document s2-0: its key is missing, and no record says why" in told) == (1, True)


# --- a store that lies -----------------------------------------------------------------------------------------------


def test_a_store_whose_heads_were_changed_is_not_exported_as_proved(store: Evidence, tmp_path: Path) -> None:
    store.log("a.0.1", talk(3))
    one = next(store.ledger.entries("a.0.1", 1))
    changed = Altered(store.ledger, {("a.0.1", 1): replace(one, head=one.head.replace(b"alice", b"alicf"))})
    with pytest.raises(Unproved, match=r"log a\.0\.1: entry 1 is not what it was"):
        export(store, tmp_path / "out", where=replace(source(store), ledger=changed))


def test_another_key_proves_nothing(store: Evidence, tmp_path: Path) -> None:
    store.log("a.0.1", talk(1))
    other = Signer(SIGNER.name, Ed25519PrivateKey.generate())
    with pytest.raises(BadCheckpoint):
        export(store, tmp_path / "out", where=replace(source(store), keys=[other.public]))


def test_a_body_that_was_changed_is_not_exported(store: Evidence, tmp_path: Path) -> None:
    store.log("a.0.1", talk(1))

    class Lying:
        def exchanges(self, search: Search) -> Iterator[dict[str, Any]]:
            for one in store.archive.exchanges(search):
                yield {**one, "removed": "the store has something else"}

    where = replace(source(store), archive=Lying())  # type: ignore[arg-type]
    with pytest.raises(ExtprocError, match="what the store has as content of entry 0 is not what was recorded"):
        export(store, tmp_path / "out", where=where)


# --- a bundle that was changed ---------------------------------------------------------------------------------------

Change = Callable[[Path], object]


def in_lines(name: str, old: str, new: str) -> Change:
    def change(out: Path) -> None:
        path = out / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def without(name: str) -> Change:
    return lambda out: (out / name).unlink()


def blob_changed(out: Path) -> None:
    path = out / "stored/000001.jsonl"
    lines = [json.loads(line) for line in lines_of(path)]
    blob = next(line for line in lines if "blob" in line)
    blob["data"] = base64.b64encode(base64.b64decode(blob["data"]).replace(b"turn", b"burn")).decode()
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def last_line_gone(name: str) -> Change:
    def change(out: Path) -> None:
        path = out / name
        path.write_bytes(b"".join(lines_of(path)[:-1]))

    return change


CHANGES: dict[str, tuple[Change, str]] = {
    "a document": (in_lines("documents/000001.jsonl", '"say', '"SAY'), "document e0: it is not what was recorded"),
    "a document's place": (in_lines("documents/000001.jsonl", '"index":1', '"index":7'), "document e1: it is not what"),
    "a document's id": (in_lines("documents/000001.jsonl", '"e1"', '"e9"'), "the documents are not those of the index"),
    "a document gone": (last_line_gone("documents/000001.jsonl"), "the documents are not those of the index"),
    "a document and its index gone": (
        lambda out: [last_line_gone(f"{one}/000001.jsonl")(out) for one in ("documents", "index")],
        "3 documents, and the manifest says",
    ),
    "the index": (
        in_lines("index/000001.jsonl", '"index":0', '"index":1'),
        "document e0: its head is that of exchange",
    ),
    "content said to be encrypted": (
        in_lines("index/000001.jsonl", '"content":"clear"', '"content":"encrypted"'),
        "document e0: it is said to have been encrypted, and was not",
    ),
    "content said to be gone": (
        in_lines("index/000001.jsonl", '"content":"clear"', '"content":"gone"'),
        "document e0: its content is missing, and no record says why",
    ),
    "a blob": (blob_changed, "has other bytes than its name says"),
    "bodies gone": (last_line_gone("stored/000001.jsonl"), "its stored body is missing"),
    "a head": (in_lines("entries/000001.jsonl", "alice", "alicf"), "the proof does not lead to the checkpoint"),
    "a head's index": (in_lines("entries/000001.jsonl", '"index":1', '"index":2'), "its head is that of entry 1"),
    "a head's form": (in_lines("entries/000001.jsonl", '"head":"{', '"head":" {'), "is not in canonical form"),
    "an entry gone": (last_line_gone("entries/000001.jsonl"), "no proved head at 3 of log a.0.1"),
    "a proof": (in_lines("entries/000001.jsonl", '"proof":["', '"proof":["00'), "log a.0.1"),
    "a checkpoint": (in_lines("checkpoints/000001.txt", "\n4\n", "\n3\n"), "the signature of the checkpoint is wrong"),
    "a checkpoint's signer": (in_lines("checkpoints/000001.txt", "— gateway", "— gatewaz"), "not signed by any key"),
    "the keys": (in_lines("keys.txt", "gateway.example", "gateway.exampla"), "was changed"),
    "a file gone": (without("entries/000001.jsonl"), "entries/000001.jsonl: is missing"),
    "a file more": (lambda out: (out / "extra").write_text("x"), "extra: is not listed in the manifest"),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    store = Evidence(folder / "record.db")
    asking = [{"role": "user", "content": "say turn " * 200}]
    store.log("a.0.1", [exchange("e0"), *(exchange(f"e{turn}", at=NOW + turn, messages=asking) for turn in (1, 2, 3))])
    bundle = export_bundle.create(folder / "out", exporting.begin(source(store), Search(), Format.JSONL, NOW, {}))
    exporting.run(source(store), bundle, lambda *_: None)
    return folder / "out"


@pytest.mark.parametrize("adapted", [False, True], ids=["manifest as it was", "manifest adapted"])
@pytest.mark.parametrize("what", CHANGES)
def test_whatever_is_changed_in_a_bundle_is_found(good: Path, tmp_path: Path, what: str, *, adapted: bool) -> None:
    out = tmp_path / "out"
    for name, content in files(good).items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    change, told = CHANGES[what]
    change(out)
    if adapted and what not in {"a file gone", "a file more"}:
        manifest = json.loads((out / "manifest.json").read_text())
        for name, facts in manifest["files"].items():
            facts["sha256"] = hashlib.sha256((out / name).read_bytes()).hexdigest()
        (out / "manifest.json").write_text(json.dumps(manifest))
    code, said = check(out)
    assert code == 1
    assert "ok:" not in said
    assert told in said


def test_an_auditor_gives_the_key_and_the_digest_that_they_know(good: Path, tmp_path: Path) -> None:
    mine, other = tmp_path / "mine.pub", tmp_path / "other.pub"
    mine.write_text(SIGNER.vkey + "\n")
    other.write_text(Signer(SIGNER.name, Ed25519PrivateKey.generate()).vkey + "\n")
    digest = hashlib.sha256((good / "manifest.json").read_bytes()).hexdigest()
    code, told = check(good, "--key", str(mine), "--manifest", digest)
    assert (code, "note:" in told) == (0, False)
    assert check(good, "--key", str(other))[0] == 1
    assert check(good, "--manifest", "0" * 64)[0] == 1


def test_an_export_that_was_not_finished_does_not_pass(good: Path, tmp_path: Path) -> None:
    manifest = json.loads((good / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "complete": False}))
    (tmp_path / "check_export.py").write_bytes((good / "check_export.py").read_bytes())
    assert check(tmp_path) == (1, "FAILED: the manifest is of another version, or of an export that was not finished\n")
