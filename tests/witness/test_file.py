from __future__ import annotations

import json
from pathlib import Path

import pytest

from extproc.witness.file import FileWitness
from extproc.witness.port import WitnessUnavailable

NOTE = "gateway.example/pod-1.0.7\n42\ncm9vdA==\n\n— gateway.example c2lnbmF0dXJl\n"
LINE = {"at": 1_760_000_000, "note": NOTE}


def witness(path: Path) -> FileWitness:
    return FileWitness("witnesses[0]", path, now=lambda: 1_760_000_000.9)


async def test_each_checkpoint_is_one_line_of_json_also_the_same_again(tmp_path: Path) -> None:
    await witness(tmp_path / "f").publish("pod-1.0.7", 42, NOTE)
    await witness(tmp_path / "f").publish("pod-1.0.7", 42, NOTE)
    assert [json.loads(line) for line in (tmp_path / "f").read_text().splitlines()] == [LINE, LINE]


async def test_a_dash_is_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    await witness(Path("-")).publish("pod-1.0.7", 42, NOTE)
    out = capfdbinary.readouterr().out
    assert json.loads(out) == LINE
    assert out.count(b"\n") == 1


async def test_a_file_that_cannot_be_written_is_unavailable_and_named(tmp_path: Path) -> None:
    with pytest.raises(WitnessUnavailable, match="none/f: cannot be appended to: No such file"):
        await witness(tmp_path / "none" / "f").publish("pod-1.0.7", 42, NOTE)
    with pytest.raises(WitnessUnavailable, match="Is a directory"):
        await witness(tmp_path).publish("pod-1.0.7", 42, NOTE)
