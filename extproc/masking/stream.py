"""Mask a streamed answer: events come in as the upstream cut them, and leave as the same events, in their order.

An event waits until all its text, and that of the events before it, is decided. What was taken out of a text that is
spread over events is replaced in the event where it began; the others lose it. An event that needs no change leaves
with exactly the bytes it came with. An event with several lines of data that some clients read one by one is written
anew: on one line, or, where it is no JSON object together, as an event for each line. Once anything was masked, no
`logprobs` pass. Pure.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from extproc import json_body
from extproc.approval.gate import Gate
from extproc.approval.touch import Touch
from extproc.conversation import Answer, Piece
from extproc.dialect.port import AnswerStream, Dialect, Reading, Slot
from extproc.dialect.sse import SseEvent, SseParser, is_clean, is_usual, rewritten
from extproc.masking.alike import Alike, Said
from extproc.masking.channel import Op
from extproc.masking.finding import Action, blocked_message
from extproc.masking.lines import Line, Part, Waiting, WaitingAlike
from extproc.masking.masker import Masker
from extproc.masking.tree import TreeMasker, drop_logprobs

_BLANK_LINE: Final = re.compile(rb"(?:\n\n|\r\n\r\n|\r\r|\n\r\n)\Z")

_MAX_MISSES: Final = 32
"""After so many events that were like none before, a stream is taken for one whose events are all different."""

_MAX_CLEAN_LINES: Final = 64
"""So many lines beside the data (`event: ping`) are remembered to have nothing in them."""


class MaskedStream:
    """Mask one streamed answer of a dialect and gather what is said in it.

    After a finding that policy blocks, the answer is ended in the dialect's own way, and what else comes is dropped.
    """

    def __init__(
        self,
        dialect: Dialect,
        masker: Masker,
        *,
        max_event_bytes: int,
        is_privileged: Callable[[Touch], bool] | None = None,
    ) -> None:
        """Start a stream; with `is_privileged`, what may touch something privileged is kept until somebody decides."""
        self.masker = masker
        self._gate: Gate[Waiting | WaitingAlike] | None = (
            None if is_privileged is None else Gate(dialect.stream(), is_privileged)
        )
        self._finished = False
        self.pieces: list[Piece] = []
        """The texts that left since somebody last emptied this list."""
        self.oldest: float | None = None
        """When the first event came that is decided since somebody last took this away."""
        self._answers: AnswerStream = dialect.stream()
        self._tree = TreeMasker(masker, dialect.opaque, dialect.json_texts)
        self._parser = SseParser(max_event_bytes)
        self._lines: dict[str, Line] = {}
        self._queue: deque[Waiting | WaitingAlike] = deque()
        # What is like the last event, if there may be more of it, and how many events in a row that was nothing.
        self._like: Alike | None = None
        self._misses = 0
        self._max_event_bytes = max_event_bytes
        # What is blocked leaves what came before it alone: then texts are looked at event by event.
        self._may_join = not masker.may_block()
        # The text that spoke last, by its speaker: the first part of the channel's name.
        self._speaking: dict[str, str] = {}
        self._ended = False
        # Whether anything was masked in a text; lines that have nothing in them; the last bytes that left.
        self._masked = False
        self._clean_lines: set[bytes] = set()
        self._tail = b"\n\n"

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes and return what may go to the client; raises `EventTooLarge`."""
        if self._misses >= _MAX_MISSES or len(data) > self._max_event_bytes:
            # An event that is too large has all be refused that came with it.
            return self._take(self._parser.feed(data))
        released: list[bytes] = []
        at = 0
        while at < len(data):
            if self._like is not None and self._parser.is_idle:
                together = self._like.together(data, at) if self._may_join else None
                if together is not None:
                    self._misses = 0
                    released.append(self._take_together(self._like, together))
                    at += len(together.raw)
                    continue
                said, at = self._like.run(data, at)
                if said:
                    self._misses = 0
                    released.append(self._take_alike(self._like, said))
                    continue
            # One event at a time, so that the next may be like it.
            end = data.find(b"\n\n", at) + 2
            end = end if end > 1 else len(data)
            released.append(self._take(self._parser.feed(data[at:end])))
            at = end
        return released[0] if len(released) == 1 else b"".join(released)

    def finish(self) -> bytes:
        """Take the end of the stream and return the rest."""
        released = self._take(self._parser.finish())
        self._close("")
        self._finished = True
        rest = self._leave()
        if self._gate is not None and not self._ended:
            rest += self._all_sent(self._gate.finish())
        # What came last may have no blank line, and pass what waits.
        apart = b"\n\n" if released and rest and not _BLANK_LINE.search(self._tail) else b""
        return released + self._sending(apart + rest)

    def answer(self) -> Answer:
        """Return all that went to the client so far."""
        return self._answers.answer()

    @property
    def is_complete(self) -> bool:
        """Say whether what ends the answer went to the client."""
        return self._answers.is_complete

    @property
    def holding(self) -> bool:
        """Say whether anything waits."""
        return bool(self._queue) or (self._gate is not None and self._gate.keeping)

    def asks(self) -> Answer | None:
        """Return the answer so far where what is kept of it is known, so that it can be judged."""
        if self._gate is None or self._ended or (self._queue and not self._finished):
            return None
        return self._gate.asks(ended=self._finished)

    def release(self) -> bytes:
        """Return what was kept: it may go on as if nothing had been."""
        if self._gate is None or self._ended:
            return b""
        released = self._all_sent(self._gate.open())
        # A comment that the stream was cut off in may have left before.
        apart = b"" if self._tail.endswith((b"\n", b"\r")) else b"\n"
        return self._sending(apart + released if released else b"")

    def refuse(self, text: str) -> bytes:
        """Return the end of the answer without what was kept, `text` its last words; what else comes is dropped."""
        return self._sending(self._end(text))

    # --- events in ----------------------------------------------------------------------------------------------

    def _take(self, events: list[SseEvent]) -> bytes:
        released: list[bytes] = []
        for event in events:
            if self._ended:
                break
            if event.data is None:
                # A comment keeps the connection alive, and so must not wait.
                released.append(self._sending(self._beside_data(event).raw))
            else:
                self._read(event, event.data)
            released.append(self._sending(self._leave()))
        return b"".join(released)

    def _take_alike(self, like: Alike, said: list[Said]) -> bytes:
        """Take events that are like the last one: their text is all there is to look at."""
        released: list[bytes] = []
        for run in [said] if self._may_join else [[one] for one in said]:
            if self._ended:
                break
            ops = self._lines[like.channel].take_alike("".join([one.text for one in run]))
            released.append(self._add_alike(like, run, ops))
        return b"".join(released)

    def _take_together(self, like: Alike, said: Said) -> bytes:
        """Take several such events as one, unless masking or approval has to see them one by one."""
        ops = self._lines[like.channel].take_alike(said.text)
        # The gate knows of code blocks only in what it has taken.
        may_join = self._gate is None or (not self._queue and self._gate.may_take_at_once(said.text))
        is_one = ops is None and may_join
        return self._add_alike(like, [said] if is_one else like.run(said.raw, 0)[0], ops)

    def _add_alike(self, like: Alike, said: list[Said], ops: list[Op] | None) -> bytes:
        """Add events whose text a line has taken, with what it decided (None: all passes); return what may go."""
        line, at = self._lines[like.channel], self.masker.at
        events = [WaitingAlike(like, one, one.text, at) for one in said]
        self._queue += events
        if ops is not None:
            line.add_alike(events, ops)
        self._note(line)
        return self._sending(self._leave())

    def _sending(self, data: bytes) -> bytes:
        if data:
            self._tail = data[-4:] if len(data) >= 4 else (self._tail + data)[-4:]
        return data

    def _beside_data(self, event: SseEvent) -> SseEvent:
        """Return an event with what stands beside its data masked: comments, its type and id."""
        if is_usual(event):
            return event
        if not is_clean(event):
            event = SseEvent(rewritten(event, event.data or b""), event.event, event.data)
        lines = event.raw.splitlines(keepends=True)
        if len(lines) == 2 and lines[0].startswith(b"data:"):
            return event
        masked = [line if line.startswith(b"data") else self._line_beside(line) for line in lines]
        return event if masked == lines else SseEvent(b"".join(masked), event.event, event.data)

    def _line_beside(self, line: bytes) -> bytes:
        if line in self._clean_lines:
            return line
        text = line.decode("utf-8", "surrogateescape")
        masked = self.masker.text(text, "sse")
        if masked == text and len(self._clean_lines) < _MAX_CLEAN_LINES and len(line) <= _MAX_CLEAN_LINES:
            self._clean_lines.add(line)
        return masked.encode("utf-8", "surrogateescape")

    def _read(self, event: SseEvent, data: bytes) -> None:
        came, event = event, self._beside_data(event)
        self._like = None
        tree = json_body.decoded(data)
        lines = data.count(b"\n")
        if not isinstance(tree, dict) and lines:
            for line in data.split(b"\n"):
                raw = rewritten(event, line)
                whole = raw if _BLANK_LINE.search(raw) else raw.rstrip(b"\r\n") + b"\n\n"
                self._read(SseEvent(whole, event.event, line), line)
            return
        if not isinstance(tree, dict):
            self._read_text(event, data)
            return
        reading = self._answers.read(event.event, tree)
        waiting = Waiting(event, tree, self.masker.at)
        skip = self._add(reading, waiting)
        for prefix in reading.closes:
            self._close(prefix)
        if self._tree.mask(tree, skip):
            waiting.changed = self._masked = True
        waiting.changed |= bool(lines) or json_body.repeats(data, tree, self._tree.members)
        self._queue.append(waiting)
        if self._tree.is_clean and came is event and not (waiting.changed or reading.closes):
            self._expect_more(event, tree, reading.slots)

    def _expect_more(self, event: SseEvent, tree: dict[str, Any], slots: list[Slot]) -> None:
        """Remember an event that only adds to one text, and has nothing else in it that was masked or noted."""
        if len(slots) != 1 or self._misses >= _MAX_MISSES:
            return
        self._misses += 1
        more = self._answers.more(event.event, tree)
        lines = event.raw.splitlines(keepends=True)
        beside = [] if is_usual(event) else [line for line in lines if not line.startswith(b"data")]
        if more is None or not self._clean_lines.issuperset(beside):
            return
        if b"logprobs" in event.raw and drop_logprobs(json_body.decoded(event.data or b"")):
            return
        with suppress(ValueError):
            self._like = Alike(event, tree, slots[0], more, self.masker.holds_ours)

    def _add(self, reading: Reading, waiting: Waiting) -> set[tuple[int, str | int]]:
        skip: set[tuple[int, str | int]] = set()
        for slot in reading.slots:
            self._settle_others(slot.channel)
            line = self._lines.get(slot.channel)
            if line is None:
                line = self._lines[slot.channel] = Line(slot.channel, self.masker.channel(slot.form))
            skip.add((id(slot.holder), slot.key))
            line.add(Part(waiting, slot.holder, slot.key, slot.holder[slot.key]))
            self._note(line)
        return skip

    def _settle_others(self, name: str) -> None:
        """Let the text go on its way that a speaker turns from, say when a tool call follows it."""
        speaker = name.partition(".")[0]
        before = self._speaking.get(speaker)
        if before != name:
            self._speaking[speaker] = name
            if before is not None and (line := self._lines.get(before)) is not None:
                line.apply(line.channel.settle())

    def _read_text(self, event: SseEvent, data: bytes) -> None:
        bare = data.strip()
        if bare in {b"", b"[DONE]"}:
            if bare:
                self._close("")
            self._queue.append(Waiting(event, None, self.masker.at))
            return
        # No JSON object: some clients skip it, some show it. It is one text over all such events.
        tree = {"data": data.decode("utf-8", "surrogateescape")}
        waiting = Waiting(event, tree, self.masker.at, unparsed=True)
        self._add(Reading([Slot(tree, "data", "unparsed")]), waiting)
        self._queue.append(waiting)

    # --- events out ---------------------------------------------------------------------------------------------

    def _leave(self) -> bytes:
        """Return the bytes of all events that may leave now."""
        if self.masker.blocked is not None:
            return self._end(blocked_message(self.masker.blocked))
        released: list[bytes] = []
        if self.oldest is None and self._queue and not self._queue[0].undecided:
            self.oldest = self._queue[0].at
        while self._queue and not self._queue[0].undecided:
            waiting = self._queue.popleft()
            passes = [waiting] if self._gate is None else self._gate.take(waiting, self._seen(self._gate, waiting))
            released += map(self._sent, passes)
        return b"".join(released)

    def _all_sent(self, events: list[Waiting | WaitingAlike]) -> bytes:
        return b"".join(map(self._sent, events))

    def _seen(self, gate: Gate[Waiting | WaitingAlike], waiting: Waiting | WaitingAlike) -> list[Piece]:
        """Return what an event says that may be kept, and so was not taken."""
        if isinstance(waiting, WaitingAlike):
            return _taken_more(gate.shadow, waiting)
        if waiting.tree is None:
            if (waiting.event.data or b"").strip():
                gate.shadow.done()
            return []
        if waiting.unparsed:
            return gate.shadow.take_unparsed(waiting.tree["data"])
        gate.shadow.read(waiting.event.event, waiting.tree)
        return gate.shadow.take(waiting.event.event, waiting.tree)

    def _sent(self, waiting: Waiting | WaitingAlike) -> bytes:
        if isinstance(waiting, WaitingAlike):
            self.pieces += _taken_more(self._answers, waiting)
            if not waiting.changed:
                return waiting.said.raw
            return rewritten(*waiting.like.written(waiting.said, waiting.text))
        event, tree, data = waiting.event, waiting.tree, waiting.event.data or b""
        if tree is None:
            if data.strip():
                self._answers.done()
        elif waiting.unparsed:
            self.pieces += self._answers.take_unparsed(tree["data"])
            data = tree["data"].encode("utf-8", "surrogateescape")
        else:
            if self._masked:
                waiting.changed |= drop_logprobs(tree)
            self.pieces += self._answers.take(event.event, tree)
            if waiting.changed:
                data = json_body.encoded(tree)
        return rewritten(event, data) if waiting.changed else event.raw

    def _end(self, text: str) -> bytes:
        if self._ended:
            return b""
        self._ended = True
        self._like = None
        self._queue.clear()
        self._lines.clear()
        ending = self._answers.ending(text)
        # What left last may be without its blank line.
        return ending if _BLANK_LINE.search(self._tail) else b"\n\n" + ending

    def _close(self, prefix: str) -> None:
        for name in [name for name in self._lines if name.startswith(prefix)]:
            line = self._lines.pop(name)
            line.apply(line.channel.finish())
            self._note(line)

    def _note(self, line: Line) -> None:
        found = line.channel.found
        if len(found) > line.noted:
            self.masker.note(line.name, found[line.noted :])
            self._masked |= any(one.action is not Action.OBSERVE for one in found[line.noted :])
            line.noted = len(found)


def _taken_more(answers: AnswerStream, waiting: WaitingAlike) -> list[Piece]:
    """Take an event that is like the last one that was taken, or several that were taken as one."""
    pieces = answers.take_more(waiting.like.more.where, waiting.text, waiting.said.varied)
    if pieces is not None:
        return pieces
    like, said = waiting.like, waiting.like.run(waiting.said.raw, 0)[0]
    # Several were taken as one only because nothing in them changed.
    texts = [waiting.text] if len(said) == 1 else [one.text for one in said]
    events = [like.event(one, text) for one, text in zip(said, texts, strict=True)]
    return [piece for event, tree in events for piece in answers.take(event.event, tree)]
