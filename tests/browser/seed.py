"""A record of 10,000 exchanges, of people who are no demo users, put there before the gateway runs."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.recording_of import Exchange, exchange, record

EXCHANGES = 10_000
LONG_SESSION = "5eed00000000aaaa"
HOSTILE_SESSION = "5eed00000000bbbb"
MODELS = ("gpt-5", "claude-sonnet-4.5", "gemini-2.5-pro")

HOSTILE = (
    "<script>window.hacked = 1</script>",
    '<img src=x onerror="window.hacked = 2">',
    '"><svg onload=window.hacked=3>',
    "</script><script>window.hacked = 4</script>",
    "[click](javascript:window.hacked=5)",
    "{{ 7 * 7 }} {% raw %}",
    "\u202egnp.exe\u2066 \u0000 \u001b[31m",
)


def seed(state: Path) -> None:
    """Write it where `make run` keeps its record."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    exchanges = [*_usual(time.time() - 86_400), *_hostile(time.time() - 7200)]
    # In a thread: Playwright runs a loop in this one.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(record(state / "record.db", exchanges, "seed.0.1"))).result()


def _usual(start: float) -> list[Exchange]:
    found = []
    for number in range(EXCHANGES):
        # A tenth of it is one session of a thousand exchanges.
        session = LONG_SESSION if number % 10 == 0 else f"5eed{number // 4:012x}"
        who = "yuri" if session == LONG_SESSION else f"dev{number // 4 % 100}"
        found.append(
            exchange(
                f"{int(start * 1000) + number:012x}{number:020x}",
                session=session,
                at=start + number,
                user=who,
                outcome="refused" if number % 50 == 7 else "completed",
                answered=f"Use a context manager.\n\n```python\nwith open('f{number}') as f:\n    pass\n```",
                model=MODELS[number % 3],
                repository=f"acme/app{number % 40}",
                method="POST",
                path="/chat/completions",
                endpoint="chat",
                messages=[{"role": "user", "content": f"How do I read file number {number}?"}],
                paths=[f"src/module{number % 300}.py"] if number % 5 == 0 else [],
            )
        )
    return found


def _hostile(start: float) -> list[Exchange]:
    """Return exchanges in which everything that a stranger can write tries to be more than text."""
    return [
        exchange(
            f"{int(start * 1000) + number:012x}{number:020x}",
            session=HOSTILE_SESSION,
            at=start + number,
            user=text,
            groups=[text],
            answered=f"{text}\n\n```html\n{text}\n```\n\n```{text}\nx\n```",
            model=text,
            repository=text,
            method="POST",
            path=f"/chat/completions?{text}",
            endpoint="chat",
            messages=[{"role": "system", "content": text}, {"role": text, "content": text}],
            paths=[text],
            findings=[_finding(text)],
        )
        for number, text in enumerate(HOSTILE)
    ]


def _finding(text: str) -> dict[str, Any]:
    place = {"rule": text, "direction": "prompt", "where": text, "offset": 0}
    return {**place, "action": "masked", "at": 0.0, "fingerprint": "0" * 32}
