from __future__ import annotations

import asyncio
import threading

import pytest

from extproc.doctor.check import Check, Status, Verdict, aside, failed, ok, run, skip
from extproc.errors import ExtprocError


def raising(error: Exception) -> Check:
    async def look() -> Verdict:
        raise error

    return Check("broken", look, 5)


async def test_results_come_in_the_order_of_the_checks() -> None:
    async def well() -> Verdict:
        return ok("Fine.")

    async def badly() -> Verdict:
        return failed("Bad.", "Do it.")

    results = await run([Check("a", well, 5), Check("b", badly, 5), skip("c", "No need.")])
    assert [(one.id, one.verdict.status, one.verdict.todo) for one in results] == [
        ("a", Status.OK, None),
        ("b", Status.FAILED, "Do it."),
        ("c", Status.SKIPPED, None),
    ]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ExtprocError("no such thing"), "no such thing"),
        (PermissionError(13, "Permission denied", "/x"), "Permission denied"),
        (ValueError("a secret"), "ValueError"),
    ],
)
async def test_a_check_that_breaks_has_failed(error: Exception, told: str) -> None:
    (result,) = await run([raising(error)])
    assert result.verdict.status is Status.FAILED
    assert "could not be checked" in result.verdict.sentence
    assert told in result.verdict.sentence
    assert "secret" not in result.verdict.sentence


async def test_a_check_that_does_not_end_has_failed() -> None:
    async def never() -> Verdict:
        await asyncio.Event().wait()
        return ok("Fine.")

    (result,) = await run([Check("slow", never, 0.01)])
    assert result.verdict.status is Status.FAILED
    assert "no result within 0.01 s" in result.verdict.sentence


async def test_no_more_than_so_many_run_at_a_time() -> None:
    now, most = 0, 0

    async def look() -> Verdict:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return ok("Fine.")

    await run([Check(str(number), look, 5) for number in range(20)], at_once=3)
    assert most == 3


async def test_a_thread_that_hangs_holds_nobody_up() -> None:
    hung = threading.Event()

    async def look() -> Verdict:
        return await aside(lambda: ok(str(hung.wait())))

    (result,) = await run([Check("hangs", look, 0.01)])
    assert result.verdict.status is Status.FAILED
    # asyncio's own threads would be waited for.
    assert asyncio.get_running_loop()._default_executor is None  # type: ignore[attr-defined]
    hung.set()


async def test_what_a_thread_raises_is_raised() -> None:
    def fail() -> Verdict:
        raise ExtprocError("no such thing")

    (result,) = await run([Check("broken", lambda: aside(fail), 5)])
    assert "no such thing" in result.verdict.sentence
