from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from extproc.keys.checkpoint_key import FILE_NAME, load_or_create_signer
from tests.commanding import Extproc, runner
from tests.evidence import Evidence
from tests.recording_of import NOW, exchange


@pytest.fixture
def extproc(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> Extproc:
    return runner(monkeypatch, Decoded(capfdbinary), tmp_path, "export")  # type: ignore[arg-type]


class Decoded:
    """Read captured bytes as text: the command writes both."""

    def __init__(self, capture: pytest.CaptureFixture[bytes]) -> None:
        self._capture = capture

    def readouterr(self) -> tuple[str, str]:
        out, err = self._capture.readouterr()
        return out.decode(), err.decode()


@pytest.fixture
def store(tmp_path: Path) -> Evidence:
    folder = tmp_path / ".extproc"
    folder.mkdir()
    known = Evidence(folder / "record.db", load_or_create_signer(folder / FILE_NAME, "copilot-extproc"))
    known.log("a.0.1", [exchange("e1"), exchange("e2", at=NOW + 60, session="s2", user="bob")])
    return known


def noted(state: Path) -> list[str]:
    """Return the logs of commands that wait in the spool."""
    return sorted(one.name for one in (state / "spool").iterdir())


def test_documents_go_to_standard_output_unless_told(extproc: Extproc, store: Evidence) -> None:
    assert [row["id"] for row in extproc().rows] == ["e1", "e2"]
    assert [row["id"] for row in extproc("--user", "bob").rows] == ["e2"]
    assert [row["id"] for row in extproc("--until", "2025-10-09T08:54:00+00:00").rows] == ["e1"]
    assert json.loads(extproc("--format", "har").out)["log"]["version"] == "1.2"
    assert "# Session `s1`" in extproc("--format", "markdown", "--session", "s1").out


def test_a_file_gets_documents_alone_whole_or_not_at_all(extproc: Extproc, store: Evidence, tmp_path: Path) -> None:
    assert extproc("--out", "all.jsonl").code == 0
    assert len((tmp_path / "all.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "all.jsonl").stat().st_mode & 0o777 == 0o600
    wrong = extproc("--out", "all.har")
    assert (wrong.code, "a file of format jsonl is named *.jsonl" in wrong.err) == (2, True)
    assert not (tmp_path / "all.har").exists()


def test_a_folder_gets_a_bundle_that_verifies(extproc: Extproc, store: Evidence, tmp_path: Path) -> None:
    done = extproc("--out", "bundle")
    assert done.code == 0, done.err
    digest = done.out.split()[-1]
    key = tmp_path / ".extproc" / f"{FILE_NAME}.pub"
    command = [sys.executable, "-I", "bundle/check_export.py", "--key", str(key), "--manifest", digest]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603
    assert checked.returncode == 0, checked.stdout
    assert "ok: 2 documents" in checked.stdout


def test_a_second_export_into_a_folder_needs_resume_and_the_same_search(
    extproc: Extproc, store: Evidence, tmp_path: Path
) -> None:
    extproc("--out", "bundle", "--since", "9999d")
    again = extproc("--out", "bundle")
    assert (again.code, "--resume goes on with one that was stopped" in again.err) == (2, True)
    assert extproc("--out", "bundle", "--resume", "--since", "9999d").code == 0
    other = extproc("--out", "bundle", "--resume", "--user", "bob")
    assert (other.code, "of another search or format" in other.err) == (2, True)


def test_what_is_left_out_is_told(extproc: Extproc, store: Evidence) -> None:
    store.log("a.0.1", [exchange("e3")], signed=False)
    assert "1 exchange was left out: no checkpoint covers what is some seconds old" in extproc("--out", "bundle").err


def test_scheduled_exports_go_on_where_the_last_one_ended(extproc: Extproc, store: Evidence) -> None:
    scheduled = ("--since-last", "state.json", "--out", "bundles")
    assert "2 documents" in extproc(*scheduled).out
    assert extproc(*scheduled).out == "nothing new\n"
    store.log("a.0.1", [exchange("e3")])
    assert "1 document," in extproc(*scheduled).out


def test_where_there_is_no_store_nothing_is_left_behind(extproc: Extproc, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    done = extproc("--state-dir", "elsewhere")
    assert (done.code, "there is no store" in done.err) == (1, True)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [("--since-last", "s"), ("--since-last", "s", "--out", "x.jsonl"), ("--resume",), ("--resume", "--out", "x.har")],
)
def test_options_that_do_not_go_together_are_refused(
    extproc: Extproc, store: Evidence, arguments: tuple[str, ...]
) -> None:
    assert extproc(*arguments).code == 2


def test_that_something_is_exported_is_recorded_first(extproc: Extproc, store: Evidence, tmp_path: Path) -> None:
    assert extproc("--user", "bob").code == 0
    assert len(noted(tmp_path / ".extproc")) == 1
    # The manifest's digest is recorded too.
    extproc("--out", "bundle")
    assert len(noted(tmp_path / ".extproc")) == 3


def test_nothing_is_exported_where_that_cannot_be_recorded(extproc: Extproc, store: Evidence, tmp_path: Path) -> None:
    (tmp_path / ".extproc" / "spool").write_text("in the way")
    done = extproc()
    assert (done.code, done.out) == (1, "")
