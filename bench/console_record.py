"""Make a large record as an organisation leaves it, with small bodies: what the console's lists are measured with."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice
from pathlib import Path
from random import Random
from typing import Any, Final

from extproc.store.sqlite_store import SqliteStore
from tests.recording_of import Exchange, Log

BEGIN: Final = 1_760_000_000.0
SPAN_SECONDS: Final = 90 * 86_400.0
USERS: Final = 2_000
GROUPS: Final = 200
MODELS: Final = 40
REPOSITORIES: Final = 3_000
PATHS: Final = 50_000
WORDS: Final = 20_000
PER_SESSION: Final = 8
FINDINGS: Final = 0.02
RULES: Final = ("aws-access-key", "npm-token", "github-pat", "private-key", "slack-webhook", "jwt", "azure-sas", "pgp")

_SEED: Final = 7
_SECONDS_BETWEEN: Final = 90.0
_AT_ONCE: Final = 5_000
_SYLLABLES: Final = ("ba", "ke", "li", "mo", "nu", "ra", "se", "ti", "vo", "zu", "pa", "de", "fi", "go", "hu", "ja")


async def make(path: Path, exchanges: int) -> None:
    """Make a record of so many exchanges, in transactions of some thousands."""
    log, store = Log("bench.0.1"), SqliteStore(path)
    try:
        for batch in _batches(Organisation().exchanges(exchanges)):
            entries = [log.exchange(*one) for one in batch]
            await store.put(entries, log.blobs)
            log.blobs.clear()
    finally:
        await store.aclose()


def word(number: int) -> str:
    """Return the word of a rank: 0 is in nearly every text, the last in nearly none."""
    syllables = []
    for _ in range(4):
        number, rest = divmod(number, len(_SYLLABLES))
        syllables.append(_SYLLABLES[rest])
    return "".join(syllables)


@dataclass(slots=True)
class _Session:
    """A conversation: who has it, about what, and what is left of it."""

    id: str
    user: int
    model: int
    repository: int
    left: int


class Organisation:
    """Two thousand developers, few of whom do most, on few of many repositories."""

    def __init__(self) -> None:
        self._random = Random(_SEED)  # noqa: S311 - the same record each time

    def exchanges(self, count: int) -> Iterator[Exchange]:
        """Yield exchanges in the order of their opening; many sessions run at the same time."""
        number = begun = 0
        every = SPAN_SECONDS * PER_SESSION / count
        waiting: list[tuple[float, int, _Session]] = []
        while number < count:
            if not waiting or waiting[0][0] >= BEGIN + begun * every:
                heapq.heappush(waiting, (BEGIN + begun * every, begun, self._session(begun)))
                begun += 1
            at, place, session = heapq.heappop(waiting)
            yield self._exchange(number, at, session)
            number += 1
            session.left -= 1
            if session.left:
                wait = self._random.expovariate(1 / _SECONDS_BETWEEN)
                heapq.heappush(waiting, (at + wait, place, session))

    def _session(self, number: int) -> _Session:
        user = self._one_of(self._users)
        return _Session(
            id=f"{number:08x}-{self._random.getrandbits(64):016x}",
            user=user,
            model=self._one_of(self._models),
            repository=self._one_of(self._repositories),
            left=self._random.randint(1, 2 * PER_SESSION - 1),
        )

    def _exchange(self, number: int, at: float, session: _Session) -> Exchange:
        ending = self._ending()
        paths = [f"src/{p % 97}/{word(p % WORDS)}/{p}.py" for p in self._some_paths(session.repository)]
        return self._opening(number, at, session), self._closing(number, at, ending, paths)

    def _opening(self, number: int, at: float, session: _Session) -> dict[str, Any]:
        random = self._random
        return {
            "v": 1,
            "id": f"{number:032x}",
            "session": session.id,
            "opened_at": at,
            "principal": {
                "id": f"https://login.example/v2.0#{session.user:08x}",
                "name": f"user{session.user}@example.com",
                "groups": sorted({f"team-{(session.user * k) % GROUPS}" for k in (1, 3, 7)} | {"developers"}),
            },
            "decision": {"effect": "allow", "rule": "developers-chat"},
            "client": {"user_agent": f"copilot/1.0.{session.user % 9}", "address": "192.0.2.17"},
            "request": {
                "endpoint": "chat",
                "upstream": "copilot",
                "model": f"model-{session.model}",
                "repository": f"org{session.repository % 30}/repo-{session.repository}",
                "messages": [{"role": "user", "content": self._text()}],
            },
            "findings": [self._finding() for _ in range(random.randint(1, 3))] if random.random() < FINDINGS else [],
            "masking": None,
        }

    def _closing(self, number: int, at: float, ending: tuple[str, str | None, int], paths: list[str]) -> dict[str, Any]:
        random, (outcome, code, status) = self._random, ending
        answered = code is None
        calls = [{"id": "c", "name": "edit", "arguments": "{}", "paths": [one]} for one in paths]
        return {
            "v": 1,
            "id": f"{number:032x}",
            "closed_at": at + random.uniform(0.5, 30),
            "outcome": outcome,
            "error": None if code is None else {"code": code, "message": "no"},
            "response": {
                "status": status,
                "text": self._text() if answered else None,
                "tool_calls": calls if answered else [],
                "usage": {"input_tokens": random.randint(200, 60_000), "output_tokens": random.randint(5, 2_000)},
            },
            "timing": None,
            "findings": [],
            "masking": None,
            "approvals": [{"id": f"approval-{number}"}] if random.random() < 0.003 else [],
        }

    def _ending(self) -> tuple[str, str | None, int]:
        drawn = self._random.random()
        if drawn < 0.02:
            return "denied", "policy.denied", 422
        if drawn < 0.03:
            return "aborted", None, 200
        if drawn < 0.035:
            return "upstream_error", "upstream.failed", 502
        if drawn < 0.0351:
            return "interrupted", None, 200
        return "completed", None, 200

    def _some_paths(self, repository: int) -> list[int]:
        count = self._random.choice((0, 0, 0, 1, 1, 2))
        return [(repository * 977 + int(self._random.random() ** 3 * 400)) % PATHS for _ in range(count)]

    def _finding(self) -> dict[str, Any]:
        return {
            "rule": self._random.choice(RULES),
            "direction": "prompt",
            "where": "messages[0].content",
            "offset": 4,
            "action": "mask",
            "at": 1.0,
            "fingerprint": f"{self._random.randrange(5_000):032x}",
        }

    def _text(self) -> str:
        return " ".join(map(word, self._random.choices(range(WORDS), cum_weights=self._words, k=40)))

    def _one_of(self, weights: Sequence[float]) -> int:
        return self._random.choices(range(len(weights)), cum_weights=weights)[0]

    @cached_property
    def _users(self) -> list[float]:
        return _few_do_most(USERS)

    @cached_property
    def _models(self) -> list[float]:
        return _few_do_most(MODELS)

    @cached_property
    def _repositories(self) -> list[float]:
        return _few_do_most(REPOSITORIES)

    @cached_property
    def _words(self) -> list[float]:
        return _few_do_most(WORDS)


def _few_do_most(count: int) -> list[float]:
    """Return cumulative weights after Zipf: the first is met twice as often as the second."""
    return list(accumulate(1 / (rank + 1) for rank in range(count)))


def _batches(exchanges: Iterator[Exchange]) -> Iterator[Sequence[Exchange]]:
    while batch := list(islice(exchanges, _AT_ONCE)):
        yield batch
