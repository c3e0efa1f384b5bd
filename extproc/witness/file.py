"""A witness that is a file: on another machine's mount, or shipped away by a log agent."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from extproc.witness.append import append_lines
from extproc.witness.port import WitnessUnavailable


class FileWitness:
    """Append one JSON line `{"at": <unix seconds>, "note": "<signed note>"}` per checkpoint to a file.

    Several processes may append to one file. The path `-` is standard output. `now` tells unix seconds.
    """

    def __init__(self, name: str, path: Path, *, now: Callable[[], float]) -> None:
        self.name = name
        self._path = path
        self._now = now
        # One of its own: on a mount that hangs, one thread hangs and no other work with it.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="file-witness")

    async def publish(self, log: str, size: int, note: str) -> None:  # noqa: ARG002 - the note says both
        """Append the note, durable when this returns; see the port."""
        line = msgspec.json.encode({"at": int(self._now()), "note": note}) + b"\n"
        write = _print if self._path == Path("-") else self._append
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, write, line)
        except OSError as error:
            raise WitnessUnavailable(f"{self._path}: cannot be appended to: {error.strerror or error}") from None

    def _append(self, line: bytes) -> None:
        append_lines(self._path, line)


def _print(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
