"""The same plain exchanges asked by wrk, where it is installed: a load generator in C, to check ours against.

It compares no answers, and hangs up in the midst of exchanges when its time is over.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path

from bench.client import BenchError, request
from bench.stack import Stack

_CONNECTIONS = 16
_REQUESTS = re.compile(r"(\d+) requests in ([\d.]+)s")
_FAILURES = re.compile(r"Non-2xx.*|Socket errors:.*")


def installed() -> bool:
    """Return whether wrk is there."""
    return shutil.which("wrk") is not None


async def exchanges_per_second(stack: Stack, token: str, seconds: float) -> float:
    """Return how many plain chats of 1 KB a second pass, 16 at a time. Raises BenchError."""
    script = stack.state / "wrk.lua"
    _write(script, token)
    url = f"http://127.0.0.1:{stack.ports.http}/chat/completions"
    # wrk counts whole seconds.
    command = ["wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", str(script), url]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    printed = (await process.communicate())[0].decode()
    found = _REQUESTS.search(printed)
    if process.returncode or found is None or _FAILURES.search(printed):
        raise BenchError(f"wrk against {stack.variant}: {printed.strip()}")
    return int(found[1]) / float(found[2])


def _write(script: Path, token: str) -> None:
    head, _, body = request("plain", token).decode().partition("\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
    del fields["content-length"]  # wrk adds its own
    # What JSON writes of these strings is Lua, too.
    table = ", ".join(f"[{json.dumps(name)}] = {json.dumps(value)}" for name, value in fields.items())
    script.write_text(f'wrk.method = "POST"\nwrk.headers = {{{table}}}\nwrk.body = {json.dumps(body)}\n')
