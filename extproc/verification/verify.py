"""Recompute all evidence from what a store has, and name what was changed. Pure, and it imports nothing that writes.

Every log is walked once (`LogCheck`). What was removed by rule is known only when all prune records were seen, in
whichever log they are, so what is missing is judged at the end (`judge`). A prune record counts where a checkpoint
proves it. Memory grows with logs, checkpoints and prune records, and by 8 to 9 bytes with each entry (`Seen`).

What this cannot show is in docs/verifying.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Final

from extproc.recording.checkpoint import PublicKey
from extproc.recording.entry import Head
from extproc.recording.prune import Prefix, Prune
from extproc.store.port import Ledger
from extproc.verification.fault import Fault, FaultKind, Report
from extproc.verification.judge import Listed, Rules, Verdict, head_of, judge
from extproc.verification.known_checkpoints import KnownCheckpoints
from extproc.verification.log_check import LogCheck
from extproc.verification.parts_check import fault_at
from extproc.verification.seen import Seen

PROGRESS_ENTRIES: Final = 4096
"""After so many entries progress is told."""


def verify(
    ledger: Ledger,
    keys: Sequence[PublicKey],
    witnessed: Iterable[str],
    *,
    now: float,
    max_silence: float,
    logs: Collection[str] | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Return how the logs stand, all or those that are named, and everything that is wrong with them.

    `keys` are those that signed the checkpoints, `witnessed` the notes that witnesses have. A log that has not ended
    and whose last checkpoint is older than `max_silence` seconds at `now` (unix seconds) is warned of. `progress` is
    told how many entries were read. Raises `StoreUnavailable`.
    """
    known = KnownCheckpoints(keys, witnessed)
    # A store that is in use grows meanwhile: what is signed is read before what is there.
    names = sorted(known.logs | set(ledger.logs()))
    walk = _Walk(ledger, known, progress)
    wanted = [log for log in names if logs is None or log in logs]
    for log in wanted:
        walk.check(log)
    # What is missing in one log may have been removed by a record in another.
    if any(_misses_something(check) for check in walk.checks.values()):
        for log in names:
            if log not in walk.checks:
                walk.check(log)
    walk.resume()
    rules = Rules(Listed(walk.prunes(proved=True)), Listed(walk.prunes(proved=False)))
    verdicts = {log: judge(walk.checks[log], rules, ledger, now=now, max_silence=max_silence) for log in wanted}
    return _report(verdicts, known, walk)


def _misses_something(check: LogCheck) -> bool:
    return bool(check.gone.pairs or check.parts.bodiless.pairs or check.parts.keyless)


def _report(verdicts: dict[str, Verdict], known: KnownCheckpoints, walk: _Walk) -> Report:
    faults = [fault for fault in known.faults if not fault.log or fault.log in verdicts]
    for fault in walk.duplicates():
        if fault.log in verdicts:
            verdicts[fault.log].faults.add(fault)
    for verdict in verdicts.values():
        faults += sorted(verdict.faults.found, key=_place)
    warnings = [warning for verdict in verdicts.values() for warning in verdict.warnings]
    if known.foreign:
        notes = "1 note of a witness was" if known.foreign == 1 else f"{known.foreign} notes of witnesses were"
        what = f"{notes} left out: none of the keys is said to have signed {'it' if known.foreign == 1 else 'them'}"
        warnings.append(Fault(FaultKind.UNSIGNED, "", what))
    reports = [verdict.report for verdict in verdicts.values()]
    more = sum(verdict.faults.more for verdict in verdicts.values())
    return Report(reports, faults, warnings, more, known.witnessed)


def _place(fault: Fault) -> int:
    return -1 if fault.first is None else fault.first


class _Walk:
    """Walk logs, each once, or twice where its beginning was removed by rule."""

    def __init__(self, ledger: Ledger, known: KnownCheckpoints, progress: Callable[[int], None]) -> None:
        self._ledger = ledger
        self._known = known
        self._progress = progress
        self._read = 0
        self._seen = Seen()
        self.checks: dict[str, LogCheck] = {}

    def check(self, log: str) -> None:
        """Walk a log that was not walked yet."""
        signatures = self._known.of(log, self._ledger.checkpoints(log))
        self._walk(LogCheck(log, self._ledger, signatures, seen=self._seen))

    def resume(self) -> None:
        """Walk those logs again of which now is known how they began."""
        prefixes: dict[str, list[Prefix]] = {}
        for check in self.checks.values():
            for _, prune in check.prunes:
                for prefix in prune.heads:
                    prefixes.setdefault(prefix.log, []).append(prefix)
        for log, check in list(self.checks.items()):
            if log in prefixes and (check.gone.pairs or not check.entries):
                self._walk(LogCheck(log, self._ledger, check.signatures, _fitting(prefixes[log], check)))

    def prunes(self, *, proved: bool) -> Iterator[Prune]:
        """Yield the prune records that a checkpoint proves, or those that none proves."""
        for check in self.checks.values():
            for index, prune in check.prunes:
                if check.proves(index) is proved:
                    yield prune

    def duplicates(self) -> Iterator[Fault]:
        """Yield entries whose id another one has; of these the first that is proven is taken for the right one."""
        suspects = self._seen.suspects()
        if not suspects:
            return
        places: dict[str, list[tuple[bool, str, int, Head]]] = {}
        for log, check in self.checks.items():
            for stored in self._ledger.entries(log, bodies=False):
                head = head_of(stored.head)
                if head is not None and hash(head.id) in suspects:
                    place = (stored.index >= check.tree.proven, log, stored.index, head)
                    places.setdefault(head.id, []).append(place)
        for same in places.values():
            (_, right_log, right, _), *others = sorted(same, key=lambda place: place[:3])
            for _, log, index, head in others:
                what = f"it is a second entry with the id {head.id}; the other is entry {right} of log {right_log}"
                yield fault_at(FaultKind.INSERTED, log, index, head, what)

    def _walk(self, check: LogCheck) -> None:
        self.checks[check.log] = check
        for stored in self._ledger.entries(check.log):
            check.add(stored)
            self._read += 1
            if self._read % PROGRESS_ENTRIES == 0:
                self._progress(self._read)
        check.end()


# A removal that was not finished leaves entries before the end of what it lists.
def _fitting(prefixes: Sequence[Prefix], check: LogCheck) -> Prefix:
    highest = max(prefix.below for prefix in prefixes)
    first = max((after for start, after in check.gone.pairs if start < highest), default=0)
    after = [prefix.below for prefix in prefixes if prefix.below >= first] if check.entries else []
    below = min(after) if after else highest
    return next(prefix for prefix in prefixes if prefix.below == below)
