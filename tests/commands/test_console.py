from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from pathlib import Path

import aiohttp
import pytest

from extproc import cli
from extproc.dev import files


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


async def test_it_serves_before_there_is_a_store_and_ends_at_sigterm(tmp_path: Path) -> None:
    files.prepare(tmp_path / "state", files.Ports(), "http://127.0.0.1:1", now=time.time())
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "extproc", "console", "--config", str(tmp_path / "state" / "gateway.yaml")),
        *("--listen", f"127.0.0.1:{port}"),
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    try:
        async with aiohttp.ClientSession() as session:
            deadline = time.monotonic() + 30
            while True:
                try:
                    async with session.get(f"http://127.0.0.1:{port}/api/v1/approvals") as answer:
                        assert answer.status == 401
                        assert "server" not in answer.headers
                        break
                except aiohttp.ClientError:
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("listen", ["8088", "127.0.0.1:port", ":1", "127.0.0.1:99999", "taken"])
def test_an_address_that_cannot_be_listened_on_is_told_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], listen: str
) -> None:
    files.prepare(tmp_path / "state", files.Ports(), "http://127.0.0.1:1", now=time.time())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}" if listen == "taken" else listen
        settings = str(tmp_path / "state" / "gateway.yaml")
        monkeypatch.setattr(sys, "argv", ["extproc", "console", "--config", settings, "--listen", address])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code == 2
    assert "extproc: --listen: " in capsys.readouterr().err
