from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from extproc.siblings import Siblings


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_what_one_worker_tells_all_others_hear_and_itself_does_not(tmp_path: Path) -> None:
    heard: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
    workers = [Siblings(tmp_path, number, 3) for number in range(3)]
    both = asyncio.Event()

    def taking(number: int, message: bytes) -> None:
        heard[number].append(message)
        if heard[0] and heard[2]:
            both.set()

    with (
        workers[0].listening(lambda message: taking(0, message)),
        workers[1].listening(lambda message: taking(1, message)),
        workers[2].listening(lambda message: taking(2, message)),
    ):
        assert names(tmp_path) == ["ends-0.sock", "ends-1.sock", "ends-2.sock"]
        workers[1].tell(b"the end of an exchange")
        await asyncio.wait_for(both.wait(), 10)
    assert heard == {0: [b"the end of an exchange"], 1: [], 2: [b"the end of an exchange"]}
    assert names(tmp_path) == []


async def test_who_is_dead_full_or_gone_delays_nobody(tmp_path: Path) -> None:
    teller, deaf = Siblings(tmp_path, 0, 3), Siblings(tmp_path, 1, 3)
    got: list[bytes] = []
    with teller.listening(got.append), deaf.listening(got.append):
        # Nobody reads while this runs, so the socket of the second fills; the third never was there.
        for _ in range(5000):
            teller.tell(b"x" * 1000)
        teller.tell(b"x" * 70_000)
    assert got == []


async def test_the_socket_of_a_worker_that_died_is_taken_over(tmp_path: Path) -> None:
    dead = Siblings(tmp_path, 1, 2)
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    with dead.listening(lambda _message: None):
        inode = (tmp_path / "ends-1.sock").stat().st_ino
        living = Siblings(tmp_path, 1, 2)
        with living.listening(heard.set_result):
            assert (tmp_path / "ends-1.sock").stat().st_ino != inode
            other = Siblings(tmp_path, 0, 2)
            with other.listening(lambda _message: None):
                other.tell(b"hello")
                assert await asyncio.wait_for(heard, 10) == b"hello"


async def test_a_socket_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    one = Siblings(tmp_path / "gone", 0, 2)
    with pytest.raises(OSError, match="No such file"), one.listening(lambda _message: None):
        pass


async def test_more_than_a_socket_holds_arrives_and_one_that_does_not_read_is_in_nobodys_way(tmp_path: Path) -> None:
    """As when a client hangs up that had many exchanges open."""
    got: list[bytes] = []
    all_there = asyncio.Event()

    def take(message: bytes) -> None:
        got.append(message)
        if len(got) == 250:
            all_there.set()

    messages = [b"%d" % number for number in range(250)]
    teller, reader = Siblings(tmp_path, 0, 3), Siblings(tmp_path, 2, 3)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stuck:
        stuck.bind(str(tmp_path / "ends-1.sock"))
        with teller.listening(lambda _message: None), reader.listening(take):
            for message in messages:
                teller.tell(message)
            await asyncio.wait_for(all_there.wait(), 10)
            assert sorted(got) == sorted(messages)


async def test_what_is_too_long_is_not_handed_on(tmp_path: Path) -> None:
    heard = asyncio.get_running_loop().create_future()
    teller, other = Siblings(tmp_path, 0, 2), Siblings(tmp_path, 1, 2)
    with teller.listening(lambda _message: None), other.listening(heard.set_result):
        teller.tell(b"x" * 65_537)
        teller.tell(b"x" * 65_536)
        assert await asyncio.wait_for(heard, 10) == b"x" * 65_536
