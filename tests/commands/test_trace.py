from __future__ import annotations

import asyncio
import os
import subprocess
import time
from pathlib import Path

import pytest

from extproc.keys.fingerprint_key import load_or_create_key
from extproc.store.sqlite_store import SqliteStore
from extproc.tracing.lines import proposed_fingerprints
from tests.commanding import Extproc, runner
from tests.recording_of import Log, exchange

NOW = 1_760_000_000.0
CODE = """\
def mean_of(values):
    total = sum(values)

    if not values:
        raise ValueError("no values")
    return total / len(values)
"""
ID, LATER = "01a2025b335e912fd8d1ad6df27ad9ad", "01a2025b335e912fd8d1ad6df27ad9ff"
SESSION = "584efd4ed4058f98"


@pytest.fixture
def extproc(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Extproc:
    # No configuration of whoever runs the tests counts.
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return runner(monkeypatch, capsys, tmp_path, "trace")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Make a store with an exchange that bob approved, and one of a day later that proposed the same."""
    folder = tmp_path / ".extproc"
    key = load_or_create_key(folder / "fingerprint.key")
    written = Log()
    entries = []
    for name, at in ((ID, NOW), (LATER, NOW + 86_400)):
        opening, closing = exchange(
            name, session=SESSION, at=at, answered=f"Here:\n```python\n{CODE}```", endpoint="chat"
        )
        closing["approvals"] = [{"id": "a1", "state": "approved", "verdicts": [{"name": "bob", "approved": True}]}]
        lines = proposed_fingerprints(closing["response"], key, opening["request"])
        entries.append(written.exchange(opening, closing, lines=lines))

    async def put() -> None:
        store = SqliteStore(folder / "record.db")
        await store.put(entries, written.blobs)
        await store.aclose()

    asyncio.run(put())
    return folder


def git(folder: Path, *arguments: str, at: float = NOW) -> str:
    """Run git as somebody whose clock says `at`."""
    who = {f"GIT_{role}_{what}": "alice@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    when = {f"GIT_{role}_DATE": f"{at:.0f} +0000" for role in ("AUTHOR", "COMMITTER")}
    done = subprocess.run(  # noqa: S603 - no shell, and the arguments are above
        ["git", *arguments],  # noqa: S607 - whichever there is
        cwd=folder,
        env={**os.environ, **who, **when},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


# --- Files -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("state")
def test_lines_of_a_file_are_told_with_who_asked_and_who_approved(extproc: Extproc, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import sys\n\n\n" + CODE.replace("no values", "no values there"))
    done = extproc("a.py", "--before", "2025-10-09T12:00:00+00:00")
    day, clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(NOW)).split()
    told = ["alice", day, clock, "gpt-5", "bob", SESSION, ID]
    assert done.code == 0
    assert [line.split() for line in done.out.splitlines()] == [
        ["a.py"],
        ["lines", "match", "who", "when", "model", "approved", "by", "session", "exchange"],
        ["4-7", "exact", *told, "(+1)"],
        ["8", "edited", "91%", *told],
        ["9", "exact", *told, "(+1)"],
        ["6", "of", "9", "lines", "were", "proposed,", "in", "1", "exchange"],
    ]


@pytest.mark.usefixtures("state")
def test_what_was_proposed_only_later_is_said_to_be(extproc: Extproc, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(CODE)
    assert " later " in extproc("a.py", "--before", "2020-01-01").out
    assert " later " not in extproc("a.py").out


@pytest.mark.usefixtures("state")
def test_json_has_one_object_for_each_range(extproc: Extproc, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(CODE)
    done = extproc("a.py", "--json", "--before", "2025-10-09T12:00:00+00:00")
    assert done.rows == [
        {
            "path": "a.py",
            "start": 1,
            "end": 6,
            "match": "exact",
            "similarity": 1.0,
            "exchange": ID,
            "session": SESSION,
            "opened_at": NOW,
            "user": "alice",
            "principal": "issuer#alice",
            "model": "gpt-5",
            "client": "copilot/1.0",
            "outcome": "completed",
            "approved_by": ["bob"],
            "denied_by": [],
            "others": 1,
            "later": False,
        }
    ]


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize(("lines", "found"), [("2", (2, 2)), ("2-4", (2, 4)), ("1-7", (1, 6))])
def test_only_the_lines_that_are_named_are_told(
    extproc: Extproc, tmp_path: Path, lines: str, found: tuple[int, int]
) -> None:
    (tmp_path / "a.py").write_text(f"{CODE}# mine\n")
    assert [(row["start"], row["end"]) for row in extproc(f"a.py:{lines}", "--json").rows] == [found]


@pytest.mark.usefixtures("state")
def test_several_files_are_traced_and_a_colon_may_be_part_of_a_name(extproc: Extproc, tmp_path: Path) -> None:
    (tmp_path / "a:2").write_text(CODE)
    (tmp_path / "b.py").write_text(f"# mine\n{CODE}")
    assert [(row["path"], row["start"]) for row in extproc("a:2", "b.py", "--json").rows] == [("a:2", 1), ("b.py", 2)]


@pytest.mark.usefixtures("state")
def test_a_narrow_terminal_has_two_lines_for_each_range(
    extproc: Extproc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "a.py").write_text(CODE)
    lines = extproc("a.py").out.splitlines()
    assert len(lines) == 6
    assert max(map(len, lines)) <= 80
    assert lines[4].split()[-2:] == [LATER, "(+1)"]


@pytest.mark.usefixtures("state")
def test_nothing_found_is_exit_code_1(extproc: Extproc, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("print('mine')\n")
    done = extproc("a.py")
    assert (done.code, done.out) == (1, "none of 1 lines is known to have been proposed\n")
    assert (extproc("a.py", "--json").code, extproc("a.py", "--json").out) == (1, "")


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize("lines", ["0", "8", "3-2", "3-9"])
def test_lines_that_are_not_there_are_an_error(extproc: Extproc, tmp_path: Path, lines: str) -> None:
    (tmp_path / "a.py").write_text(CODE)
    done = extproc(f"a.py:{lines}")
    assert done.code == 2
    assert "expected lines between 1 and 6" in done.err


@pytest.mark.usefixtures("state")
def test_what_cannot_be_read_is_an_error(extproc: Extproc, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\0\1")
    for arguments, says in [
        (["missing.py"], "missing.py: cannot be read: No such file"),
        (["."], "cannot be read: Is a directory"),
        (["a.bin"], "a.bin: expected text"),
        (["--diff", "missing.diff"], "missing.diff: cannot be read"),
        ([], "expected one of: files, --commit REV, --diff FILE"),
        (["a.bin", "--commit", "HEAD"], "expected one of"),
        (["a.bin", "--before", "soon"], "--before"),
    ]:
        done = extproc(*arguments)
        assert done.code == 2
        assert says in done.err


def test_without_the_key_or_the_store_nothing_can_be_looked_for(extproc: Extproc, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(CODE)
    done = extproc("a.py")
    assert done.code == 2
    assert "fingerprint.key" in done.err
    load_or_create_key(tmp_path / ".extproc" / "fingerprint.key")
    done = extproc("a.py")
    assert done.code == 2
    assert done.err


# --- Diffs and commits -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("state")
def test_of_a_diff_the_added_lines_are_traced(extproc: Extproc, tmp_path: Path) -> None:
    first, second, *rest = CODE.splitlines(keepends=True)
    diff = f"--- a/a.py\n+++ b/a.py\n@@ -1,5 +1,6 @@\n {first}+{second}" + "".join(f" {line}" for line in rest)
    done = extproc("--diff", "-", "--json", stdin=diff.encode())
    assert [(row["path"], row["start"], row["end"]) for row in done.rows] == [("a.py", 2, 2)]
    (tmp_path / "x.diff").write_text(diff)
    assert extproc("--diff", "x.diff", "--json").out == done.out


@pytest.mark.usefixtures("state")
def test_of_a_commit_the_added_lines_are_traced_to_what_came_before_it(extproc: Extproc, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "größe.py").write_text("# mine\n")
    git(tmp_path, "add", "größe.py")
    git(tmp_path, "commit", "--quiet", "--message", "one")
    (tmp_path / "größe.py").write_text(f"# mine\n{CODE}")
    git(tmp_path, "commit", "--quiet", "--all", "--message", "two", at=NOW + 3600)
    # What people set for their own eyes does not matter.
    for name, value in [("color.ui", "always"), ("diff.noprefix", "true"), ("diff.external", "false")]:
        git(tmp_path, "config", name, value)
    done = extproc("--commit", "HEAD", "--json")
    assert [(row["path"], row["start"], row["end"], row["exchange"]) for row in done.rows] == [("größe.py", 2, 7, ID)]
    assert extproc("--commit", "HEAD~1").code == 1
    # A day later the other one would have been the most recent.
    assert extproc("--commit", "HEAD", "--before", "2030-01-01", "--json").rows[0]["exchange"] == LATER


@pytest.mark.usefixtures("state")
def test_of_a_merge_what_it_brought_to_its_first_parent_is_traced(extproc: Extproc, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "one")
    git(tmp_path, "checkout", "--quiet", "-b", "side")
    (tmp_path / "a.py").write_text(CODE)
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "--quiet", "--message", "two")
    git(tmp_path, "checkout", "--quiet", "main")
    git(tmp_path, "merge", "--quiet", "--no-ff", "--message", "three", "side")
    assert [(row["path"], row["start"], row["end"]) for row in extproc("--commit", "HEAD", "--json").rows] == [
        ("a.py", 1, 6)
    ]


@pytest.mark.usefixtures("state")
def test_a_commit_that_is_none_is_an_error(extproc: Extproc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = extproc("--commit", "HEAD")
    assert (done.code, "not a git repository" in done.err) == (2, True)
    git(tmp_path, "init", "--quiet")
    for revision in ("nonsense", "--all", "HEAD..HEAD", ""):
        done = extproc("--commit", revision)
        assert (done.code, "--commit: " in done.err) == (2, True)
    monkeypatch.setenv("PATH", str(tmp_path))
    done = extproc("--commit", "HEAD")
    assert (done.code, "git cannot be run" in done.err) == (2, True)
