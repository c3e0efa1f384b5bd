from __future__ import annotations

import asyncio
import threading
from queue import SimpleQueue

import pytest

from extproc.console.fair import Busy, Fair


async def test_one_person_has_a_few_threads_and_others_need_not_wait() -> None:
    fair, go = Fair(at_once=2, max_waiting=2), threading.Event()
    running: SimpleQueue[str] = SimpleQueue()

    def ask(person: str, name: str) -> asyncio.Task[str]:
        def work() -> str:
            running.put(name)
            assert go.wait(10)
            return name

        return asyncio.create_task(fair.run(person, work))

    hers = [ask("alice", f"alice{number}") for number in range(4)]
    assert {await asyncio.to_thread(running.get) for _ in range(2)} == {"alice0", "alice1"}
    his = ask("bob", "bob")
    assert await asyncio.to_thread(running.get) == "bob"
    assert running.empty()
    with pytest.raises(Busy, match="still being looked up"):
        await ask("alice", "one too many")
    go.set()
    assert await asyncio.gather(*hers, his) == ["alice0", "alice1", "alice2", "alice3", "bob"]
    # What has ended counts no more.
    assert await fair.run("alice", lambda: "again") == "again"


async def test_what_fails_or_is_given_up_leaves_room_for_others() -> None:
    fair = Fair(at_once=1, max_waiting=0)

    def fail() -> None:
        raise OSError("no disk")

    for _ in range(3):
        with pytest.raises(OSError, match="no disk"):
            await fair.run("alice", fail)
    go = threading.Event()
    given_up = asyncio.create_task(fair.run("alice", lambda: go.wait(10)))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    go.set()
    assert await fair.run("alice", lambda: "next") == "next"
