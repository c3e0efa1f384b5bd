"""The client's side of the Language Server Protocol over standard input and output (LSP 3.18, "Base Protocol")."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

CALL_SECONDS = 40

Message = dict[str, Any]
# What a server asks of the editor: its parameters to a result.
Handlers = Mapping[str, Callable[[Any], Any]]


class Lsp:
    """A started server; requests of the server are answered by `handlers`, others with null."""

    def __init__(
        self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path, handlers: Handlers
    ) -> None:
        self._log = log
        self._handlers = handlers
        with log.open("wb") as err:
            self._process = subprocess.Popen(  # noqa: S603
                list(command), cwd=cwd, env=dict(env), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err,
                start_new_session=True,
            )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self._inbox: queue.Queue[Message | None] = queue.Queue()
        self.heard: list[Message] = []
        """Every message of the server, in order."""
        self._last = 0
        self._reader = threading.Thread(target=_read, args=(self._from, self._inbox))
        self._reader.start()

    def call(self, method: str, params: object) -> Any:
        """Send a request and return its result; an error of the server fails the test."""
        self.ask(method, params)
        answer = self._listen(lambda message: message.get("id") == self._last and "method" not in message, method)
        assert "error" not in answer, f"{method}: {answer['error']}\n{self.story()}"
        return answer.get("result")

    def ask(self, method: str, params: object) -> int:
        """Send a request and return its id: its answer comes too late to wait for it here."""
        self._last += 1
        self._send({"id": self._last, "method": method, "params": params})
        return self._last

    def hear(self) -> None:
        """Take in what the server said until now."""
        while not self._inbox.empty():
            self._take(self._inbox.get(), "now")

    def tell(self, method: str, params: object) -> None:
        """Send a notification."""
        self._send({"method": method, "params": params})

    def until(self, wanted: Callable[[Message], bool], what: str, seconds: float = CALL_SECONDS) -> Message:
        """Return the first message of the server that is wanted, looking at those that came before too."""
        found = next((message for message in self.heard if wanted(message)), None)
        return found or self._listen(wanted, what, seconds)

    def story(self) -> str:
        """Return what the server said, for a message."""
        lines = [json.dumps(message)[:400] for message in self.heard[-30:]]
        return "\n".join([*lines, self._log.read_text(errors="replace")[-2000:]])

    def close(self) -> None:
        """End the server and its helpers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(5)
        self._to.close()
        self._from.close()

    def _listen(self, wanted: Callable[[Message], bool], what: str, seconds: float = CALL_SECONDS) -> Message:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                message = self._take(self._inbox.get(timeout=left), what)
            except queue.Empty:
                break
            if wanted(message):
                return message
        raise AssertionError(f"{what} did not happen in {seconds} s\n{self.story()}")

    def _take(self, message: Message | None, what: str) -> Message:
        assert message is not None, f"the server ended before {what}\n{self.story()}"
        self.heard.append(message)
        if "method" in message:
            self._answer(message)
        return message

    def _answer(self, message: Message) -> None:
        if "id" in message:
            handler = self._handlers.get(message["method"])
            result = None if handler is None else handler(message.get("params"))
            self._send({"id": message["id"], "result": result})

    def _send(self, message: Message) -> None:
        data = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._to.write(b"Content-Length: %d\r\n\r\n" % len(data) + data)
        self._to.flush()


def _read(stream: BinaryIO, inbox: queue.Queue[Message | None]) -> None:
    while True:
        length = 0
        while (line := stream.readline()).strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if not length:
            inbox.put(None)
            return
        data = stream.read(length)
        # Shorter only where the server was killed.
        inbox.put(json.loads(data) if len(data) == length else None)
