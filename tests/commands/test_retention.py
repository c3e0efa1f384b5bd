from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from extproc.keys.checkpoint_key import FILE_NAME, load_or_create_signer
from tests.commanding import Extproc, runner
from tests.evidence import Evidence
from tests.issuing import dev_issuer
from tests.recording_of import exchange

RULES = """\
version: 1
rules:
  - {id: keep, match: {repositories: ["acme/secret"]}, bodies_days: 36500, heads_days: 36500}
default: {bodies_days: 30, heads_days: 36500}
"""


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """Serve the development issuer of a state directory whose store has two old sessions; return the directory."""
    folder = tmp_path / ".extproc"
    with dev_issuer(folder):
        (folder / "retention.yaml").write_text(RULES)
        yield folder


@pytest.fixture
def store(state: Path) -> Evidence:
    known = Evidence(state / "record.db", load_or_create_signer(state / FILE_NAME, "copilot-extproc"))
    known.log("a.0.1", [exchange("e1"), exchange("e2", session="s2", repository="acme/secret")])
    return known


@pytest.fixture
def extproc(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Extproc:
    return runner(monkeypatch, capsys, tmp_path, "retention")


def test_a_plan_tells_what_would_go_and_changes_nothing(extproc: Extproc, store: Evidence) -> None:
    (row,) = extproc("plan", "--json").rows
    assert (row["kind"], row["rule"], row["number"]) == ("bodies", "default", 1)
    assert row["bytes"] > 100
    assert "default" in extproc("plan").out
    assert len(store.bodies()) == 2


def test_apply_removes_records_and_has_nothing_left_to_do(extproc: Extproc, store: Evidence) -> None:
    done = extproc("apply", "--as", "dave", "--json")
    assert done.code == 0, done.err
    assert done.rows == [{"bodies": 1, "blobs": 0, "keys": 0, "entries": 0, "held": []}]
    assert [place for place in store.bodies() if place[0] == "a.0.1"] == [("a.0.1", 1)]
    assert extproc("plan").out == "nothing to remove\n"
    assert extproc("apply", "--as", "dave", "--json").rows[0]["bodies"] == 0


def test_a_hold_keeps_until_it_is_released(extproc: Extproc, store: Evidence) -> None:
    placed = extproc("hold", "add", "--user", "alice", "--reason", "case 7", "--as", "carol")
    assert placed.code == 0, placed.err
    (row,) = extproc("hold", "list", "--json").rows
    assert (row["id"], row["selector"], row["reason"]) == (placed.out.strip(), {"user": "alice"}, "case 7")
    assert row["by"].endswith("#carol")
    assert "case 7" in extproc("hold", "list").out
    (held,) = extproc("plan", "--json").rows
    assert (held["kind"], held["number"]) == ("held", 1)
    assert extproc("hold", "release", row["id"], "--reason", "over", "--as", "carol").code == 0
    assert extproc("hold", "list", "--json").rows == []
    assert extproc("plan", "--json").rows[0]["kind"] == "bodies"


def test_a_session_is_erased_with_a_reason(extproc: Extproc, store: Evidence) -> None:
    assert extproc("erase", "--session", "s2", "--reason", " ", "--as", "dave").code == 2
    done = extproc("erase", "--session", "s2", "--reason", "asked for it", "--as", "dave", "--json")
    assert done.rows[0]["bodies"] == 1
    assert extproc("erase", "--session", "s9", "--reason", "r", "--as", "dave").code == 1


@pytest.mark.parametrize(
    "arguments",
    [("apply",), ("erase", "--session", "s1", "--reason", "r"), ("hold", "add", "--user", "x", "--reason", "r")],
)
def test_nobody_acts_without_being_identified(extproc: Extproc, store: Evidence, arguments: tuple[str, ...]) -> None:
    done = extproc(*arguments)
    assert (done.code, "who acts?" in done.err) == (2, True)
    assert len(store.bodies()) == 2


def test_a_hold_on_nothing_is_refused(extproc: Extproc, store: Evidence) -> None:
    assert extproc("hold", "add", "--reason", "r", "--as", "carol").code == 2
    assert extproc("hold", "release", "nope", "--reason", "r", "--as", "carol").code == 1


def test_rules_are_checked(extproc: Extproc, state: Path) -> None:
    assert "1 rule and the default" in extproc("check", ".extproc/retention.yaml").out
    (state / "retention.yaml").write_text(RULES.replace("30", "99999"))
    faulty = extproc("check", ".extproc/retention.yaml")
    assert faulty.code == 2
    assert "default.bodies_days" in faulty.err
    assert json.dumps(faulty.out) == '""'
