"""Mask one text that arrives in pieces. However it is cut, the pieces that leave add up to the same masked text.

The text is read in words (what stands between blanks, quotes and letters that are not ASCII). A word is decided when it
ends, by a scan of a window that depends on the text alone: it begins at the word that began the present segment and
`CONTEXT_CHARS` before it, and ends with the character that ended the word. Until then nothing of a word leaves from the
first place on where a secret may have begun (`anchors`); what can begin none leaves at once. Many words that are
complete at once are scanned together, and only those in which something was found by themselves: both scans begin at
the same place, so that they find the same. Words longer than `WINDOW_CHARS` are decided in overlapping parts, which
bounds what is held. Private keys, which have many lines, are followed line by line (`private_key`). Pure.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from extproc.masking import private_key
from extproc.masking.anchors import HEAD_CHARS, Anchors
from extproc.masking.finding import Action, Hit, placeholder

CONTEXT_CHARS: Final = 256
"""At least so much before a word is scanned with it."""

SEGMENT_CHARS: Final = 1024
"""A word that begins further than this from where windows begin now has them begin anew."""

WINDOW_CHARS: Final = 4096
"""At most so much of one word is held and scanned at a time, in characters."""

_OVERLAP_CHARS: Final = 2048
"""Parts of a longer word overlap so far; a secret up to this length is in one of them whole."""

MIN_WORD_CHARS: Final = 4
"""No shorter word is a secret: no rule takes one (`detector.MIN_SECRET`)."""

_KEY_CHARS: Final = 16384
"""So much of a private key is kept until its end, to tell it from others."""

GATEWAY_RULE: Final = "gateway-credential"

# Secrets are ASCII: everything else ends a word, as blanks and quotes do.
_END_OF_WORD: Final = re.compile(r"[\s\"'`]|[^\x00-\x7f]")
# With personal data, numbers and account numbers may be written in groups.
_END_OF_WORD_OR_GROUP: Final = re.compile(r"(?<![0-9A-Z)])\s|\s(?![0-9A-Z(])|[\"'`]|[^\x00-\x7f\s]")
# The same, but as far to the right as there is one.
_LAST_END: Final = {
    pattern: re.compile(rf"[\s\S]*(?:{pattern.pattern})") for pattern in (_END_OF_WORD, _END_OF_WORD_OR_GROUP)
}
# Where a secret with a beginning of its own may begin: not inside a word, but after a line end that is still escaped.
_BOUNDARY: Final = re.compile(r"(?<![A-Za-z0-9_])\S|(?<=\\[nrt])\S")
# How far letters are as words have them; what is random soon has a digit, or a capital inside.
_LIKE_WORDS: Final = re.compile(
    r"(?:[^A-Za-z0-9]*+(?:[A-Z]{2,}+|[A-Z][a-z]*+|[a-z]++)(?![A-Za-z0-9]))*+"
    r"[^A-Za-z0-9]*+(?:[A-Z]{2,}+|[A-Z]?[a-z]*+)"
)
_RUNS_ON: Final = re.compile(r"[A-Za-z0-9+/=_.~-]*")
_LITERAL_HEAD: Final = 6
"""From so many characters of a credential of ours inside a word its rest is held."""


class Op(msgspec.Struct, frozen=True, gc=False):
    """What becomes of the next `count` characters: they stay (`text` None), or `text` takes their place."""

    count: int
    text: str | None = None


class Found(msgspec.Struct, frozen=True, gc=False):
    """One secret in the channel: `offset` counts characters of the masked text."""

    rule: str
    offset: int
    action: Action
    secret: str


class Rules(msgspec.Struct, frozen=True):
    """What channels are masked by: `scan` finds, `judge` says what policy does about a rule's hit on a secret.

    What ends before a place that `scan` is given may be left out. `suspects` finds whatever `scan` does, and what may
    have hidden it, by place.

    `literals` are the gateway's own credentials, which are masked whatever the policy says. `groups` is for rules whose
    secrets have blanks in them.
    """

    scan: Callable[[bytes, int], list[Hit]]
    suspects: Callable[[bytes], list[Hit]]
    anchors: Anchors
    judge: Callable[[str, str], Action]
    literals: tuple[str, ...] = ()
    groups: bool = False


class _Span(msgspec.Struct, gc=False):
    """A secret in the buffer; `secret` is all of it, also what may have left before."""

    start: int
    end: int
    rule: str
    action: Action
    secret: str


class _Key(msgspec.Struct, gc=False):
    """A private key that is passing: `at` is how far it was followed, `offset` where it stands in the masked text.

    `text` is what was seen of it.
    """

    at: int
    action: Action
    confirmed: bool = False
    offset: int = 0
    text: str = ""


class Channel:
    """Mask one text; not to be shared."""

    __slots__ = (
        "_base",
        "_buffer",
        "_decided",
        "_heard",
        "_key",
        "_keywords",
        "_no_key",
        "_open",
        "_ops",
        "_released",
        "_rules",
        "_runs_on",
        "_settled",
        "_sought",
        "_word",
        "found",
    )

    def __init__(self, rules: Rules, context: str = "") -> None:
        """Start a text; `context` stands before it, such as the name of a member, and is no part of it."""
        self._rules = rules
        self._buffer = context
        # All of these are places in the buffer: where the word that is not complete begins; up to where all is decided;
        # up to where keywords and the word's end were looked for; before which no private key begins; where windows
        # begin.
        self._word = self._decided = self._sought = self._no_key = len(context)
        self._base = 0
        # From where on a keyword has that word wait for its end, and whether no earlier place can any more.
        self._open: int | None = None
        self._settled = False
        # Where keywords end that may matter to the present word or a later one, and up to where they were looked for.
        self._keywords: list[int] = []
        self._heard = 0
        self._key: _Key | None = None
        # Whether a secret longer than a window goes on.
        self._runs_on = False
        self._released = 0
        self._ops: list[Op] = []
        self.found: list[Found] = []

    def feed(self, text: str) -> list[Op]:
        """Add `text` and return what is decided now, beginning where the last call left off."""
        self._buffer += text
        return self._advance(final=False)

    def finish(self) -> list[Op]:
        """End the text and return what becomes of the rest."""
        return self._advance(final=True)

    def settle(self) -> list[Op]:
        """Let the last word leave that looks like one, as its speaker goes on with another text, and return its ops.

        Should this text go on in the same word all the same, only the rest of that word can still be masked.
        """
        limit = len(self._buffer)
        if (
            self._decided < limit
            and not (self.in_key or self._runs_on or self._rules.anchors.wide)
            and private_key.cut_begin(self._buffer, self._decided) == limit
            and _end_of(_LIKE_WORDS, self._buffer, self._word, limit) == limit
            and self._first_beginning(self._decided, limit, limit) == limit
        ):
            self._emit(limit, None)
        return self._taken()

    @property
    def waiting(self) -> int:
        """Return how many characters are not decided."""
        return len(self._buffer) - self._decided

    @property
    def in_key(self) -> bool:
        """Say whether the lines of a private key are passing."""
        return self._key is not None

    def barrier(self) -> list[Op]:
        """End a private key here, and return what is decided: what follows is another text that stands close by."""
        while self._key is not None and self._step(final=True):
            pass
        return self._taken()

    # --- the order of things ------------------------------------------------------------------------------------

    def _advance(self, *, final: bool) -> list[Op]:
        while self._step(final=final):
            pass
        return self._taken()

    def _taken(self) -> list[Op]:
        cut = min(self._base, self._word - CONTEXT_CHARS)
        if cut > WINDOW_CHARS:
            self._buffer = self._buffer[cut:]
            self._word -= cut
            self._decided -= cut
            self._sought -= cut
            self._heard = max(0, self._heard - cut)
            self._keywords = [end - cut for end in self._keywords if end >= cut]
            self._base = max(0, self._base - cut)
            self._no_key = max(0, self._no_key - cut)
            if self._open is not None:
                self._open -= cut
            if self._key is not None:
                self._key.at -= cut
        ops, self._ops = self._ops, []
        return ops

    def _step(self, *, final: bool) -> bool:
        """Decide what can be decided in the present state; say whether that led to another one."""
        buffer = self._buffer
        if self._key is not None:
            return self._follow_key(self._key, final=final)
        if self._runs_on:
            end = _end_of(_RUNS_ON, buffer, self._decided, len(buffer))
            self._emit(end, "")
            self._begin_word(end)
            self._runs_on = end == len(buffer) and not final
            return not self._runs_on
        if buffer.find("-", self._decided) < 0:
            # No private key begins here, and none may.
            return self._words(len(buffer), closed=final, final=final)
        line = private_key.begin(buffer, max(self._decided, self._no_key))
        if line is not None:
            if self._words(line.start(), closed=True):
                return True
            self._key = _Key(line.end(), self._rules.judge(private_key.RULE, line[0]))
            return True
        limit = len(buffer) if final else private_key.cut_begin(buffer, self._decided)
        return self._words(limit, closed=final, final=final)

    def _follow_key(self, key: _Key, *, final: bool) -> bool:
        buffer = self._buffer
        if not key.confirmed:
            confirmed = private_key.confirmed(buffer, key.at)
            if confirmed is None and not final:
                return False
            if not confirmed or key.action is Action.OFF:
                self._key, self._no_key = None, key.at
                return True
            key.confirmed, key.offset = True, self._released
            masked = key.action is not Action.OBSERVE
            self._emit(key.at, placeholder(private_key.RULE) if masked else None)
            self._follow(key, confirmed)
        end, ends = private_key.key_end(buffer, key.at)
        self._follow(key, end)
        if ends is None and not final:
            return False
        self.found.append(Found(private_key.RULE, key.offset, key.action, private_key.body(key.text)))
        self._key = None
        return True

    def _follow(self, key: _Key, end: int) -> None:
        key.text += self._buffer[key.at : min(end, key.at + _KEY_CHARS - len(key.text))]
        self._emit(end, None if key.action is Action.OBSERVE else "")
        key.at = end
        self._begin_word(end)

    # --- words --------------------------------------------------------------------------------------------------

    def _words(self, limit: int, *, closed: bool, final: bool = False) -> bool:
        """Decide all that is complete before `limit`, and let go what can begin no secret.

        Say whether a secret turned out to run on.
        """
        end = limit if closed else self._last_end(limit)
        if end > self._word and self._decide(end, closed=closed, final=final):
            return True
        if closed:
            return False
        while limit - self._word > WINDOW_CHARS:
            if self._decide_part(clean=False):
                return True
        self._emit(max(self._decided, self._waits_from(limit)), None)
        return False

    def _last_end(self, limit: int) -> int:
        """Return where the last complete word ends before `limit`, its end included; 0 where none does."""
        if self._rules.groups and limit and self._buffer[limit - 1].isspace():
            limit -= 1  # whether a group follows is not known yet
        sought, self._sought = self._sought, max(limit, self._sought)
        last = _LAST_END[self._ends].match(self._buffer, sought, limit)
        return 0 if last is None else last.end()

    @property
    def _ends(self) -> re.Pattern[str]:
        return _END_OF_WORD_OR_GROUP if self._rules.groups else _END_OF_WORD

    def _decide(self, end: int, *, closed: bool, final: bool) -> bool:
        """Decide the words up to `end`, all of them complete; say whether a secret runs on from there.

        With `closed` the last may end without a delimiter, with `final` nothing follows it.
        """
        if not closed and self._decided >= end - 1 and end <= self._base + SEGMENT_CHARS:
            # All of them left already, and windows begin where they did.
            self._emit(end, None)
            self._begin_word(end)
            return False
        # One scan acquits a large text; windows begin in it where they would have begun otherwise.
        size = end - self._word
        clean = size > WINDOW_CHARS // 2 and not self._suspects(end, at_end=final)
        if size > 2 * WINDOW_CHARS and not clean:
            half = self._ends.search(self._buffer, self._word + size // 2, end)
            if half is not None and half.end() < end:
                runs_on = self._decide(half.end(), closed=False, final=False)
                return runs_on or self._decide(end, closed=closed, final=final)
        if clean:
            self._pass_clean(end)
        while self._word < end:
            stop, is_word = self._together(end)
            if stop - self._word > WINDOW_CHARS:
                if self._decide_part(clean=clean):
                    return True
                continue
            last = stop if closed and stop == end else stop - 1
            if not clean and self._decided < last and self._may_hold(last, stop):
                at_end = final and stop == end
                if is_word:
                    self._mask(self._spans(stop, last, at_end=at_end))
                else:
                    self._decide_words(stop, last, at_end=at_end)
            self._emit(stop, None)
            self._begin_word(stop)
        return False

    def _may_hold(self, last: int, stop: int) -> bool:
        """Say whether the words up to `last` may hold a secret: nearly all are short, and nothing announces one."""
        anchors, buffer = self._rules.anchors, self._buffer
        if last - self._word < MIN_WORD_CHARS:
            return False
        if not anchors.shortest or self._rules.groups or self._keyword(stop) is not None:
            return True
        for literal in self._rules.literals:
            if buffer.find(literal, self._base, stop) >= 0:
                return True
        return anchors.long_word.search(buffer, self._word, last) is not None

    def _pass_clean(self, end: int) -> None:
        """Let words up to `end` leave in which nothing was found; stop before one that may be longer than a window."""
        ends = self._ends
        while end > (turn := self._base + SEGMENT_CHARS):
            found = ends.search(self._buffer, max(self._word, turn), end)
            if found is None or found.start() - turn > WINDOW_CHARS - SEGMENT_CHARS:
                return
            self._emit(found.end(), None)
            self._begin_word(found.end())

    def _together(self, end: int) -> tuple[int, bool]:
        """Return up to where words can be looked at together, and whether that is only one; all are complete at `end`.

        They share where their windows begin, and none of several is longer than a window.
        """
        buffer, ends = self._buffer, self._ends
        first = ends.search(buffer, self._word, end)
        if first is None or first.end() == end or first.end() - self._word > WINDOW_CHARS:
            return (end if first is None else first.end()), True
        turn = self._base + SEGMENT_CHARS
        if end <= turn:
            return end, False
        found = ends.search(buffer, max(self._word, turn), end)
        stop = end if found is None else found.end()
        if stop - self._word > WINDOW_CHARS:
            # The last of them is long: the others first.
            for found in ends.finditer(buffer, self._word, turn):
                stop = found.end()
        return stop, stop == first.end()

    def _decide_words(self, stop: int, last: int, *, at_end: bool) -> None:
        """Decide the words up to `stop`: what is found there at all says which of them to look at by themselves."""
        buffer, ends = self._buffer, self._ends
        for place in self._suspects(stop, at_end=at_end):
            start = max(place.start, self._word)
            for before in ends.finditer(buffer, self._word, start):
                self._begin_word(before.end())
            while self._word < min(place.end, last):
                delimiter = ends.search(buffer, self._word, stop)
                end, after = (stop, stop) if delimiter is None else delimiter.span()
                if end - self._word >= MIN_WORD_CHARS:
                    self._mask(self._spans(after, end, at_end=at_end and after == stop))
                self._begin_word(after)

    def _decide_part(self, *, clean: bool) -> bool:
        """Decide the first part of a word that is longer than a window; say whether a secret runs on from there."""
        end = self._word + WINDOW_CHARS
        keep = end - _OVERLAP_CHARS
        spans = [] if clean else [span for span in self._spans(end, end, at_end=True) if span.start < keep]
        self._mask(spans)
        self._runs_on = bool(spans) and spans[-1].end == end and spans[-1].action is not Action.OBSERVE
        if not self._runs_on:
            self._emit(max(keep, self._decided), None)
        self._begin_word(end if self._runs_on else keep)
        return self._runs_on

    def _begin_word(self, at: int) -> None:
        self._word = at
        self._sought = max(at, self._sought)
        self._open = None
        self._settled = False
        if at - self._base > SEGMENT_CHARS:
            self._base = at - CONTEXT_CHARS

    def _waits_from(self, limit: int) -> int:
        """Return from where on the word that begins at `_word` has to wait; `limit` where all of it may leave."""
        if not self._settled and self._word < limit:
            if self._open is None:
                self._open = self._keyword(limit)
            waits = limit if self._open is None else self._open
            first = self._first_beginning(max(self._word, self._decided), waits, limit)
            if first < waits and limit - first < HEAD_CHARS:
                return first
            self._open = min(first, waits) if first < limit else self._open
            self._settled = self._open is not None
        return limit if self._open is None else self._open

    def _maskable_from(self, start: int, end: int) -> int:
        """Return the first place of a complete word that waited for its end."""
        keyword = self._keyword(end)
        waits = end if keyword is None else keyword
        return min(waits, self._first_beginning(start, waits, end))

    def _keyword(self, limit: int) -> int | None:
        """Return from where on a keyword has the present word wait, by the letters up to `limit`."""
        anchors, word = self._rules.anchors, self._word
        if anchors.wide:
            return word
        if self._heard < limit:
            longest = anchors.longest_keyword
            start = max(0, self._heard - longest, word - longest - anchors.reach)
            self._keywords += [
                start + end for end in anchors.keyword_ends(self._buffer[start:limit]) if start + end > self._heard
            ]
            self._heard = limit
        if not self._keywords:
            return None
        self._keywords = near = [end for end in self._keywords if word - end <= anchors.reach]
        return max(word, near[0]) if near and near[0] <= limit else None

    def _first_beginning(self, start: int, before: int, end: int) -> int:
        """Return the first place from `start` on where a secret may begin, by the letters up to `end`, or `before`."""
        if start >= before:
            return before
        buffer, anchors, literals = self._buffer, self._rules.anchors, self._rules.literals
        first = before
        for place in _BOUNDARY.finditer(buffer, start, before):
            at = place.start()
            if anchors.begins(buffer, at, end) or (literals and _begins_literal(buffer, at, end, literals)):
                first = at
                break
        if anchors.odd:
            first = min(first, max(start, _end_of(_LIKE_WORDS, buffer, self._word, end)))
        for literal in literals:
            # The head itself may have left.
            at = buffer.find(literal[:_LITERAL_HEAD], max(self._word, start - _LITERAL_HEAD), end)
            if at >= 0:
                first = min(first, at + _LITERAL_HEAD)
        return first

    # --- scans --------------------------------------------------------------------------------------------------

    def _suspects(self, end: int, *, at_end: bool) -> list[Hit]:
        """Return what may be in the window that ends at `end`, by place in the buffer; see `_window`."""
        window, data = self._window(end, at_end=at_end)
        return self._places(window, data, self._rules.suspects(data))

    def _scan(self, end: int, *, at_end: bool) -> list[Hit]:
        """Return what is found in the present word, as `_suspects` does."""
        window, data = self._window(end, at_end=at_end)
        since = self._word - self._base
        if len(data) > len(window) + 1:
            since = len(window[:since].encode("utf-8", "surrogatepass"))
        return self._places(window, data, self._rules.scan(data, since))

    def _window(self, end: int, *, at_end: bool) -> tuple[str, bytes]:
        window = self._buffer[self._base : end]
        # Where more text follows, no rule must take the window's end for that of the text.
        return window, (window if at_end else window + " ").encode("utf-8", "surrogatepass")

    def _places(self, window: str, data: bytes, hits: list[Hit]) -> list[Hit]:
        base, end = self._base, self._base + len(window)
        if hits and len(data) > len(window) + 1:
            hits = [Hit(hit.rule, _chars(data, hit.start), _chars(data, hit.end)) for hit in hits]
        hits = [Hit(hit.rule, base + hit.start, min(end, base + hit.end)) for hit in hits]
        for literal in self._rules.literals:
            at = window.find(literal)
            while at >= 0:
                hits.append(Hit(GATEWAY_RULE, base + at, base + at + len(literal)))
                at = window.find(literal, at + 1)
        return sorted(hits, key=_BY_START) if len(hits) > 1 and self._rules.literals else hits

    def _spans(self, right: int, end: int, *, at_end: bool) -> list[_Span]:
        """Return what is to be done in the present word, which ends at `end`, in order and apart.

        Its window ends at `right`.
        """
        start = self._word
        hits = [hit for hit in self._scan(right, at_end=at_end) if hit.end > start and hit.start < end]
        if not hits:
            return []
        first = max(self._decided, self._maskable_from(start, end))
        spans = []
        for hit in hits:
            secret = self._buffer[hit.start : hit.end]
            action = Action.MASK if hit.rule == GATEWAY_RULE else self._rules.judge(hit.rule, secret)
            if action is not Action.OFF and hit.end > first:
                spans.append(_Span(max(first, hit.start), min(end, hit.end), hit.rule, action, secret))
        return _merged(spans)

    # --- results ------------------------------------------------------------------------------------------------

    def _mask(self, spans: Sequence[_Span]) -> None:
        for span in spans:
            self._emit(span.start, None)
            self.found.append(Found(span.rule, self._released, span.action, span.secret))
            self._emit(span.end, None if span.action is Action.OBSERVE else placeholder(span.rule))

    def _emit(self, end: int, text: str | None) -> None:
        """Decide what is not decided before `end`: it stays, or `text` takes its place."""
        count = end - self._decided
        if count <= 0:
            return
        self._ops.append(Op(count, text))
        self._released += count if text is None else len(text)
        self._decided = end


def _merged(spans: list[_Span]) -> list[_Span]:
    """Join what overlaps: the strictest action holds, and of its rules the one is named that says most."""
    merged: list[_Span] = []
    for span in sorted(spans, key=lambda one: (one.start, -one.end)):
        last = merged[-1] if merged else None
        if last is None or span.start >= last.end:
            merged.append(span)
            continue
        best = max((last, span), key=_weight)
        merged[-1] = _Span(last.start, max(last.end, span.end), best.rule, best.action, best.secret)
    return merged


def _weight(span: _Span) -> tuple[int, bool, bool, int, str]:
    by_name = span.rule.startswith(_BY_NAME)
    return _STRICTNESS[span.action], span.rule == GATEWAY_RULE, not by_name, len(span.secret), span.rule


# Rules that only know the name before a secret: one that knows the secret itself says more.
_BY_NAME: Final = ("secret", "password")
_STRICTNESS: Final = {Action.OFF: 0, Action.OBSERVE: 1, Action.MASK: 2, Action.BLOCK: 3}


def _begins_literal(buffer: str, at: int, end: int, literals: Sequence[str]) -> bool:
    for literal in literals:
        if buffer.startswith(literal[:1], at):
            piece = buffer[at : min(end, at + 2 * HEAD_CHARS)]
            if literal.startswith(piece) or piece.startswith(literal[: 2 * HEAD_CHARS]):
                return True
    return False


def _end_of(pattern: re.Pattern[str], text: str, at: int, end: int) -> int:
    found = pattern.match(text, at, end)
    return at if found is None else found.end()


_BY_START: Final = operator.attrgetter("start", "end")

_FURTHER_BYTES: Final = bytes(range(0x80, 0xC0))
"""The second and further bytes of a character in UTF-8 (RFC 3629 section 3)."""


def _chars(data: bytes, offset: int) -> int:
    """Turn an offset in UTF-8 into one in characters; inside a character, the next one."""
    return len(data[:offset].translate(None, _FURTHER_BYTES))
