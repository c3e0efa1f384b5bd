"""What the matrix knows of a client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from extproc.client_settings.settings import Client as Kind
from extproc.client_settings.settings import Mode
from tests.clients.access import Access
from tests.clients.process import Process, Ran


class Running(Protocol):
    """A client at work on one prompt."""

    def is_running(self) -> bool:
        """Say whether it still works on it."""

    def output(self) -> str:
        """Return what it showed so far."""

    def wait(self, seconds: float) -> Ran:
        """Return how it ended, and what it showed; fails the test where that takes longer."""

    def kill(self) -> None:
        """End it and all it started."""


@dataclass(frozen=True)
class Client:
    """An agent that takes one prompt, may edit files, and ends.

    `version` returns the installed version, None where it is not installed (`needs` says what to do then). `start`
    begins with a prompt. `quick` clients run for every submission; `optional` ones may be missing there. `cannot` says
    why a cell does not apply.
    """

    name: str
    version: Callable[[], str | None]
    start: Callable[[Access, str], Running]
    quick: bool = False
    optional: bool = False
    cannot: Mapping[tuple[Mode, str], str] = field(default_factory=lambda: MappingProxyType({}))
    needs: str = "run `make test-clients`, which installs it"


def program(
    kind: Kind, command: Callable[[str], list[str]], extra: Callable[[], Mapping[str, str]] = dict
) -> Callable[[Access, str], Running]:
    """Return how to start a program that takes its prompt in the command line, and ends with the answer.

    It runs with what `extproc env --client KIND` prints, and with `extra`.
    """

    def start(access: Access, prompt: str) -> Running:
        env = access.env(kind, extra())
        return Process(command(prompt), cwd=access.work, env=env, log=access.home / "client.log")

    return start
