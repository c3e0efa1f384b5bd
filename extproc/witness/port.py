"""What is asked of a witness."""

from __future__ import annotations

from typing import Protocol

from extproc.errors import ExtprocError


class WitnessUnavailable(ExtprocError):
    """Say why a witness did not take a checkpoint; the text holds no token and no address that may hold one."""


class Contradicted(WitnessUnavailable):
    """Say that a witness already has another checkpoint of the same log and size: somebody altered one. An alarm."""


class Witness(Protocol):
    """Keep signed checkpoints outside the power of whoever may write the store."""

    @property
    def name(self) -> str:
        """Return what logs and metrics call it: its place in the settings, since its address may be a secret."""
        ...

    async def publish(self, log: str, size: int, note: str) -> None:
        """Try once to give it a checkpoint; when this returns it has it. Raises `WitnessUnavailable`.

        What failed may have arrived all the same; publishing the same again is no error. A cancelled call may still
        arrive.
        """
        ...
