"""`extproc run`: run a command whose Copilot traffic goes to the gateway, with a token that stays fresh."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from extproc.client_settings.choice import clients_of, run_mode
from extproc.client_settings.settings import Client, Mode, Trust, proxy_of, settings_for
from extproc.commands.env import ClientOption, ModeOption, environ_of, trust_of
from extproc.errors import ConfigError
from extproc.relay.relay import Gateway, Relay
from extproc.secret import Secret
from extproc.signin.authority import authority_written, trusting
from extproc.signin.current import current_profile, current_token
from extproc.signin.postponed import postponed
from extproc.signin.profile import Profile

_MAX_TOLD = 20
"""Refusals that are told when the command has ended; a client that tries for ever must not fill the memory."""
_REUSED_SECONDS = 30.0
"""How long a token serves without a look at whether it is still fresh; well below what a fresh one is good for."""
# A terminal sends these to the command itself, for it is in the same foreground process group.
_OF_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
# These would end it while a thread refreshes the sign-in; an interrupt waits for threads by itself.
_ENDING = (signal.SIGTERM, signal.SIGHUP)


def run(
    context: typer.Context,
    command: Annotated[list[str], typer.Argument(help="The command and its arguments, behind `--`.")],
    client: ClientOption = None,
    mode: ModeOption = None,
) -> None:
    """Run a command with the settings it needs to reach the gateway; its exit code is passed on."""
    environ = environ_of(context)
    program = _program(command[0], environ)
    profile = current_profile(environ)
    clients = client or clients_of(command[0])
    refused: dict[str, None] = {}

    def tell(line: str) -> None:
        if len(refused) < _MAX_TOLD:
            refused[line] = None

    with authority_written(profile, environ) as files:
        trust = trust_of(files, environ)
        code = asyncio.run(_run(program, command, clients, mode or run_mode(profile), profile, trust, environ, tell))
    # Not before: the terminal was the command's.
    for line in refused:
        print(f"extproc: refused: {line}", file=sys.stderr)  # noqa: T201 - this is the terminal
    raise typer.Exit(code)


def _program(name: str, environ: Mapping[str, str]) -> str:
    program = shutil.which(name, path=environ.get("PATH"))
    if program is None and os.path.dirname(name) and Path(name).exists():  # noqa: PTH120 - as `which` tells the two apart
        raise ConfigError(f"run: {name!r} is not executable")
    if program is None:
        raise ConfigError(f"run: there is no command {name!r}")
    return program


async def _run(  # noqa: PLR0917 - called once, above
    program: str,
    command: Sequence[str],
    clients: Sequence[Client],
    mode: Mode,
    profile: Profile,
    trust: Trust | None,
    environ: Mapping[str, str],
    refused: Callable[[str], None],
) -> int:
    if mode is Mode.URL:
        # The command cannot be given another one.
        with postponed(*_ENDING):
            token = Secret(await asyncio.to_thread(current_token, environ, for_long=True))
        settings = settings_for(clients, mode, profile, token, trust)
        return await _child(program, command, {**environ, **settings.variables})
    async with _relay(profile, environ, refused) as relay:
        # To the command the relay is the gateway's proxy, and the relay's password the token.
        nearby = msgspec.structs.replace(profile, proxy=relay.url)
        settings = settings_for(clients, mode, nearby, relay.password, trust)
        kept = {name: value for name, value in environ.items() if name != "EXTPROC_TOKEN"}
        return await _child(program, command, {**kept, **settings.variables})


@asynccontextmanager
async def _relay(profile: Profile, environ: Mapping[str, str], refused: Callable[[str], None]) -> AsyncIterator[Relay]:
    proxy = proxy_of(profile)
    tls = trusting(profile.ca_pem) if proxy.scheme == "https" else None
    tokens = Tokens(lambda: current_token(environ), time.monotonic)
    # Who is not signed in shall hear that now, and not from each client in its own way.
    with postponed(*_ENDING):
        await tokens.get()
    async with Relay(Gateway(proxy.host, proxy.port, tls), tokens.get, refused) as relay:
        yield relay


class Tokens:
    """Ask for a token once for all tunnels that open at the same time, and again when some seconds have passed."""

    def __init__(self, current: Callable[[], str], now: Callable[[], float]) -> None:
        self._current = current
        self._now = now
        self._one_at_a_time = asyncio.Lock()
        self._kept: tuple[Secret, float] | None = None

    async def get(self) -> Secret:
        """Return a token that is fresh; raises ExtprocError where there is none."""
        async with self._one_at_a_time:
            if self._kept is None or self._now() - self._kept[1] >= _REUSED_SECONDS:
                # It may ask the issuer, and the tunnels that are open must not wait for that.
                token = Secret(await asyncio.to_thread(self._current))
                self._kept = (token, self._now())
            return self._kept[0]


async def _child(program: str, command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command on our own input and output; return its exit code, 128 + N where signal N ended it."""
    arrived: asyncio.Queue[int] = asyncio.Queue()
    # Before it starts: a signal in between would leave a command that nobody relays for.
    with _caught(arrived):
        try:
            child = await asyncio.create_subprocess_exec(*command, executable=program, env=environ)
        except OSError as error:
            raise ConfigError(f"run: {command[0]!r} cannot be started ({error.strerror})") from None
        forwarding = asyncio.create_task(_forward(arrived, child))
        code = await child.wait()
        forwarding.cancel()
    return code if code >= 0 else 128 - code


@contextmanager
def _caught(arrived: asyncio.Queue[int]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    in_terminal = sys.stdin is not None and sys.stdin.isatty()
    # What is ignored already, as under `nohup`, stays so for the command too.
    ours = [number for number in (*_FORWARDED, *_OF_TERMINAL) if signal.getsignal(number) is not signal.SIG_IGN]
    for number in ours:
        is_forwarded = number in _FORWARDED or not in_terminal
        loop.add_signal_handler(number, arrived.put_nowait if is_forwarded else _leave_alone, number)
    try:
        yield
    finally:
        for number in ours:
            loop.remove_signal_handler(number)


def _leave_alone(_number: int) -> None:
    """Outlive what a terminal says to both: when the command ends is the command's decision."""


async def _forward(arrived: asyncio.Queue[int], child: asyncio.subprocess.Process) -> None:
    while True:
        number = await arrived.get()
        with suppress(ProcessLookupError):  # it has ended at this very moment
            child.send_signal(number)
