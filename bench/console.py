"""How fast the console's lists are over a large record: `python -m bench.console [--exchanges N] [--keep FOLDER]`.

A record is made as an organisation leaves it (`bench.console_record`), then its search index, then each question is
asked several times. With `--keep` record and index stay in that folder, and are used again by the next run.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

from bench.console_record import BEGIN, SPAN_SECONDS, make, word
from extproc.store.port import FindingSearch, Listing, Search
from extproc.store.sqlite_index import SqliteIndex

EXCHANGES: Final = 1_000_000
TARGET_MS: Final = 200.0

_ROUNDS: Final = 20
_DEEP: Final = 100
_DAY: Final = 86_400.0
_END: Final = BEGIN + SPAN_SECONDS

_COMMON, _KNOWN, _RARE, _NONE = word(0), word(300), word(15_000), "nobodysaidthat"
_SEARCHES: Final[list[tuple[str, list[dict[str, Any]]]]] = [
    ("no filter", [{}]),
    ("user: does most", [{"user": "user0@example.com"}]),
    ("user: does little", [{"user": f"user{n}@example.com"} for n in range(1_900, 1_920)]),
    ("principal", [{"principal": f"https://login.example/v2.0#{n:08x}"} for n in (0, 3, 50, 700, 1_999)]),
    ("user: unknown", [{"user": "nobody"}]),
    ("group: all", [{"group": "developers"}]),
    ("group: some", [{"group": f"team-{n}"} for n in range(20, 40)]),
    ("model: common", [{"model": "model-0"}]),
    ("model: rare", [{"model": "model-39"}]),
    ("outcome: completed", [{"outcome": "completed"}]),
    ("outcome: denied", [{"outcome": "denied"}]),
    ("outcome: 1 of 10,000", [{"outcome": "interrupted"}]),
    ("repository: common", [{"repository": "org0/repo-0"}]),
    ("repository: rare", [{"repository": f"org{n % 30}/repo-{n}"} for n in range(2_900, 2_920)]),
    ("repository: org*", [{"repository": "org*"}]),
    ("repository: */repo-29*", [{"repository": "*/repo-29*"}]),
    ("path: src/5/*", [{"path": "src/5/*"}]),
    ("path: src/*", [{"path": "src/*"}]),
    ("path: *.py", [{"path": "*.py"}]),
    ("path: *", [{"path": "*"}]),
    ("path: *77.py", [{"path": "*77.py"}]),
    ("path: one of 50,000", [{"path": f"src/{n % 97}/{word(n % 20_000)}/{n}.py"} for n in range(40_000, 40_010)]),
    ("finding: npm-token", [{"finding": "npm-token"}]),
    ("finding: *-*", [{"finding": "*-*"}]),
    ("session", [{"session": "00000100-0000000000000000"}]),
    ("since: last hour", [{"since": _END - 3_600}]),
    ("until: first day", [{"until": BEGIN + _DAY}]),
    ("since and until: a day", [{"since": BEGIN + n * _DAY, "until": BEGIN + (n + 1) * _DAY} for n in range(80)]),
    ("model rare, outcome 1 of 10,000", [{"model": "model-39", "outcome": "interrupted"}]),
    ("model common, outcome 1 of 10,000", [{"model": "model-0", "outcome": "interrupted"}]),
    ("model rare, outcome denied", [{"model": "model-39", "outcome": "denied"}]),
    ("user most, repository rare", [{"user": "user0@example.com", "repository": "org1/repo-2911"}]),
    ("user little, repository common", [{"user": "user1900@example.com", "repository": "org0/repo-0"}]),
    ("user little, model rare", [{"user": "user1900@example.com", "model": "model-39"}]),
    ("group some, model rare", [{"group": "team-30", "model": "model-39"}]),
    ("group all, outcome 1 of 10,000", [{"group": "developers", "outcome": "interrupted"}]),
    ("path src/5/*, outcome 1 of 10,000", [{"path": "src/5/*", "outcome": "interrupted"}]),
    ("path src/*, outcome 1 of 10,000", [{"path": "src/*", "outcome": "interrupted"}]),
    ("path *.py, model rare, user most", [{"path": "*.py", "model": "model-39", "user": "user0@example.com"}]),
    ("finding npm-token, model rare", [{"finding": "npm-token", "model": "model-39"}]),
    ("repository org*, outcome 1 of 10,000", [{"repository": "org*", "outcome": "interrupted"}]),
    ("model rare, first day", [{"model": "model-39", "until": BEGIN + _DAY}]),
    ("text: in all", [{"text": _COMMON}]),
    ("text: in one of ten", [{"text": word(40)}]),
    ("text: in one of hundreds", [{"text": _KNOWN}]),
    ("text: rare", [{"text": word(n)} for n in range(15_000, 15_020)]),
    ("text: in none", [{"text": _NONE}]),
    ("text: two common words in a row", [{"text": f"{_COMMON} {word(1)}"}]),
    ("text: two rare words in a row", [{"text": f"{_RARE} {word(15_001)}"}]),
    ("text: 5 letters of many words", [{"text": _COMMON[:5]}]),
    ("text: 1 letter", [{"text": "b"}]),
    ("text in all, user little", [{"text": _COMMON, "user": "user1900@example.com"}]),
    ("text in all, outcome 1 of 10,000", [{"text": _COMMON, "outcome": "interrupted"}]),
    ("text in all, model rare, outcome denied", [{"text": _COMMON, "model": "model-39", "outcome": "denied"}]),
    ("text in all, path src/*", [{"text": _COMMON, "path": "src/*"}]),
    ("text in all, path *77.py", [{"text": _COMMON, "path": "*77.py"}]),
    (
        "text in all, repository org*, user little",
        [{"text": _COMMON, "repository": "org*", "user": "user1900@example.com"}],
    ),
    ("text in all, first day", [{"text": _COMMON, "until": BEGIN + _DAY}]),
    ("text rare, user most", [{"text": _RARE, "user": "user0@example.com"}]),
]
"""What is searched for; several searches of one kind take turns."""

Question = Callable[[], object]


def main() -> int:
    """Make record and index, ask, print; return 1 where a list of sessions misses the target."""
    parser = argparse.ArgumentParser(prog="python -m bench.console", description="Measure the console's lists.")
    parser.add_argument("--exchanges", type=int, default=EXCHANGES, help=f"default {EXCHANGES}")
    parser.add_argument("--keep", type=Path, help="a folder for record and index, which are used again if there")
    arguments = parser.parse_args()
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True, exist_ok=True)
        return _run(arguments.keep, arguments.exchanges)
    with tempfile.TemporaryDirectory(prefix="console-") as folder:
        return _run(Path(folder), arguments.exchanges)


def _run(folder: Path, exchanges: int) -> int:
    record, path = folder / f"record-{exchanges}.db", folder / f"search-{exchanges}.db"
    if not record.exists():
        unfinished = record.with_suffix(".unfinished")
        began = time.perf_counter()
        asyncio.run(make(unfinished, exchanges))
        unfinished.rename(record)
        _told("record", time.perf_counter() - began, record)
    index = SqliteIndex(record, path, wait_seconds=3600)
    began = time.perf_counter()
    index.catch_up()
    _told("index", time.perf_counter() - began, path)
    print(f"{'':44}    p50      p95      max ms   p95 of CPU")
    slow = [name for name, question in _lists(index) if _measure(name, question) > TARGET_MS]
    for name, question in _others(index):
        _measure(name, question)
    index.close()
    for name in slow:
        print(f"p95 of {name} is over {TARGET_MS:.0f} ms", file=sys.stderr)
    return 1 if slow else 0


def _told(what: str, seconds: float, path: Path) -> None:
    print(f"{what}: {seconds:.1f} s, {path.stat().st_size / 1e6:.0f} MB", flush=True)


def _measure(name: str, question: Question) -> float:
    """Ask some times; return the 95th percentile in milliseconds."""
    took, busy = [], []
    for _ in range(_ROUNDS):
        began, cpu = time.perf_counter(), time.thread_time()
        question()
        took.append((time.perf_counter() - began) * 1000)
        busy.append((time.thread_time() - cpu) * 1000)
    cuts = quantiles(took, n=20, method="inclusive")
    cpu = quantiles(busy, n=20, method="inclusive")[18]
    print(f"{name:44} {cuts[9]:8.1f} {cuts[18]:8.1f} {max(took):8.1f} {cpu:12.1f}", flush=True)
    return cuts[18]


def _lists(listing: Listing) -> Iterator[tuple[str, Question]]:
    for name, searches in _SEARCHES:
        turns = cycle([Search(**search) for search in searches])
        yield name, lambda turns=turns: listing.sessions(next(turns))  # type: ignore[misc]
    for name, search in (
        ("no filter", Search()),
        ("model common", Search(model="model-0")),
        ("group all", Search(group="developers")),
        ("user does most", Search(user="user0@example.com")),
        ("path src/*", Search(path="src/*")),
        ("text in all", Search(text=word(0))),
        ("text in one of ten", Search(text=word(40))),
    ):
        after = _deep(listing, search)
        yield f"page {_DEEP} of {name}", lambda search=search, after=after: listing.sessions(search, after=after)  # type: ignore[misc]


def _deep(listing: Listing, search: Search) -> str | None:
    after: str | None = None
    for _ in range(_DEEP - 1):
        after = listing.sessions(search, after=after).after
    return after


def _others(listing: Listing) -> Iterator[tuple[str, Question]]:
    who = "https://login.example/v2.0#00000003"
    for name, seconds, steps in (("hour", 3_600.0, 60), ("day", _DAY, 96), ("30 days", 30 * _DAY, 90)):
        span = {"since": _END - seconds, "until": _END, "steps": steps}
        yield f"overview: {name}", lambda span=span: listing.overview(**span)  # type: ignore[misc]
        yield f"overview: {name}, one principal", lambda span=span: listing.overview(**span, principal=who)  # type: ignore[misc]
    yield "overview: all", lambda: listing.overview(since=BEGIN, until=_END, steps=90)
    findings: dict[str, FindingSearch] = {
        "all": FindingSearch(),
        "rule": FindingSearch(rule="npm-token"),
        "glob": FindingSearch(rule="*-*"),
        "fingerprint": FindingSearch(fingerprint=f"{77:032x}"),
        "user": FindingSearch(user="user1900@example.com"),
    }
    for name, search in findings.items():
        yield f"findings: {name}", lambda search=search: listing.findings(search)  # type: ignore[misc]


if __name__ == "__main__":
    sys.exit(main())
