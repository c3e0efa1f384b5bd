"""Small services for a transport, and what each of their calls was told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from extproc.carrier import Receiver, Service, Status, Stream

Step = Callable[["Call", bytes], bool]


@dataclass(slots=True, eq=False)
class Call:
    """A Receiver that notes what it is told, and fails where it is told what must not come."""

    stream: Stream
    path: str
    on_message: Step
    on_end: Callable[[Call], None]
    messages: list[bytes] = field(default_factory=list)
    ends: int = 0
    resets: int = 0
    sent: list[bytes] = field(default_factory=list)
    finished: bool = False
    """We said how it ends: `finish` or `abort`."""
    ok: bool = False
    """We said `finish`."""
    holding: bool = False
    """We returned false, and did not say `more` since."""
    faults: list[str] = field(default_factory=list)

    def receive(self, message: bytes) -> bool:
        self._check("a message")
        self.messages.append(bytes(message))
        self.holding = True
        self.holding = not self.on_message(self, message)
        return not self.holding

    def end(self) -> None:
        self._check("the end")
        self.ends += 1
        self.on_end(self)

    def reset(self) -> None:
        if self.resets:
            self.faults.append("reset came twice")
        self.resets += 1

    def more(self) -> None:
        """Let the next message come."""
        self.holding = False
        self.stream.more()

    def send(self, message: bytes) -> None:
        self.sent.append(message)
        self.stream.send(message)

    def finish(self) -> None:
        self.finished = self.ok = True
        self.stream.finish()

    def abort(self, status: Status, text: str) -> None:
        self.finished = True
        self.stream.abort(status, text)

    @property
    def over(self) -> bool:
        return self.finished or self.resets > 0

    def _check(self, what: str) -> None:
        if self.resets:
            self.faults.append(f"{what} came after reset")
        if self.ends:
            self.faults.append(f"{what} came after the end")
        if self.holding:
            self.faults.append(f"{what} came before more")
        if self.finished:
            self.faults.append(f"{what} came after we had ended the call")


@dataclass(slots=True)
class Calls:
    """All calls of a server, in their order; `services` are what it serves."""

    made: list[Call] = field(default_factory=list)

    @property
    def services(self) -> dict[str, Service]:
        return {
            "/test.Echo/Call": self._service("echo", _echo, Call.finish),
            "/test.Held/Call": self._service("held", _hold, Call.finish),
            "/test.Silent/Call": self._service("silent", _take, _nothing),
            "/test.Large/Call": self._service("large", _large, Call.finish),
            "/test.Once/Call": self._service("once", _once, _nothing),
            "/test.Refusing/Call": self._service("refusing", _refuse, _nothing),
            "/test.Broken/Call": self._service("broken", _break, _nothing),
            "/test.BrokenEnd/Call": self._service("broken end", _take, _break_end),
            "/test.AtOnce/Call": self._at_once,
            "/test.NoCall/Call": _no_call,
        }

    @property
    def last(self) -> Call:
        return self.made[-1]

    def check(self) -> None:
        """Check what holds for every call once its connection is gone."""
        for call in self.made:
            assert call.faults == [], f"{call.path}: {call.faults}"
            assert call.finished or call.resets == 1, f"{call.path}: not told that it is over"

    def _service(self, path: str, on_message: Step, on_end: Callable[[Call], None]) -> Service:
        def begin(stream: Stream) -> Receiver:
            call = Call(stream, path, on_message, on_end)
            self.made.append(call)
            return call

        return begin

    def _at_once(self, stream: Stream) -> Receiver:
        call = Call(stream, "at once", _take, _nothing)
        self.made.append(call)
        call.finish()
        return call


def _echo(call: Call, message: bytes) -> bool:
    call.send(message)
    return True


def _hold(call: Call, message: bytes) -> bool:
    call.send(message)
    return False


def _take(call: Call, message: bytes) -> bool:
    return True


def _large(call: Call, message: bytes) -> bool:
    # The message says how many messages of how many bytes are wanted.
    count, size = map(int, message.split())
    for number in range(count):
        call.send(bytes((number % 251,)) * size)
    return True


def _once(call: Call, message: bytes) -> bool:
    call.send(message)
    call.finish()
    return True


def _refuse(call: Call, message: bytes) -> bool:
    call.abort(Status(int(message or b"13")), "no, 50%\tof it")
    return True


def _break(call: Call, message: bytes) -> bool:
    call.finished = True
    raise ValueError("made by a test")


def _break_end(call: Call) -> None:
    call.finished = True
    raise ValueError("made by a test")


def _nothing(call: Call) -> None:
    pass


def _no_call(stream: Stream) -> Receiver:
    raise ValueError("made by a test")
