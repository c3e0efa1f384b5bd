"""What Envoy says of exchanges, handed on between the workers of one service.

Envoy's access log, which says who ended an exchange, comes over a stream of its own, to whichever worker Envoy chose
for that: seldom the one that runs the exchange. What a worker does not know it hands to the others, once.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from extproc.relative import short

_MAX_BYTES: Final = 64 * 1024
"""One line of the log, with the headers that were asked for; a longer one is not handed on."""

_AT_ONCE: Final = 64
"""Messages taken before something else gets its turn."""

_MAX_WAITING: Final = 256
"""Messages that wait for one worker to read others; more are lost. A socket holds as few as ten (unix(7),
`max_dgram_qlen`), and a client that hangs up may end a hundred exchanges at once."""

_AGAIN_SECONDS: Final = 0.005
_WAITS_SECONDS: Final = 1.0
"""An exchange waits no longer to hear who ended it (`Bounds.end_reason_seconds`)."""


class Siblings:
    """The datagram sockets `ends-<name>.sock` of all workers in a folder.

    A name is of one process, not of a worker's number: one that was replaced still has exchanges.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._own = folder / f"ends-{name}.sock"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._waiting: dict[Path, deque[tuple[float, bytes]]] = {}
        self._again: asyncio.TimerHandle | None = None

    def tell(self, message: bytes) -> None:
        """Hand a message on to all others, at once or within a second; one that does not run does not get it."""
        if len(message) > _MAX_BYTES:
            return
        now = asyncio.get_running_loop().time()
        for other in self._others():
            if self._sent(other, message):
                continue
            # An exchange whose end nobody explains is recorded as ended by who is most likely (call.py).
            waiting = self._waiting.setdefault(other, deque())
            if len(waiting) < _MAX_WAITING:
                waiting.append((now, message))
        self._try_again_soon()

    def _others(self) -> list[Path]:
        # Looked for each time: it is once for each exchange that was cut short.
        return [path for path in self._folder.glob("ends-*.sock") if path != self._own]

    def _sent(self, other: Path, message: bytes) -> bool:
        """Send; return False where the other one has to read first."""
        try:
            self._socket.sendto(message, short(other))
        except BlockingIOError:
            return False
        except ConnectionRefusedError:
            # It was killed, and so was every exchange of it.
            other.unlink(missing_ok=True)
        except OSError:
            # It has just ended.
            return True
        return True

    def _try_again_soon(self) -> None:
        if self._again is None and self._waiting:
            self._again = asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._try_again)

    def _try_again(self) -> None:
        self._again = None
        oldest = asyncio.get_running_loop().time() - _WAITS_SECONDS
        for other, waiting in list(self._waiting.items()):
            while waiting and (waiting[0][0] < oldest or self._sent(other, waiting[0][1])):
                waiting.popleft()
            if not waiting:
                del self._waiting[other]
        self._try_again_soon()

    @contextmanager
    def listening(self, take: Callable[[bytes], None]) -> Iterator[None]:
        """Call `take` with what others hand on, for as long as the context lasts. Raises OSError."""
        loop = asyncio.get_running_loop()

        def read() -> None:
            for _ in range(_AT_ONCE):
                try:
                    message = self._socket.recv(_MAX_BYTES)
                except OSError:
                    return
                take(message)

        with self._socket:
            self._own.unlink(missing_ok=True)
            self._socket.bind(short(self._own))
            loop.add_reader(self._socket, read)
            try:
                yield
            finally:
                loop.remove_reader(self._socket)
                self._own.unlink(missing_ok=True)
