from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.commanding import Extproc, runner
from tests.recording_of import exchange, record

SETTINGS = """
policy: policy.yaml
store: {{ sqlite: record.db }}
issuers: [{{ kind: oidc, issuer: "http://127.0.0.1:9", audiences: [a] }}]
recording: {{ feeds: [{feeds}] }}
"""
WAIT_SECONDS = 30


@pytest.fixture
def extproc(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Extproc:
    return runner(monkeypatch, capsys, tmp_path, "feed")


def settings(folder: Path, feeds: str) -> Path:
    path = folder / "gateway.yaml"
    path.write_text(SETTINGS.format(feeds=feeds))
    return path


async def told(folder: Path, count: int) -> list[str]:
    """Run the command until it has told so many entries, and stop it as an operator does; return whose they are."""
    target, cursors, deadline = folder / "siem.ndjson", folder / "feeds", time.monotonic() + WAIT_SECONDS
    command = (sys.executable, "-m", "extproc", "feed", "--config", str(folder / "gateway.yaml"))
    process = await asyncio.create_subprocess_exec(*command)
    # It is told before its place is kept: whoever stops it in between is told again.
    while not target.exists() or target.read_text().count("\n") < count or not cursors.is_dir():
        assert time.monotonic() < deadline, "the feed told too little"
        await asyncio.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
    return [json.loads(line)["id"] for line in target.read_text().splitlines()]


async def test_what_is_recorded_is_told_once_over_restarts(tmp_path: Path) -> None:
    settings(tmp_path, "{ kind: file, path: siem.ndjson }")
    await record(tmp_path / "record.db", [exchange("x1"), exchange("x2")])
    assert await told(tmp_path, 2) == ["x1", "x2"]
    await record(tmp_path / "record.db", [exchange("x3")], log="test.0.2")
    assert await told(tmp_path, 3) == ["x1", "x2", "x3"]


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ("", "recording.feeds: expected at least one feed"),
        ("{ kind: syslog, address: 'udp://x' }", "recording.feeds[0].address"),
        ("{ kind: webhook, url: 'https://siem.test/in', key_file: no.key }", "recording.feeds[0].key_file"),
        ("{ kind: pigeon }", "recording.feeds[0]"),
    ],
)
def test_settings_that_tell_nobody_are_refused_with_their_place(
    extproc: Extproc, tmp_path: Path, feeds: str, message: str
) -> None:
    settings(tmp_path, feeds)
    run = extproc()
    assert run.code == 2
    assert message in run.err
