"""Mask what passes one way in one exchange, and note what was found."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import Any, Final, Protocol

from extproc.dialect.port import Form
from extproc.masking import private_key
from extproc.masking.anchors import Anchors, anchors
from extproc.masking.channel import GATEWAY_RULE, MIN_WORD_CHARS, Channel, Found, Op, Rules
from extproc.masking.finding import Action, Direction, Finding, Hit, placeholder
from extproc.masking.fingerprint import Fingerprints
from extproc.masking.json_text import JsonChannel, read
from extproc.masking.policy import PERSONAL_DATA, SECRETS, MaskingPolicy
from extproc.secret import Secret

MAX_FINDINGS: Final = 1000
"""More are masked, but not listed, in the record of one message."""


_KNOWN_CHARS: Final = 128
"""So long are texts at most of which it is remembered that nothing is in them."""

# Between texts that are scanned together: it ends a secret as the end of the text would, and is too long for a keyword
# in one of them to be one of a secret in the next.
_BETWEEN: Final = '"\n' + "\x01" * 160 + "\n"


class Detector(Protocol):
    """Find secrets; safe for any number of threads."""

    patterns: Mapping[str, str]
    digest: str

    def scan(self, data: bytes, since: int = 0) -> list[Hit]:
        """Return what is found in UTF-8 text and ends after `since`."""
        ...

    def suspects(self, data: bytes) -> list[Hit]:
        """Return what `scan` finds, and what may have hidden it, by place."""
        ...

    def set_of(self, rule: str) -> str:
        """Return the name of the rule's set."""
        ...


class Masking:
    """What is the same for all exchanges: what finds secrets, what policy does about them, how they are told apart."""

    def __init__(self, detector: Detector, policy: MaskingPolicy, fingerprints: Fingerprints) -> None:
        self.detector = detector
        self.policy = policy
        self.fingerprints = fingerprints
        # What our own rules find without a beginning of its own is always random; what a user's may, nobody knows.
        random = {rule for rule in detector.patterns if detector.set_of(rule) == SECRETS}
        self._anchors: Anchors = anchors(detector.patterns.items(), random)
        self._groups = any(one.name == PERSONAL_DATA for one in policy.in_use())

    def masker(self, direction: Direction, secrets: Sequence[Secret] = ()) -> Masker:
        """Return what masks one message of an exchange; `secrets` are the gateway's own, always masked."""
        return Masker(self, direction, tuple(secret.reveal() for secret in secrets))

    def rules(self, direction: Direction, literals: tuple[str, ...], paths: Sequence[str]) -> Rules:
        """Return the rules of a channel; `paths` are the files that the tool call it belongs to touches."""
        policy, detector = self.policy, self.detector

        def judge(rule: str, secret: str) -> Action:
            action = policy.action(SECRETS if rule == private_key.RULE else detector.set_of(rule), direction)
            return Action.OFF if action is not Action.OFF and policy.allows(rule, secret, paths) else action

        return Rules(detector.scan, detector.suspects, self._anchors, judge, literals, self._groups)

    def is_clean(self, text: str) -> bool:
        """Say whether neither a rule nor the form of a private key is found in a text."""
        return not (private_key.may_have(text) or self.detector.suspects(text.encode("utf-8", "surrogatepass")))

    @lru_cache(maxsize=4096)  # noqa: B019 - as below
    def is_known_clean(self, text: str) -> bool:
        """Say so of a short text that is likely to come again, such as a path or the name of a member."""
        return self.is_clean(text)

    def announces(self, member: str) -> bool:
        """Say whether the name of a JSON member may announce a secret as its value."""
        # Whoever sends long names must not fill our memory with them.
        return self._announces(member) if len(member) <= _KNOWN_CHARS else bool(self._anchors.keyword_ends(member))

    @lru_cache(maxsize=4096)  # noqa: B019 - one object for as long as the process runs
    def _announces(self, member: str) -> bool:
        return bool(self._anchors.keyword_ends(member))


@dataclass(slots=True)
class Masker:
    """Mask the texts of one message; `findings` is what was found, `blocked` the rule that forbids the message."""

    masking: Masking
    direction: Direction
    literals: tuple[str, ...]
    findings: list[Finding] = field(default_factory=list)
    blocked: str | None = None
    at: float = 0.0
    """Milliseconds after the opening, for findings."""
    ran: bool = False
    """Whether any text was looked at."""
    _rules: dict[tuple[str, ...], Rules] = field(default_factory=dict)

    def applied_rules(self) -> dict[str, Any]:
        """Return what the record says of how this message was masked."""
        return {
            "detectors": self.masking.detector.digest,
            "sets": {one.name: one.action(self.direction) for one in self.masking.policy.in_use()},
        }

    def channel(self, form: Form) -> Channel | JsonChannel:
        """Return what masks a text that arrives in pieces."""
        return JsonChannel(self._rules_for(())) if form is Form.JSON else self.plain_channel()

    def plain_channel(self) -> Channel:
        """Return what masks a plain text that arrives in pieces."""
        return Channel(self._rules_for(()))

    def is_clean(self, text: str, form: Form = Form.PLAIN, member: str = "") -> bool:
        """Say whether there is nothing in a whole text, as nearly always; `member` is as in `text`."""
        self.ran = True
        if len(text) < MIN_WORD_CHARS:
            return True
        if form is Form.JSON:
            text = read(text)
        text = self._context(member) + text
        if self.holds_ours(text):
            return False
        return (self.masking.is_known_clean if len(text) <= _KNOWN_CHARS else self.masking.is_clean)(text)

    def may_block(self) -> bool:
        """Say whether policy forbids messages for what may be found in them."""
        return any(one.action(self.direction) is Action.BLOCK for one in self.masking.policy.in_use())

    def holds_ours(self, text: str) -> bool:
        """Say whether one of the gateway's own credentials stands in a text."""
        for literal in self.literals:  # noqa: SIM110 - half the time of any()
            if literal in text:
                return True
        return False

    def _holds_rare(self, text: str) -> bool:
        """Say whether a text has what the detector does not look for."""
        return private_key.may_have(text) or self.holds_ours(text)

    def suspicious(self, texts: Sequence[str], members: Sequence[str]) -> list[int]:
        """Return which whole texts, in order, may have something in them: one scan for all costs little more.

        `members` are the JSON members they are values of, as in `text`.
        """
        if len(texts) == 1:
            return [] if self.is_clean(texts[0], member=members[0]) else [0]
        self.ran = True
        parts = [self._context(member) + text for text, member in zip(texts, members, strict=True)]
        joined = _BETWEEN.join(parts)
        hits = self.masking.detector.suspects(joined.encode("utf-8", "surrogatepass"))
        rare = self._holds_rare(joined)
        if not hits and not rare:
            return []
        ends = list(accumulate(len(part.encode("utf-8", "surrogatepass")) + len(_BETWEEN) for part in parts))
        found = {bisect(ends, hit.start) for hit in hits} | {bisect(ends, hit.end - 1) for hit in hits}
        if rare:
            found |= {at for at, part in enumerate(parts) if self._holds_rare(part)}
        return sorted(at for at in found if at < len(texts))

    def text(self, text: str, where: str, *, form: Form = Form.PLAIN) -> str:
        """Mask a whole text."""
        return text if self.is_clean(text, form) else self.suspect_text(text, where, form=form)

    def suspect_text(
        self, text: str, where: str, *, form: Form = Form.PLAIN, member: str = "", paths: Sequence[str] = ()
    ) -> str:
        """Mask a text as `text` does, of which it is known that something may be in it.

        `member` is the JSON member it is the value of, which may announce a secret; `paths` are files it is about.
        """
        rules = self._rules_for(tuple(paths))
        channel = (JsonChannel if form is Form.JSON else Channel)(rules, self._context(member))
        masked = applied(text, [*channel.feed(text), *channel.finish()])
        self.note(where, channel.found)
        return masked

    def _context(self, member: str) -> str:
        return f'"{member}": "' if member and self.masking.announces(member) else ""

    def text_of_ours(self, text: str, where: str) -> str:
        """Mask only the gateway's own credentials, in what nothing else may change."""
        mask = placeholder(GATEWAY_RULE)
        for literal in self.literals:
            if literal in text:
                text = text.replace(literal, mask)
                self.note(where, [Found(GATEWAY_RULE, text.find(mask), Action.MASK, literal)])
        return text

    def note(self, where: str, found: Sequence[Found]) -> None:
        """Keep what a channel found; `where` is the field."""
        for one in found:
            if one.action is Action.BLOCK and self.blocked is None:
                self.blocked = one.rule
            if len(self.findings) < MAX_FINDINGS:
                fingerprint = self.masking.fingerprints.of(one.secret)
                self.findings.append(
                    Finding(one.rule, self.direction, where, one.offset, one.action, self.at, fingerprint)
                )

    def _rules_for(self, paths: tuple[str, ...]) -> Rules:
        self.ran = True
        rules = self._rules.get(paths)
        if rules is None:
            rules = self._rules[paths] = self.masking.rules(self.direction, self.literals, paths)
        return rules


def applied(text: str, ops: Sequence[Op]) -> str:
    """Return `text` with all that was decided about it done."""
    if all(op.text is None for op in ops):
        return text
    parts = []
    at = 0
    for op in ops:
        parts.append(text[at : at + op.count] if op.text is None else op.text)
        at += op.count
    return "".join(parts)
