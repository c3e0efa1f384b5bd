"""Judge what was seen of one log: what is missing by rule and what is not, and whether the log still speaks. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from extproc.recording.entry import Head, read_head
from extproc.recording.facts import microseconds
from extproc.recording.prune import Prune
from extproc.store.port import Ledger
from extproc.verification.fault import MAX_FAULTS, Fault, FaultKind, Faults, LogReport, moment
from extproc.verification.log_check import LogCheck
from extproc.verification.parts_check import fault_at
from extproc.verification.ranges import Ranges

_UNRULED = "and no prune record says why"
_UNPROVEN = "a prune record lists it, but no checkpoint proves that record"


class Listed:
    """What any of some prune records lists: indexes of bodies and of whole entries by log, and `erased` sessions."""

    def __init__(self, prunes: Iterable[Prune]) -> None:
        bodies: dict[str, list[tuple[int, int]]] = {}
        below: dict[str, int] = {}
        self.erased: set[str] = set()
        for prune in prunes:
            for log, first, after in prune.bodies:
                bodies.setdefault(log, []).append((first, after))
            for prefix in prune.heads:
                below[prefix.log] = max(prefix.below, below.get(prefix.log, 0))
            self.erased.update(prune.erased)
        self._bodies = {log: Ranges.of(pairs) for log, pairs in bodies.items()}
        self._heads = {log: Ranges.of([(0, end)]) for log, end in below.items()}

    def bodies(self, log: str) -> Ranges:
        """Return the entries of a log whose bodies are listed."""
        return self._bodies.get(log) or Ranges()

    def heads(self, log: str) -> Ranges:
        """Return the entries of a log that are listed whole."""
        return self._heads.get(log) or Ranges()


@dataclass(frozen=True, slots=True)
class Rules:
    """What was removed by rule: `proved` by records that a checkpoint covers, `claimed` by records that none covers."""

    proved: Listed
    claimed: Listed


@dataclass(slots=True)
class Verdict:
    """How a log stands, and what is wrong with it."""

    report: LogReport
    faults: Faults
    warnings: list[Fault] = field(default_factory=list)


def judge(check: LogCheck, rules: Rules, ledger: Ledger, *, now: float, max_silence: float) -> Verdict:
    """Return the verdict on a log that was walked to its end; times are in seconds."""
    faults = check.faults
    pruned = rules.proved.bodies(check.log)
    gone = check.gone.minus(rules.proved.heads(check.log))
    bodiless = check.parts.bodiless.minus(pruned)
    _add_gone(faults, check.log, gone, rules)
    for pair in bodiless.pairs:
        _add_bodiless(faults, check.log, pair, ledger, rules)
    _judge_proof(faults, check)
    for fault in check.parts.faults.found:
        # Bodies are removed before their blobs, but a run may have stopped in between.
        if fault.kind is not FaultKind.REMOVED or fault.first is None or not pruned.has(fault.first):
            faults.add(fault)
    faults.more += check.parts.faults.more
    for (session, _), fault in check.parts.keyless.items():
        if session not in rules.proved.erased:
            faults.add(fault)
    verdict = Verdict(_report(check, gone.total, bodiless.total), faults)
    _judge_silence(verdict, check, now, max_silence)
    return verdict


def head_of(canonical: bytes) -> Head | None:
    """Return a head, None where it cannot be read."""
    try:
        return read_head(canonical)
    except (ValueError, RecursionError):
        return None


def _report(check: LogCheck, gone: int, bodiless: int) -> LogReport:
    largest = check.signatures.largest
    signed = Ranges([(0, largest.size)]) if largest else Ranges()
    return LogReport(
        log=check.log,
        entries=check.entries,
        proven=check.tree.proven,
        pending=Ranges([(0, check.next)]).minus(signed).total - check.gone.minus(signed).total,
        checkpoints=len(check.signatures.by_size),
        last_at=check.signatures.last_at,
        closed=check.closed is not None,
        pruned=check.gone.total - gone,
        bodies_pruned=check.parts.bodiless.total - bodiless,
    )


def _add_gone(faults: Faults, log: str, gone: Ranges, rules: Rules) -> None:
    for first, after in gone.pairs:
        is_claimed = not rules.claimed.heads(log).is_disjoint(first, after)
        what = f"missing, {_UNPROVEN if is_claimed else _UNRULED}"
        faults.add(Fault(FaultKind.REMOVED, log, what, first, after - 1))


def _add_bodiless(faults: Faults, log: str, pair: tuple[int, int], ledger: Ledger, rules: Rules) -> None:
    first, after = pair
    if len(faults.found) >= MAX_FAULTS:
        # Each would be another question to the store.
        faults.more += after - first
        return
    for stored in ledger.entries(log, first, bodies=False):
        if stored.index >= after:
            return
        if len(faults.found) >= MAX_FAULTS:
            faults.more += after - stored.index
            return
        is_claimed = rules.claimed.bodies(log).has(stored.index)
        what = f"its body is missing, {_UNPROVEN if is_claimed else _UNRULED}"
        head = head_of(stored.head)
        if head is None:
            faults.add(Fault(FaultKind.REMOVED, log, what, stored.index, stored.index))
        else:
            faults.add(fault_at(FaultKind.REMOVED, log, stored.index, head, what))


# Whatever we did not think of: where nothing is wrong, the last checkpoint proves all that it covers.
def _judge_proof(faults: Faults, check: LogCheck) -> None:
    proven, largest = check.tree.proven, check.signatures.largest
    if largest is not None and proven < largest.size and not faults.found:
        what = f"nothing shows that these are the entries that were signed: nothing leads to the root of {largest}"
        faults.add(Fault(FaultKind.REWRITTEN, check.log, what, proven, largest.size - 1))


def _judge_silence(verdict: Verdict, check: LogCheck, now: float, max_silence: float) -> None:
    """Note a log that nobody signed, or that ended without saying so."""
    last_at, largest = check.signatures.last_at, check.signatures.largest
    if largest is None or last_at is None:
        # Whoever put it in could say that it is from tomorrow; integers, as these may be of any size.
        age = 0 if check.last is None else abs(microseconds(now) - _sealed_at(check.last))
        if check.entries and age > microseconds(max_silence) and not check.signatures.any_bad:
            what = "no valid checkpoint of this log is known: it was put in later, or its checkpoints were removed"
            verdict.faults.add(Fault(FaultKind.INSERTED, check.log, what, 0, check.next - 1))
        return
    is_ended = check.closed is not None and largest.size >= check.next
    if not is_ended and last_at < now - max_silence:
        what = f"the log has not ended, and the last checkpoint of it was signed {moment(last_at)}"
        verdict.warnings.append(Fault(FaultKind.STALE, check.log, what))


# An exchange is sealed when it ends, which may be long after it was opened.
def _sealed_at(head: Head) -> int:
    closed_at = head.facts.get("closed_at")
    return closed_at if isinstance(closed_at, int) else head.at
