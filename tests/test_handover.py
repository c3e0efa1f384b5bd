from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from extproc import handover
from extproc.errors import ConfigError
from extproc.handover import Signals, Sockets, clear_socket, leave, remove_dead
from tests.e2e.gateway import until


@contextmanager
def listening(path: str | Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, kind) as one:
        one.bind(str(path).removeprefix("unix:"))
        if kind is socket.SOCK_STREAM:
            one.listen()
        yield one


def reaches(path: Path, listener: socket.socket) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        listener.settimeout(0)
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return False
        return True


def test_a_path_leads_to_the_one_before_until_the_next_one_takes_it_over(tmp_path: Path) -> None:
    path = tmp_path / "run" / "0.sock"
    with ExitStack() as stack:
        before = Sockets([path])
        first = stack.enter_context(listening(before.addresses[0]))
        assert not path.exists()
        before.take_over()
        assert reaches(path, first)
        assert not before.taken_over
        following = Sockets([path])
        second = stack.enter_context(listening(following.addresses[0]))
        assert reaches(path, first)
        assert not before.taken_over
        following.take_over()
        assert reaches(path, second)
        assert not reaches(path, first)
        assert (before.taken_over, following.taken_over) == (True, False)
    assert [one.name for one in path.parent.iterdir()] == ["0.sock"]


def test_a_path_that_somebody_removed_was_not_taken_over(tmp_path: Path) -> None:
    sockets = Sockets([tmp_path / "0.sock"])
    with listening(sockets.addresses[0]):
        sockets.take_over()
        (tmp_path / "0.sock").unlink()
        assert not sockets.taken_over


def test_what_one_with_our_process_id_left_is_not_in_the_way(tmp_path: Path) -> None:
    address = Sockets([tmp_path / "0.sock"]).addresses[0]
    with listening(address):
        pass
    with listening(Sockets([tmp_path / "0.sock"]).addresses[0]):
        pass


def test_sockets_of_dead_workers_are_removed_and_others_stay(tmp_path: Path) -> None:
    remove_dead(tmp_path / "none")
    for name in ("0.sock.17", "operations-0-17.sock", "1.sock"):
        with listening(tmp_path / name):
            pass
    with listening(tmp_path / "ends-0-17.sock", socket.SOCK_DGRAM):
        pass
    (tmp_path / "notes.17").touch()
    with (
        listening(tmp_path / "operations-1-18.sock"),
        listening(tmp_path / "ends-1-18.sock", socket.SOCK_DGRAM),
    ):
        remove_dead(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("1.sock", "notes.17", "operations-1-18.sock", "ends-1-18.sock"),
    }


@pytest.mark.parametrize(
    ("is_alone", "signals", "told"),
    [
        (False, ["on_term"], (True, False)),
        (False, ["on_term", "on_term"], (True, True)),
        (False, ["on_term", "on_interrupt"], (True, True)),
        (False, ["on_interrupt"], (True, True)),
        (False, ["on_hangup"], (False, False)),
        (True, ["on_term"], (True, True)),
        (True, ["on_interrupt"], (True, True)),
        (True, ["on_hangup"], (False, False)),
    ],
)
def test_what_signals_say_to_one_of_several_and_to_one_that_is_alone(
    *, is_alone: bool, signals: list[str], told: tuple[bool, bool]
) -> None:
    one = Signals(is_alone=is_alone)
    for name in signals:
        getattr(one, name)()
    assert (one.leave.is_set(), one.end.is_set()) == told


async def test_a_hangup_does_not_end_the_process(caplog: pytest.LogCaptureFixture) -> None:
    Signals(is_alone=True).listen()
    signal.raise_signal(signal.SIGHUP)
    await until(lambda: "SIGHUP does nothing without several workers" in caplog.text, "its line in the log")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().remove_signal_handler(number)


class Server:
    """A server that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def lame(self) -> None:
        self.told.append("lame")

    def goaway(self) -> None:
        self.told.append("goaway")


async def left(
    monkeypatch: pytest.MonkeyPatch, exchanges: list[int], end: asyncio.Event | None = None, **how: bool
) -> list[str]:
    """Leave with that many exchanges at each look, and return what was done."""
    monkeypatch.setattr(handover, "LAME_SECONDS", 0.001)
    monkeypatch.setattr(handover, "_LOOK_SECONDS", 0.001)
    server = Server()

    def looked() -> int:
        server.told.append(str(found := exchanges.pop(0)))
        return found

    await leave(server, looked, end or asyncio.Event(), bound_seconds=30, **{"must_be_lame": False, **how})
    return server.told


async def test_one_that_was_replaced_leaves_at_once_and_waits_for_its_exchanges(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = [2, 1, 0, 1, 0, 0, 0, 0, 0]
    told = await left(monkeypatch, looks.copy(), is_replaced=True)
    # One more came late: only quiet that lasts counts.
    assert told == ["goaway", *map(str, looks)]
    told = await left(monkeypatch, [0] * 6, is_replaced=True, must_be_lame=True)
    assert told == ["lame", "goaway", *["0"] * 6]


async def test_one_without_a_next_one_is_lame_before_it_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await left(monkeypatch, [], is_replaced=False) == ["lame", "goaway"]


KNOWN_OF_HEALTH_CHECKS = {
    *("timeout", "interval", "no_traffic_interval", "unhealthy_threshold", "healthy_threshold", "grpc_health_check")
}


def health_checks() -> list[dict[str, Any]]:
    """Return how Envoy looks at the workers' health, in all files of its configuration."""
    trees = [yaml.safe_load(path.read_text()) for path in (Path(__file__).parents[1] / "envoy").glob("*.yaml")]
    found = [tree.get("static_resources", {}).get("clusters", []) + tree.get("resources", []) for tree in trees]
    clusters = [one for some in found for one in some if one.get("name") == "ext_proc"]
    return [look for one in clusters for look in one["health_checks"]]


def test_one_is_lame_for_as_long_as_envoy_may_need_to_see_it() -> None:
    def seconds(look: dict[str, Any], name: str) -> float:
        return float(look[name].removesuffix("s"))

    looks = health_checks()
    assert looks
    for look in looks:
        # Others (config.core.v3.HealthCheck) may make it longer: jitter, another interval for hosts that are healthy.
        assert look.keys() == KNOWN_OF_HEALTH_CHECKS
        pause = max(seconds(look, "interval"), seconds(look, "no_traffic_interval"))
        assert look["unhealthy_threshold"] * (pause + seconds(look, "timeout")) <= handover.LAME_SECONDS


async def test_one_that_is_told_to_end_waits_for_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    end = asyncio.Event()
    end.set()
    assert await left(monkeypatch, [3], end, is_replaced=True) == ["goaway", "3"]
    monkeypatch.setattr(handover, "LAME_SECONDS", 60)
    server = Server()
    await asyncio.wait_for(
        leave(server, lambda: 1, end, is_replaced=False, must_be_lame=False, bound_seconds=60), timeout=30
    )
    assert server.told == ["lame", "goaway"]


async def test_waiting_for_exchanges_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    await leave(server, lambda: 1, asyncio.Event(), is_replaced=True, must_be_lame=False, bound_seconds=0)
    assert server.told == ["goaway"]


def test_the_socket_of_a_dead_process_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "s"
    clear_socket(path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    clear_socket(path)
    assert not path.exists()


def test_a_file_in_the_way_is_kept_and_told(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="is not a socket"):
        clear_socket(path)
    assert path.read_text() == "precious"


def test_the_socket_of_a_living_process_is_kept_and_told(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen()
        with pytest.raises(ConfigError, match="another process serves"):
            clear_socket(path)
    assert path.exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot use"):
        clear_socket(tmp_path / "file" / "s")
