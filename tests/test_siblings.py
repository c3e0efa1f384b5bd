from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from extproc.siblings import Siblings


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_what_one_worker_tells_all_others_hear_and_itself_does_not(tmp_path: Path) -> None:
    heard: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
    workers = [Siblings(tmp_path, f"{number}-17") for number in range(3)]
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
        assert names(tmp_path) == ["ends-0-17.sock", "ends-1-17.sock", "ends-2-17.sock"]
        workers[1].tell(b"the end of an exchange")
        await asyncio.wait_for(both.wait(), 10)
    assert heard == {0: [b"the end of an exchange"], 1: [], 2: [b"the end of an exchange"]}
    assert names(tmp_path) == []


async def test_who_is_dead_full_or_gone_delays_nobody(tmp_path: Path) -> None:
    teller, deaf = Siblings(tmp_path, "0-17"), Siblings(tmp_path, "1-17")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(tmp_path / "ends-2-17.sock"))
    got: list[bytes] = []
    with teller.listening(got.append), deaf.listening(got.append):
        # Nobody reads while this runs, so the socket of the second fills; nobody has the third any more.
        for _ in range(5000):
            teller.tell(b"x" * 1000)
        assert names(tmp_path) == ["ends-0-17.sock", "ends-1-17.sock"]
        teller.tell(b"x" * 70_000)
    assert got == []


async def test_the_socket_of_a_worker_that_died_is_taken_over(tmp_path: Path) -> None:
    dead = Siblings(tmp_path, "1-17")
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    with dead.listening(lambda _message: None):
        inode = (tmp_path / "ends-1-17.sock").stat().st_ino
        living = Siblings(tmp_path, "1-17")
        with living.listening(heard.set_result):
            assert (tmp_path / "ends-1-17.sock").stat().st_ino != inode
            other = Siblings(tmp_path, "0-17")
            with other.listening(lambda _message: None):
                other.tell(b"hello")
                assert await asyncio.wait_for(heard, 10) == b"hello"


async def test_one_that_was_replaced_hears_of_its_exchanges_beside_the_next_one(tmp_path: Path) -> None:
    old, new, other = (Siblings(tmp_path, name) for name in ("0-17", "0-18", "1-17"))
    heard: list[asyncio.Future[bytes]] = [asyncio.get_running_loop().create_future() for _ in range(3)]
    with (
        old.listening(heard[0].set_result),
        new.listening(heard[1].set_result),
        other.listening(heard[2].set_result),
    ):
        other.tell(b"hello")
        assert await asyncio.wait_for(asyncio.gather(*heard[:2]), 10) == [b"hello"] * 2
        new.tell(b"and from the next one")
        assert await asyncio.wait_for(heard[2], 10) == b"and from the next one"


async def test_a_socket_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    one = Siblings(tmp_path / "gone", "0-17")
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
    teller, reader = Siblings(tmp_path, "0-17"), Siblings(tmp_path, "2-17")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stuck:
        stuck.bind(str(tmp_path / "ends-1-17.sock"))
        with teller.listening(lambda _message: None), reader.listening(take):
            for message in messages:
                teller.tell(message)
            await asyncio.wait_for(all_there.wait(), 10)
            assert sorted(got) == sorted(messages)


async def test_what_is_too_long_is_not_handed_on(tmp_path: Path) -> None:
    heard = asyncio.get_running_loop().create_future()
    teller, other = Siblings(tmp_path, "0-17"), Siblings(tmp_path, "1-17")
    with teller.listening(lambda _message: None), other.listening(heard.set_result):
        teller.tell(b"x" * 65_537)
        teller.tell(b"x" * 65_536)
        assert await asyncio.wait_for(heard, 10) == b"x" * 65_536
