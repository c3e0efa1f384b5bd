"""The gRPC health service (gRPC, "GRPC Health Checking Protocol"): what Envoy asks a worker."""

from __future__ import annotations

from extproc import wire
from extproc.carrier import Receiver, Status, Stream

CHECK = "/grpc.health.v1.Health/Check"


class Health:
    """Say whether the services are served."""

    def __init__(self, *services: str) -> None:
        self._services = {"", *services}
        self.serving = False

    def check(self, stream: Stream) -> Receiver:
        """Answer one question."""
        return _Check(self, stream)

    def answer(self, service: str) -> bytes | None:
        """Return the answer for a service, None where there is none of this name."""
        return wire.health(serving=self.serving) if service in self._services else None


class _Check:
    def __init__(self, health: Health, stream: Stream) -> None:
        self._health = health
        self._stream = stream

    def receive(self, message: bytes) -> bool:
        """Answer the question."""
        try:
            service = wire.decode_health(message)
        except wire.WireError as fault:
            self._stream.abort(Status.INVALID_ARGUMENT, str(fault))
            return False
        answer = self._health.answer(service)
        if answer is None:
            self._stream.abort(Status.NOT_FOUND, "there is no service of this name")
        else:
            self._stream.send(answer)
            self._stream.finish()
        return False

    def end(self) -> None:
        """Refuse to answer what was not asked."""
        self._stream.abort(Status.INVALID_ARGUMENT, "no service was named")

    def reset(self) -> None:
        """Do nothing."""
