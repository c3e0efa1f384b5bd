"""Count what of a secret still reaches the client, or the upstream, in every dialect and field, however it was cut.

A secret counts as shown where a piece of it of SHOWN characters, beyond the prefix that all secrets of its provider
have, is in the bytes that leave, in a string of their JSON, or in the text that a client assembles from the events.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from itertools import repeat
from multiprocessing import get_context
from random import Random
from typing import Any, Final

from extproc.endpoint import EndpointKind
from extproc.masking.body import masked_json
from extproc.masking.finding import Direction
from extproc.masking.stream import MaskedStream
from extproc.rules import DIALECTS
from tests.detecting import masking
from tests.masking.bodies import WHOLE, Whole
from tests.masking.corpus import FORMATS, Sample, private_key, samples
from tests.masking.fields import STREAMED, Streamed, compact, decoded, strings, trees_of
from tests.masking.shown import put_in, shows

SEED: Final = 20_240_601
_MAX_EVENT_BYTES: Final = 1 << 20
_LONG: Final = 500
"""A text of more characters (private keys) is not split at every position but at some 250 of them."""


@dataclass(slots=True)
class Leaks:
    """What was tried, and what went wrong: `shown` by field and provider, with the first `example` of each."""

    cases: int = 0
    shown: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)
    """Arguments that were valid JSON and are no more, or texts around a secret that are gone."""

    def note(self, counter: Counter[str], name: str, example: str) -> None:
        """Count a failure; examples are made-up secrets, so they may be shown."""
        counter[name] += 1
        self.examples.setdefault(name, example)

    def results(self) -> dict[str, Any]:
        """Return everything as JSON."""
        shown, unread = self.shown.total(), self.unread.total()
        return {
            "cases": self.cases,
            "shown": shown,
            "share": shown / max(1, self.cases),
            "by_provider": dict(self._by_provider().most_common()),
            "by_field": dict(self.shown.most_common(20)),
            "unread": unread,
            "unread_by_field": dict(self.unread.most_common(20)),
            "examples": dict(list(self.examples.items())[:20]),
        }

    def _by_provider(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for name, count in self.shown.items():
            found[name.split("/")[-2]] += count
        return found


def measure(*, quick: bool) -> dict[str, Any]:
    """Try everything, on all cores; in a quick run each text is cut at a few positions only."""
    # Not forked: the engine may have threads.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        streams = pool.map(_try_streamed, range(len(STREAMED)), repeat(quick))
        bodies = pool.map(_try_whole, range(len(WHOLE)), repeat(quick))
        joined = {"streams": _joined(streams).results(), "bodies": _joined(bodies).results()}
    return {**joined, "providers": len(_corpus())}


def _try_streamed(number: int, quick: bool) -> Leaks:  # noqa: FBT001 - an argument of `map`
    leaks = Leaks()
    for at, sample in enumerate(_forms(_corpus(), number)):
        _split_everywhere(STREAMED[number], sample, leaks, step=37 if quick else 1)
        if not quick or at % 10 == number % 10:
            text = put_in(sample.text, is_json=STREAMED[number].is_json)
            _try(STREAMED[number], sample, leaks, text)
    return leaks


def _try_whole(number: int, quick: bool) -> Leaks:  # noqa: FBT001 - as above
    leaks = Leaks()
    for forms in _corpus().values():
        for sample in [forms[number % len(forms)]] if quick else forms:
            _in_whole(WHOLE[number], sample, leaks)
    return leaks


def _joined(parts: Iterable[Leaks]) -> Leaks:
    joined = Leaks()
    for part in parts:
        joined.cases += part.cases
        joined.shown += part.shown
        joined.unread += part.unread
        joined.examples |= part.examples
    return joined


def masked_stream(kind: EndpointKind, chunks: Sequence[bytes]) -> bytes:
    """Return what leaves of an answer that arrives in `chunks`."""
    stream = MaskedStream(DIALECTS[kind], masking().masker(Direction.ANSWER), max_event_bytes=_MAX_EVENT_BYTES)
    return b"".join([*map(stream.feed, chunks), stream.finish()])


def blob_of(out: bytes, where: Streamed | None) -> tuple[str, str]:
    """Return all that can be read in the bytes of a stream, and the text of the field."""
    trees = list(trees_of(out))
    joined = "" if where is None else where.joined(trees)
    # Without escapes every string of the JSON stands in the bytes as it is.
    texts = [text for tree in trees for text in strings(tree)] if b"\\" in out else []
    return "\0".join([out.decode("utf-8", "replace"), joined, *texts]), joined


@cache
def _corpus() -> dict[str, list[Sample]]:
    corpus: dict[str, list[Sample]] = {}
    for sample in samples(SEED):
        corpus.setdefault(sample.provider, []).append(sample)
    pem = private_key(Random(SEED))  # noqa: S311 - test data, the same for the same seed
    body = "".join(pem.splitlines()[1:-1])
    corpus["private-key"] = [Sample("private-key", "file", f"key.pem:\n{pem}\nand so on\n", body)]
    return corpus


def _forms(corpus: dict[str, list[Sample]], number: int) -> Iterator[Sample]:
    """Yield one sample of each provider, in another form for every field; of assignments all."""
    for at, (provider, forms) in enumerate(corpus.items()):
        if provider in FORMATS:
            yield forms[(at + number) % len(forms)]
        else:
            yield from forms


def _split_everywhere(where: Streamed, sample: Sample, leaks: Leaks, *, step: int) -> None:
    text = put_in(sample.text, is_json=where.is_json)
    step = max(step, len(text) // 250 if len(text) > _LONG else 1)
    # In a sampling run the first position differs from text to text, so that all offsets have their turn.
    for at in range(1 + len(text) % step, len(text), step):
        _try(where, sample, leaks, (text[:at], text[at:]))
    _try(where, sample, leaks, (text,))


def _try(where: Streamed, sample: Sample, leaks: Leaks, pieces: Sequence[str]) -> None:
    """Send a text in `pieces` and see what arrives."""
    leaks.cases += 1
    blob, joined = blob_of(masked_stream(where.kind, [where.stream(pieces)]), where)
    name = f"{where.kind}/{where.name}/{sample.provider}/{sample.form}"
    shown = shows(blob, sample)
    if shown or (where.is_json and not isinstance(decoded(joined.encode("utf-8", "replace")), dict)):
        cut = f"{len(pieces)} pieces, the first of {len(pieces[0])}"
        leaks.note(leaks.shown if shown else leaks.unread, name, f"{cut}: {sample.text!r} -> {joined!r}")


def _in_whole(whole: Whole, sample: Sample, leaks: Leaks) -> None:
    body = compact(whole.tree(put_in(sample.text, is_json=whole.is_json)))
    name = f"{whole.direction}/{whole.kind}/{whole.name}/{sample.provider}/{sample.form}"
    out = masked_json(body, masking().masker(whole.direction), DIALECTS[whole.kind])
    outs = [out]
    if whole.kind is EndpointKind.MCP and whole.direction is Direction.ANSWER:
        event = b"event: message\ndata: " + body + b"\n\n"
        outs += [
            masked_stream(whole.kind, [event]),
            masked_stream(whole.kind, [event[at : at + 1] for at in range(len(event))]),
        ]
    for one in outs:
        leaks.cases += 1
        tree = decoded(out)
        if shows("\0".join([one.decode("utf-8", "replace"), *strings(tree)]), sample):
            leaks.note(leaks.shown, name, f"{sample.text!r} -> {one.decode()!r}")
        elif isinstance(tree, str):
            leaks.note(leaks.unread, name, f"{sample.text!r} -> {one.decode()!r}")
