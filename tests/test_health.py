from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from grpc_health.v1 import health_pb2

from extproc.carrier import Status
from extproc.health import Health

Answer = health_pb2.HealthCheckResponse
SERVICE = "some.Service"


@dataclass
class Noted:
    """A stream that writes down what it is told."""

    metadata: Mapping[str, str] = field(default_factory=dict)
    told: list[object] = field(default_factory=list)

    def send(self, message: bytes) -> None:
        self.told.append(Answer.FromString(message).status)

    def more(self) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        self.told.append(Status.OK)

    def abort(self, status: Status, text: str) -> None:
        self.told.append(status)


def question(service: str) -> bytes:
    return health_pb2.HealthCheckRequest(service=service).SerializeToString()


@pytest.mark.parametrize("service", ["", SERVICE])
def test_all_and_the_service_are_served_from_when_it_is_said_until_it_is_not(service: str) -> None:
    health, said = Health(SERVICE), []
    for serving in (None, True, False):
        if serving is not None:
            health.serving = serving
        stream = Noted()
        # One question is all that a call has.
        assert not health.check(stream).receive(question(service))
        said.append(stream.told)
    # Before it is said, it is not so.
    assert said == [[one, Status.OK] for one in (Answer.NOT_SERVING, Answer.SERVING, Answer.NOT_SERVING)]


def test_a_call_is_answered_with_what_is_so_when_its_question_comes() -> None:
    health, stream = Health(SERVICE), Noted()
    health.serving = True
    receiver = health.check(stream)
    health.serving = False
    receiver.receive(question(SERVICE))
    assert stream.told == [Answer.NOT_SERVING, Status.OK]


@pytest.mark.parametrize(
    ("message", "status"),
    [(question("another.Service"), Status.NOT_FOUND), (b"\xff", Status.INVALID_ARGUMENT)],
    ids=["another service", "no question"],
)
def test_what_cannot_be_answered_is_refused_and_never_ok(message: bytes, status: Status) -> None:
    health, stream = Health(SERVICE), Noted()
    health.serving = True
    assert not health.check(stream).receive(message)
    assert stream.told == [status]


def test_a_call_without_a_question_is_refused() -> None:
    health, stream = Health(SERVICE), Noted()
    health.check(stream).end()
    assert stream.told == [Status.INVALID_ARGUMENT]


def test_a_call_that_is_given_up_is_told_nothing() -> None:
    stream = Noted()
    Health(SERVICE).check(stream).reset()
    assert stream.told == []
