"""`make run` and `make demo`, as a newcomer runs them, on free ports."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from extproc.dev import files
from tests.e2e.gateway import free_ports
from tests.e2e.upstream import Upstream

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

_READY_SECONDS = 60

_UP = """
import asyncio, json, sys
from pathlib import Path
from extproc.dev import files, runner
ports = files.Ports(**json.loads(sys.argv[2]))
upstream = sys.argv[3] or None
asyncio.run(runner.run(Path(sys.argv[1]), ports, upstream, lambda line: print(line, flush=True)))
"""


@pytest.fixture
def state() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="extproc-"))
    yield path
    shutil.rmtree(path)


async def _start(state: Path, upstream: str = "") -> tuple[asyncio.subprocess.Process, str]:
    ports = json.dumps(asdict(files.Ports(*free_ports(len(fields(files.Ports))))))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _UP, str(state), ports, upstream, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), _READY_SECONDS)
    return process, line.decode()


async def _extproc(state: Path, *arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "extproc", *arguments, "--state-dir", str(state),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    return process.returncode, output.decode()


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in found.read_text().split()] if found.exists() else []


def _serves(pid: int) -> bool:
    return b"serve" in Path(f"/proc/{pid}/cmdline").read_bytes()


async def _stop(process: asyncio.subprocess.Process) -> None:
    children = _children(process.pid)
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 30) == 0
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


async def test_run_becomes_ready_and_the_demo_walks_through_it(state: Path) -> None:
    process, line = await _start(state)
    assert line.startswith("ready ")
    code, output = await _extproc(state, "dev", "demo")
    assert code == 0, output
    for shown in ("identity.missing", "1 2 3 4 5 6 7 8 9 10", "policy.denied", "the gateway's own", "completed"):
        assert shown in output
    assert re.search(r"\n +1 log, \d+ entries, 0 of them pending: nothing was changed\n", output)
    code, output = await _extproc(state, "sessions", "list", "--json")
    assert code == 0
    assert {json.loads(row)["user"] for row in output.splitlines()} == {None, "alice", "mallory"}
    await _stop(process)


async def test_run_with_an_upstream_of_ones_own_and_a_killed_service_comes_back(state: Path) -> None:
    upstream = Upstream()
    await upstream.start()
    process, line = await _start(state, f"http://127.0.0.1:{upstream.port}")
    assert f"upstream http://127.0.0.1:{upstream.port}" in line
    [service] = [pid for pid in _children(process.pid) if _serves(pid)]
    os.kill(service, 9)
    code, token = await _extproc(state, "dev", "token", "--user", "alice")
    assert code == 0
    code, output = 1, ""
    for _ in range(100):
        code, output = await _curl(files.ports_of(state).http, token.strip())
        if code == 0:
            break
        await asyncio.sleep(0.1)
    assert (code, json.loads(output)) == (0, {"object": "list", "data": []})
    assert upstream.seen[0].header("authorization") == f"Bearer {(state / 'github-token').read_text().strip()}"
    await _stop(process)
    await upstream.stop()


async def _curl(port: int, token: str) -> tuple[int, str]:
    """Ask for the models once; 0 and the body, or 1 where the gateway does not serve."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"GET /models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n".encode()
    )
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        return 1, ""
    return 0, body[body.index(b"{") : body.rindex(b"}") + 1].decode()


async def test_a_token_of_a_state_that_no_gateway_used_is_refused(state: Path) -> None:
    code, output = await _extproc(state, "dev", "token", "--user", "alice")
    assert code == 2
    assert "no gateway has run" in output
    assert os.listdir(state) == []  # noqa: PTH208 - an async test must not use pathlib for it


async def test_a_taken_port_is_one_readable_message(state: Path) -> None:
    upstream = Upstream()
    await upstream.start()
    ports = replace(files.Ports(*free_ports(len(fields(files.Ports)))), admin=upstream.port)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _UP, str(state), json.dumps(asdict(ports)), "", stderr=asyncio.subprocess.PIPE
    )
    _, error = await process.communicate()
    assert f"port {upstream.port} of 127.0.0.1 is in use" in error.decode()
    await upstream.stop()
