"""How a worker comes to its sockets, and how it leaves: the next one takes its paths over while it still serves."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from extproc.errors import ConfigError
from extproc.relative import short

log = logging.getLogger("extproc.handover")

LAME_SECONDS: Final = 2.0
"""How long Envoy takes to see that a worker is no longer healthy, at most: as many looks as it may need, each with the
interval before it (`health_checks` of envoy/envoy.yaml). It mostly needs one: an answer that says so counts at once."""

_LOOK_SECONDS: Final = 0.2
_QUIET_LOOKS: Final = 5
"""Looks in a row that find no exchange, before a worker that was replaced ends: what Envoy sent before it heard of the
next worker has come by then."""

_LEFT_BY_DEAD: Final = re.compile(r"(?:operations|ends)-\d+-\d+\.sock|.+\.\d+")


def operations_socket(folder: Path, worker: int, process: int) -> Path:
    """Return where a process of one of several workers tells how it is."""
    return folder / f"operations-{worker}-{process}.sock"


class Sockets:
    """The unix sockets of one worker.

    It listens beside their paths, and when it is ready takes each over by rename(2): a peer that connects finds the one
    before or the next one, never none.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._beside = {path: path.with_name(f"{path.name}.{os.getpid()}") for path in paths}
        self._inodes: dict[Path, int] = {}
        for path in self._beside.values():
            path.parent.mkdir(parents=True, exist_ok=True)
            # One who had our process id left it.
            path.unlink(missing_ok=True)

    @property
    def addresses(self) -> list[str]:
        """Return where to listen before `take_over`."""
        return [f"unix:{short(path)}" for path in self._beside.values()]

    def take_over(self) -> None:
        """Have what connects to the paths come here from now on. Raises OSError."""
        for path, beside in self._beside.items():
            self._inodes[path] = beside.stat().st_ino
            beside.replace(path)

    @property
    def taken_over(self) -> bool:
        """Whether another process has taken a path over since: there is a next one."""
        # Our sockets are open, so that nobody else's can have the number of their inodes.
        return any(_inode(path) not in (None, inode) for path, inode in self._inodes.items())


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


class Signals:
    """What the signals to a process say.

    SIGTERM: leave, in favour of others; one that is alone, or was told before, is to end. SIGINT: all end, there are no
    others. Ending, too, lets exchanges that run finish.
    """

    def __init__(self, *, is_alone: bool) -> None:
        self.leave = asyncio.Event()
        self.end = asyncio.Event()
        self._is_alone = is_alone

    def listen(self) -> None:
        """Take the signals."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.on_term)
        loop.add_signal_handler(signal.SIGINT, self.on_interrupt)
        # Otherwise it would end the process at once, with every exchange.
        loop.add_signal_handler(signal.SIGHUP, self.on_hangup)

    def on_term(self) -> None:
        """Take a SIGTERM."""
        if self._is_alone or self.leave.is_set():
            self.end.set()
        self.leave.set()

    def on_interrupt(self) -> None:
        """Take a SIGINT."""
        self.end.set()
        self.leave.set()

    def on_hangup(self) -> None:
        """Take a SIGHUP, which means something to the supervisor of several workers alone."""
        if self._is_alone:
            log.warning("SIGHUP does nothing without several workers: restart the service")


class GoesAway(Protocol):
    """A server that can have its peers go elsewhere."""

    def lame(self) -> None:
        """Say that it is not healthy; all else goes on."""
        ...

    def goaway(self) -> None:
        """Have peers open their next streams elsewhere; what runs goes on."""
        ...


async def leave(
    server: GoesAway,
    open_exchanges: Callable[[], int],
    end: asyncio.Event,
    *,
    is_replaced: bool,
    must_be_lame: bool,
    bound_seconds: float,
) -> None:
    """Go without refusing anything to Envoy, until nothing comes any more or `end` is set.

    One that was replaced lets its exchanges run to their end, at most for `bound_seconds`. Of another one new exchanges
    go to other workers once Envoy has looked at its health, and until then it takes them.
    """
    if must_be_lame or not is_replaced:
        server.lame()
        await _ends(end, LAME_SECONDS)
    server.goaway()
    if not is_replaced:
        return
    log.info("replaced", extra={"fields": {"exchanges": open_exchanges(), "pid": os.getpid()}})
    until = asyncio.get_running_loop().time() + bound_seconds
    quiet = 0
    while quiet < _QUIET_LOOKS and asyncio.get_running_loop().time() < until and not await _ends(end, _LOOK_SECONDS):
        quiet = 0 if open_exchanges() else quiet + 1


async def _ends(end: asyncio.Event, seconds: float) -> bool:
    """Wait; return whether it was told to end."""
    try:
        await asyncio.wait_for(end.wait(), seconds)
    except TimeoutError:
        return False
    return True


def clear_socket(path: Path) -> None:
    """Remove the socket of a process that died; raises ConfigError for anything else that is in the way."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            return
        if not path.is_socket():
            raise ConfigError(f"listen: {path} exists and is not a socket")
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise ConfigError(f"listen: another process serves {path}")
        path.unlink()
    except OSError as failure:
        raise ConfigError(f"listen: cannot use {path}: {failure.strerror}") from failure


def remove_dead(folder: Path) -> None:
    """Remove the sockets of workers that died, which nobody will use again: they have process ids in their names."""
    for path in folder.iterdir() if folder.is_dir() else []:
        if _LEFT_BY_DEAD.fullmatch(path.name) and path.is_socket():
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
                # Whatever its kind, a socket that no process has refuses.
                if probe.connect_ex(short(path)) == errno.ECONNREFUSED:
                    path.unlink(missing_ok=True)
