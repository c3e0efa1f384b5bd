"""What a check is and what it finds; checks run side by side, each within a time, and none breaks another."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from extproc.errors import ExtprocError

_T = TypeVar("_T")

_AT_ONCE: Final = 8
"""Checks that run at a time: a small pod has little CPU for TLS."""


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found: one sentence, and what to do where it failed."""

    status: Status
    sentence: str
    todo: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """Something to look at: `id` is stable, `look` has `seconds` for it."""

    id: str
    look: Callable[[], Awaitable[Verdict]]
    seconds: float


@dataclass(frozen=True, slots=True)
class Result:
    """A check's verdict."""

    id: str
    verdict: Verdict


def ok(sentence: str) -> Verdict:
    """Say that it is as it should be."""
    return Verdict(Status.OK, sentence)


def failed(sentence: str, todo: str) -> Verdict:
    """Say what is wrong, and what to do."""
    return Verdict(Status.FAILED, sentence, todo)


def skipped(why: str) -> Verdict:
    """Say why there was nothing to look at."""
    return Verdict(Status.SKIPPED, why)


def skip(check_id: str, why: str) -> Check:
    """Return a check that is skipped."""

    async def look() -> Verdict:
        return skipped(why)

    return Check(check_id, look, 1.0)


def reason(error: OSError) -> str:
    """Return why something could not be reached; asyncio's own words quote addresses instead."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return error.strerror or "no such name"
    return os.strerror(error.errno) if error.errno is not None and error.errno > 0 else type(error).__name__


async def aside(work: Callable[[], _T]) -> _T:
    """Return what `work` returns in a thread that nobody waits for once the check's time is over.

    For a thread of asyncio's own the command would wait at its end, however long a disk or a store takes.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(settle_it: Callable[[], None]) -> None:
        # The loop may have ended meanwhile.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(lambda: None if done.done() else settle_it())

    def thread() -> None:
        try:
            value = work()
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            failure = error
            settle(lambda: done.set_exception(failure))
        else:
            settle(lambda: done.set_result(value))

    threading.Thread(target=thread, daemon=True).start()
    return await done


async def run(checks: Sequence[Check], *, at_once: int = _AT_ONCE) -> list[Result]:
    """Run all, some at a time; return their results in the same order. One that breaks has failed."""
    turns = asyncio.Semaphore(at_once)

    async def one(check: Check) -> Result:
        async with turns:
            return Result(check.id, await _looked(check))

    return list(await asyncio.gather(*(one(check) for check in checks)))


async def _looked(check: Check) -> Verdict:
    try:
        async with asyncio.timeout(check.seconds):
            return await check.look()
    except TimeoutError:
        why = f"no result within {check.seconds:g} s"
    except ExtprocError as error:
        why = str(error)
    except OSError as error:
        why = f"{type(error).__name__}: {error.strerror or 'no reason given'}"
    except Exception as error:  # noqa: BLE001 - a fault of a check must not look like a success, nor stop the others
        # Its text could quote a token.
        why = type(error).__name__
    return failed(f"This could not be checked ({why}).", "Run it again, with a longer --timeout where time was short.")
