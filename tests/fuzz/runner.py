"""Run targets for a bounded time; the same seed tries the same inputs in the same order."""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from extproc.endpoint import EndpointKind
from tests.detecting import masking
from tests.fuzz import bodies, formats, http2, streams, texts
from tests.fuzz.texts import Note

Target = Callable[[Random, Note], None]

INPUT_SECONDS = 10.0
"""No input may take longer, however slow the machine is."""

FAILURES = Path(__file__).parents[2] / "build" / "fuzz"
_DIALECTS = (
    EndpointKind.CHAT,
    EndpointKind.COMPLETIONS,
    EndpointKind.RESPONSES,
    EndpointKind.MESSAGES,
    EndpointKind.MCP,
    EndpointKind.AGENTS,
)


def _dialect(kind: EndpointKind, random: Random, note: Note) -> None:
    part = random.choice((bodies.valid, bodies.havoc, streams.valid, streams.havoc))
    if kind is not EndpointKind.AGENTS or part in (bodies.havoc, streams.havoc):
        part(kind, random, note)


TARGETS: Mapping[str, Target] = {
    **{str(kind): partial(_dialect, kind) for kind in _DIALECTS},
    "sse": formats.sse,
    "encoding": formats.encoding,
    "channel": texts.channel,
    "json_text": texts.json_text,
    "private_key": texts.keys,
    "http2": http2.http2,
}


@dataclass(frozen=True, slots=True)
class Failure:
    """One input that broke a promise: `at` is its number in the run of its seed, `file` where it was saved."""

    at: int
    file: Path
    report: str


def run(name: str, seed: int, *, seconds: float, only: int | None = None) -> tuple[int, Failure | None]:
    """Try inputs until the time is over or one fails; return how many were tried. `only` tries that one alone."""
    masking()  # compiling the rules is not what the time is for
    deadline = time.monotonic() + seconds
    at = 0 if only is None else only
    while True:
        failure = _tried(name, seed, at)
        at += 1
        if failure is not None or only is not None or time.monotonic() > deadline:
            return at, failure


def _tried(name: str, seed: int, at: int) -> Failure | None:
    kept: list[bytes] = []
    before = signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, INPUT_SECONDS)
    try:
        TARGETS[name](Random(f"{seed}/{name}/{at}"), kept.append)  # noqa: S311 - repeatable
    except Exception:  # noqa: BLE001 - whatever it is, it is reported
        FAILURES.mkdir(parents=True, exist_ok=True)
        file = FAILURES / f"{name}-{seed}-{at}.bin"
        file.write_bytes(b"".join(kept))
        again = f"python -m tests.fuzz --target {name} --seed {seed} --only {at}"
        return Failure(at, file, f"{traceback.format_exc()}\ninput: {file}\nagain: {again}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return None


def _too_long(*_: object) -> None:
    raise TimeoutError(f"one input took more than {INPUT_SECONDS} s")
