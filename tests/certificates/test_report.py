from __future__ import annotations

from pathlib import Path

import pytest

from extproc.certificates import operations, report
from extproc.certificates.operations import Wanted
from extproc.intercepted import DEFAULT_HOSTS
from tests.certificates.handshake import DAY, NOW, certificate

NOTHING = Wanted()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    operations.init(tmp_path, NOTHING, NOW)
    return tmp_path


def test_each_certificate_has_a_row_that_says_what_it_is(folder: Path) -> None:
    root, listener, interception = report.rows(folder, NOW)
    assert [row.role for row in (root, listener, interception)] == ["current", "listener", "interception"]
    assert [row.file for row in (root, listener, interception)] == ["ca.pem", "tls.crt", "proxy.crt"]
    assert (root.days_left, listener.days_left) == (3650, 89)
    assert root.names is not None
    assert "githubcopilot.com" in root.names
    assert interception.names == DEFAULT_HOSTS
    assert interception.serial == f"{certificate(folder / 'proxy.crt').serial_number:x}"
    assert [(row.faults, row.advice) for row in (root, listener, interception)] == [((), ())] * 3


def test_a_rotation_shows_who_signs_who_is_next_and_who_was(folder: Path) -> None:
    operations.announce(folder, NOTHING, NOW)
    rows = report.rows(folder, NOW)
    assert [row.role for row in rows] == ["current", "announced", "listener", "interception"]
    assert "--finish" in rows[1].advice[0]
    operations.finish(folder, NOTHING, NOW)
    again = report.rows(folder, NOW)
    assert [row.role for row in again] == ["current", "previous", "listener", "interception"]
    assert [again[0].id, again[1].id] == [rows[1].id, rows[0].id]
    assert [row.faults for row in again] == [()] * 4


@pytest.mark.parametrize(
    ("days", "fault", "advice"),
    [(0, None, None), (61, None, "extproc ca renew"), (90, "it is expired", None), (-1, "it is not yet valid", None)],
)
def test_a_leaf_that_ends_is_advice_and_one_that_has_ended_is_a_fault(
    folder: Path, days: int, fault: str | None, advice: str | None
) -> None:
    row = report.rows(folder, NOW + days * DAY)[-1]
    assert [fault] * (fault is not None) == [one.partition(":")[0] for one in row.faults]
    assert [advice] * (advice is not None) == [one.partition("`")[2].rstrip("`") for one in row.advice]


@pytest.mark.parametrize(
    ("days", "fault", "advice"), [(3000, False, False), (3500, False, True), (3650, True, True), (-1, True, False)]
)
def test_an_authority_that_ends_is_told_in_time(
    folder: Path,
    days: int,
    fault: bool,  # noqa: FBT001
    advice: bool,  # noqa: FBT001
) -> None:
    row = report.rows(folder, NOW + days * DAY)[0]
    assert (bool(row.faults), bool(row.advice)) == (fault, advice)


@pytest.mark.parametrize(("name", "row"), [("ca.key", 0), ("tls.key", 1), ("proxy.key", 2)])
def test_a_key_that_others_can_read_is_a_fault(folder: Path, name: str, row: int) -> None:
    (folder / name).chmod(0o640)
    found = [one.faults for one in report.rows(folder, NOW)]
    assert [bool(one) for one in found] == [at == row for at in range(3)]
    assert f"{name} is open to others (mode 0640)" in found[row][0]


def test_a_leaf_of_another_authority_or_without_its_key_is_a_fault(folder: Path, tmp_path: Path) -> None:
    operations.init(tmp_path / "other", NOTHING, NOW)
    for name in ("proxy.crt", "proxy.key"):
        (folder / name).write_bytes((tmp_path / "other" / name).read_bytes())
    (folder / "tls.key").unlink()
    _, listener, interception = report.rows(folder, NOW)
    assert "there is no tls.key" in listener.faults[0]
    assert "not signed by the current authority" in interception.faults[0]
    (folder / "proxy.crt").unlink()
    missing = report.rows(folder, NOW)[-1]
    assert (missing.id, missing.days_left) == (None, None)
    assert "there is no proxy.crt" in missing.faults[0]
