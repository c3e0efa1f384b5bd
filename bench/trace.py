"""What tracing takes: `python -m bench.trace`. A repository of 10,000 lines, 100,000 recorded lines in SQLite.

Also what the fingerprints of an answer cost the thread that records it.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

from extproc.store.sqlite_archive import SqliteArchive
from extproc.store.sqlite_store import SqliteStore
from extproc.tracing.lines import proposed_fingerprints
from extproc.tracing.trace import Range, Target, trace
from tests.recording_of import Log, exchange

_KEY: Final = bytes(range(32))
_NOW: Final = 1_760_000_000.0
_EXCHANGES: Final = 2_000
_LINES: Final = 50
_FILES: Final = 50
_FILE_LINES: Final = 200
_SEED: Final = 5

_WORDS: Final = (
    "account",
    "batch",
    "cache",
    "entry",
    "frame",
    "gateway",
    "header",
    "index",
    "journal",
    "key",
    "ledger",
)

TARGET_SECONDS: Final = 2.0
TARGET_US: Final = 60.0


def code(source: random.Random, count: int) -> list[str]:
    """Return lines that look like code: every tenth is trivial, every twentieth stands in most files."""
    common = ("import json", "from pathlib import Path", "if __name__ == '__main__':", "return None", "@property")
    lines = []
    for number in range(count):
        if number % 10 == 9:
            lines.append("")
        elif number % 20 == 4:
            lines.append(source.choice(common))
        else:
            names = [f"{source.choice(_WORDS)}_{source.choice(_WORDS)}" for _ in range(4)]
            lines.append(f"    {names[0]} = self.{names[1]}({names[2]}, limit={source.randrange(1000)}).{names[3]}")
    return lines


def results(*, quick: bool = False) -> dict[str, Any]:
    """Return the seconds of a trace (the median of several) and the microseconds that fingerprints take."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record.db"
        answers = asyncio.run(_record(path))
        targets = _repository(answers)
        taken, ranges = [], list[Range]()
        for _ in range(1 if quick else 5):
            began = time.perf_counter()
            ranges = list(trace(targets, _KEY, SqliteArchive(path)))
            taken.append(time.perf_counter() - began)
    _check(ranges, targets)
    return {
        "recorded_lines": _EXCHANGES * _LINES,
        "traced_lines": _FILES * _FILE_LINES,
        "ranges": len(ranges),
        "edited_ranges": sum(one.match == "edited" for one in ranges),
        "seconds": median(taken),
        "fingerprints_us": _fingerprints_us(answers[0]),
    }


async def _record(path: Path) -> list[list[str]]:
    """Fill a store, and return the lines of each exchange."""
    source = random.Random(_SEED)  # noqa: S311 - the same lines each time
    log, answers = Log(), []
    store = SqliteStore(path)
    for number in range(_EXCHANGES):
        lines = code(source, _LINES)
        text = "Here it is:\n```python\n{}\n```\nDone.".format("\n".join(lines))
        session = f"session {number // 20}"
        opening, answered = exchange(
            f"{number:032x}", session=session, at=_NOW + number, answered=text, endpoint="chat"
        )
        entry = log.exchange(opening, answered, lines=proposed_fingerprints(answered["response"], _KEY))
        await store.put([entry], log.blobs)
        log.blobs.clear()
        answers.append(lines)
    await store.aclose()
    return answers


def _repository(answers: list[list[str]]) -> list[Target]:
    """Return files of which half of the lines were proposed, a tenth of those edited a little, all indented anew."""
    source = random.Random(_SEED + 1)  # noqa: S311
    targets = []
    for number in range(_FILES):
        lines: list[str] = []
        while len(lines) < _FILE_LINES:
            taken = source.choice(answers)[:25]
            lines += [f"\t{line.replace('limit=', 'bound=') if source.random() < 0.1 else line}" for line in taken]
            lines += [line.replace("self.", "theirs.") for line in code(source, 25)]
        numbers = list(range(1, _FILE_LINES + 1))
        targets.append(Target(f"file{number}.py", numbers, lines[:_FILE_LINES], set(numbers)))
    return targets


def _check(ranges: list[Range], targets: list[Target]) -> None:
    found = sum(one.end - one.start + 1 for one in ranges)
    if not 0.4 < found / sum(len(target.lines) for target in targets) < 0.7:
        raise AssertionError(f"about half of all lines were proposed, and {found} were found")


def _fingerprints_us(lines: list[str]) -> float:
    arguments = json.dumps({"path": "src/app.py", "file_text": "\n".join(lines)})
    call = {"id": "c", "name": "create", "arguments": arguments, "paths": ["src/app.py"]}
    response = {"text": "I write it.", "tool_calls": [call]}
    taken = []
    for _ in range(200):
        began = time.thread_time()
        for _ in range(20):
            proposed_fingerprints(response, _KEY)
        taken.append((time.thread_time() - began) / 20 * 1e6)
    return median(taken)


def table(found: dict[str, Any]) -> str:
    """Return the results for people."""
    seconds, cost = found["seconds"], found["fingerprints_us"]
    traced = (
        f"trace of {found['traced_lines']} lines against {found['recorded_lines']} recorded ones: {seconds:.2f} s"
        f" (target {TARGET_SECONDS:g} s: {'met' if seconds <= TARGET_SECONDS else 'missed'});"
        f" {found['ranges']} ranges, {found['edited_ranges']} of them edited"
    )
    recorded = (
        f"fingerprints of an answer of {_LINES} lines: {cost:.0f} µs"
        f" (target {TARGET_US:g} µs: {'met' if cost <= TARGET_US else 'missed'})"
    )
    return f"{traced}\n{recorded}"


if __name__ == "__main__":
    print(table(results(quick="--quick" in sys.argv)))
