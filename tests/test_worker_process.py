from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from extproc import worker_process
from extproc.handover import operations_socket
from extproc.worker_process import Process, Program
from tests.e2e.gateway import until

Start = Callable[..., Awaitable[Process]]

# Arguments: a folder, what it answers at /readyz by number (JSON; may be missing), and its number.
SERVES = """
import http.server, json, os, signal, socketserver, sys
folder, number = sys.argv[1], sys.argv[-1]
status, text = json.loads(sys.argv[2]).get(number) if len(sys.argv) > 3 else (503, "told")
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        open(f"{folder}/asked", "a").write(".")
        self.send_response(200 if self.path == "/healthz" else status)
        self.end_headers()
        self.wfile.write(text.encode())
    def address_string(self): return ""
    def log_message(self, *_): pass
server = socketserver.UnixStreamServer(f"{folder}/operations-{number}-{os.getpid()}.sock", Answers)
for one in signal.SIGTERM, signal.SIGINT:
    signal.signal(one, lambda one, _: os._exit(one))
server.serve_forever()
"""
DEAF = "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open(sys.argv[1] + '/up', 'w'); "
DEAF += "time.sleep(600)"


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def start(
            program: str, *, drain_seconds: float = 30, leave_seconds: float = 30, look_seconds: float = 60
        ) -> Process:
            command = [sys.executable, "-c", program, str(tmp_path)]
            process = await Process.start(
                3, Program(command, os.environ, tmp_path, drain_seconds, leave_seconds, look_seconds)
            )
            stack.push_async_callback(process.end)
            return process

        yield start


async def test_it_is_asked_at_a_socket_of_its_own_which_goes_with_it(start: Start, tmp_path: Path) -> None:
    process = await start(SERVES)
    assert await process.serves(30)
    assert operations_socket(tmp_path, 3, process.pid).is_socket()
    assert await process.ask("/readyz") == (503, "told")
    await process.end()
    assert process.code == signal.SIGINT
    assert not operations_socket(tmp_path, 3, process.pid).exists()
    assert await process.ask("/readyz") is None
    assert process.age > 0


async def test_one_that_is_replaced_is_told_to_leave(start: Start) -> None:
    process = await start(SERVES)
    assert await process.serves(30)
    process.leave()
    assert await process.ended == signal.SIGTERM


async def test_one_that_ends_or_is_silent_does_not_serve(start: Start) -> None:
    process = await start("import sys; sys.exit(7)")
    assert not await process.serves(30)
    assert process.code == 7
    assert not await (await start("import time; time.sleep(600)")).serves(0.2)


async def test_one_that_ends_before_it_serves_is_not_told_as_by_a_key(start: Start, tmp_path: Path) -> None:
    process = await start(DEAF.replace("SIG_IGN", "SIG_DFL"))
    await until((tmp_path / "up").exists, "its start")
    await process.end()
    assert process.code == -signal.SIGTERM


async def test_one_that_does_not_go_in_time_is_killed(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_process, "STOP_SECONDS", 0.1)
    for go in (Process.end, Process.leave):
        process = await start(DEAF, drain_seconds=0, leave_seconds=0)
        await until((tmp_path / "up").exists, "its start")
        if (wait := go(process)) is not None:
            await wait
        assert await process.ended == -signal.SIGKILL
        assert not process.hung
        (tmp_path / "up").unlink()
    assert caplog.text.count("a worker did not stop in time") == 2


async def test_one_that_answers_nobody_is_killed_and_said_to_hang(start: Start) -> None:
    process = await start("import time; time.sleep(600)", look_seconds=0.01)
    assert await process.ended == -signal.SIGKILL
    assert process.hung


async def test_one_that_answers_is_looked_at_again_and_again_and_not_killed(start: Start, tmp_path: Path) -> None:
    process = await start(SERVES, look_seconds=0.2)
    assert await process.serves(30)
    await until(lambda: len((tmp_path / "asked").read_text()) > 10, "ten looks")
    assert not process.ended.done()
