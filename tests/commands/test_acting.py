from __future__ import annotations

from pathlib import Path

import pytest

from tests.commanding import runner


@pytest.mark.parametrize("command", [("approvals", "approve"), ("retention", "apply")])
def test_the_help_says_that_arguments_can_be_read_by_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: tuple[str, ...]
) -> None:
    shown = runner(monkeypatch, capsys, tmp_path)(*command, "--help").out
    told = " ".join("".join(" " if character in "│|" else character for character in shown).split())
    assert "better by EXTPROC_TOKEN: arguments can be read by other users of the machine" in told
