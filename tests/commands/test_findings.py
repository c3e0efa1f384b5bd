from __future__ import annotations

import asyncio
import os
import pty
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.commands.findings import MAX_SECRET_BYTES
from extproc.commands.options import moment
from extproc.errors import ConfigError
from extproc.keys.fingerprint_key import load_or_create_key
from extproc.masking.fingerprint import Fingerprints
from tests.commanding import Extproc, Run, runner
from tests.recording_of import exchange, record

NOW = 1_760_000_000.0
SECRET = "made-up-Secret-w\u00f6rd-1"
WHERE = "messages[12].content[3].text"


@pytest.fixture
def extproc(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Extproc:
    """Run `extproc findings`; whatever it says, the secret is not in it."""
    run = runner(monkeypatch, capsys, tmp_path, "findings", columns=80)

    def checked(*arguments: str, stdin: bytes = b"") -> Run:
        done = run(*arguments, stdin=stdin)
        assert SECRET not in done.out + done.err
        return done

    return checked


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Make a store with two exchanges; both have a finding with the fingerprint of SECRET, the first one more."""
    folder = tmp_path / ".extproc"
    key = load_or_create_key(folder / "fingerprint.key")
    found = {
        "rule": "github-personal-access-token",
        "direction": "prompt",
        "where": WHERE,
        "offset": 4,
        "action": "mask",
        "at": 1.5,
        "fingerprint": Fingerprints(key).of(SECRET),
    }
    other = {**found, "rule": "npm-token", "direction": "answer", "where": "0.text", "action": "block"}
    other["fingerprint"] = "0" * 32

    exchanges = [
        exchange(
            f"{number:032x}",
            session=f"584efd4ed4058f9{number}",
            at=NOW + 86_400 * number,
            user=name,
            findings=findings,
        )
        for number, (name, findings) in enumerate([("alice", [found, other]), ("bob", [found])])
    ]
    asyncio.run(record(folder / "record.db", exchanges))
    return folder


# --- list ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("state")
def test_findings_are_listed_newest_first_and_filtered(extproc: Extproc) -> None:
    run = extproc("list", "--json")
    assert run.code == 0
    assert [(row["id"], row["user"], row["rule"]) for row in run.rows] == [
        (f"{1:032x}-0", "bob", "github-personal-access-token"),
        (f"{0:032x}-1", "alice", "npm-token"),
        (f"{0:032x}-0", "alice", "github-personal-access-token"),
    ]
    day_after = datetime.fromtimestamp(NOW + 3600, UTC).isoformat()
    for options, expected in [
        (["--rule", "github-*"], ["bob", "alice"]),
        (["--user", "issuer#bob"], ["bob"]),
        (["--direction", "answer"], ["alice"]),
        (["--action", "block"], ["alice"]),
        (["--session", "584efd4ed4058f90"], ["alice", "alice"]),
        (["--since", day_after], ["bob"]),
        (["--until", day_after], ["alice", "alice"]),
        (["--since", "1m"], []),
        (["--limit", "1"], ["bob"]),
    ]:
        assert [row["user"] for row in extproc("list", "--json", *options).rows] == expected, options


def test_the_table_fits_80_columns_and_has_everything_needed(extproc: Extproc, state: Path) -> None:
    run = extproc("list", "--state-dir", str(state), "--rule", "github*", "--user", "alice")
    assert all(len(line) <= 80 for line in run.out.splitlines())
    date = time.strftime("%Y-%m-%d", time.localtime(NOW))
    for fact in (date, "alice", "github-personal-access-token", f"{WHERE} @4", "mask", "prompt", "584efd4ed4058f90"):
        assert fact in run.out


@pytest.mark.usefixtures("state")
def test_a_wide_terminal_shows_the_exchange_too(extproc: Extproc, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"{0:032x}" not in extproc("list").out
    monkeypatch.setenv("COLUMNS", "140")
    assert f"{0:032x}" in extproc("list").out


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize(
    "options", [["--direction", "up"], ["--action", "hide"], ["--since", "soon"], ["--until", "7"], ["--limit", "0"]]
)
def test_a_wrong_option_is_told_with_2(extproc: Extproc, options: list[str]) -> None:
    run = extproc("list", *options)
    assert (run.code, run.out) == (2, "")
    assert options[0] in run.err


def test_a_missing_store_is_told_with_1(extproc: Extproc) -> None:
    run = extproc("list")
    assert run.code == 1
    assert run.err.startswith("extproc: there is no store at .extproc/record.db")


# --- times -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", NOW - 30),
        ("90m", NOW - 5400),
        ("12h", NOW - 43_200),
        ("7d", NOW - 604_800),
        ("2w", NOW - 1_209_600),
        ("2026-01-31T09:30:00Z", 1_769_851_800.0),
        ("2026-01-31T09:30:00+01:00", 1_769_848_200.0),
        ("2026-01-31", datetime(2026, 1, 31).timestamp()),  # noqa: DTZ001 - local time is meant
        ("2026-01-31 09:30", datetime(2026, 1, 31, 9, 30).timestamp()),  # noqa: DTZ001
    ],
)
def test_a_moment_is_a_date_a_time_or_an_age(text: str, expected: float) -> None:
    assert moment("--since", text, NOW) == expected


@given(st.text())
def test_any_other_text_is_a_config_error_that_names_the_option(text: str) -> None:
    told = None
    try:
        moment("--since", text, NOW)
    except ConfigError as error:
        told = str(error)
    assert told is None or told.startswith("--since: expected a date")


# --- match -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_that_was_seen_is_told_with_0_and_every_place(extproc: Extproc, end: str) -> None:
    run = extproc("match", "--json", stdin=(SECRET + end).encode())
    assert (run.code, run.err) == (0, "")
    assert [(row["user"], row["where"], row["opened_at"]) for row in run.rows] == [
        ("bob", WHERE, NOW + 86_400),
        ("alice", WHERE, NOW),
    ]
    table = extproc("match", stdin=(SECRET + end).encode())
    assert table.code == 0
    assert "alice" in table.out
    assert "bob" in table.out


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize("candidate", [f"{SECRET}\n\n", f" {SECRET}", SECRET[:-1], f"{SECRET}\r", "x", "\x00"])
def test_only_the_very_same_secret_matches_and_another_is_told_with_1(extproc: Extproc, candidate: str) -> None:
    run = extproc("match", stdin=candidate.encode())
    assert (run.code, run.out, run.err) == (1, "not seen\n", "")
    run = extproc("match", "--json", stdin=candidate.encode())
    assert (run.code, run.out, run.err) == (1, "", "")


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize(
    ("stdin", "said"),
    [
        (b"", "expected a secret on standard input, got nothing"),
        (b"\n", "expected a secret on standard input, got nothing"),
        (b"\r\n", "expected a secret on standard input, got nothing"),
        (b"x" * (MAX_SECRET_BYTES + 1), "expected one secret on standard input, got more than"),
    ],
)
def test_what_is_no_candidate_is_told_with_2(extproc: Extproc, stdin: bytes, said: str) -> None:
    run = extproc("match", stdin=stdin)
    assert (run.code, run.out) == (2, "")
    assert said in run.err


# With 1, a script would take the secret for one that was never seen.
def test_without_key_or_store_the_exit_code_is_2(extproc: Extproc, state: Path) -> None:
    (state / "record.db").rename(state / "elsewhere.db")
    run = extproc("match", stdin=SECRET.encode())
    assert (run.code, run.out) == (2, "")
    assert "there is no store at .extproc/record.db" in run.err
    (state / "fingerprint.key").unlink()
    run = extproc("match", stdin=SECRET.encode())
    assert (run.code, run.out) == (2, "")
    assert "fingerprint.key: the key of the fingerprints cannot be read: No such file" in run.err


@pytest.mark.usefixtures("state")
def test_in_a_terminal_the_secret_is_asked_for_without_echo(
    extproc: Extproc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert extproc("list").code == 0
    script = "import sys; from extproc.cli import main; sys.argv = ['extproc', 'findings', 'match']; main()"
    monkeypatch.chdir(tmp_path)
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, [sys.executable, "-c", script])  # noqa: S606
    shown = b""
    while b"not shown" not in shown:
        shown += os.read(terminal, 1024)
    os.write(terminal, f"{SECRET}\n".encode())
    try:
        while chunk := os.read(terminal, 1024):
            shown += chunk
    except OSError:
        # Linux tells the end of the other side so.
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert b"alice" in shown
    assert SECRET.encode() not in shown
