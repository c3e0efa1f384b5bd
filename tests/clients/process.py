"""A client's process: its own group, a time limit, and all it printed, for messages."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Ran:
    """How a client ended, and what it showed."""

    code: int
    output: str

    def __str__(self) -> str:
        return f"exit code {self.code}, output:\n{self.output}"


class Process:
    """A started program; standard output and error go to one file."""

    def __init__(self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(  # noqa: S603
                list(command), cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip

    def output(self) -> str:
        return _TERMINAL_CODES.sub("", self._log.read_text(errors="replace"))

    def wait(self, seconds: float) -> Ran:
        """Wait for the end; a program that takes longer is killed with its children, which fails the test."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the client did not end in {seconds} s:\n{self.output()}") from None
        finally:
            self.kill()
        return Ran(code, self.output())

    def is_running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """End the whole group: clients leave helpers behind."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._process.wait()
