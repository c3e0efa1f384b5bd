"""Export what was recorded, with what proves it, so that an export that was stopped goes on where it was.

What belongs to an export is settled when it begins: the entries below the checkpoints of that moment. They never
change, so documents come in the same order with the same bytes however often it is stopped. It is made in steps, and
the manifest is saved after each: parts of documents; then, log by log, the heads with their inclusion proofs.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import msgspec

from extproc.export import bundle as export_bundle
from extproc.export import proofs as export_proofs
from extproc.export.bundle import Bundle, Line, Position, json_line
from extproc.export.formats import SUFFIX, Format, rendering
from extproc.recording import packing
from extproc.recording.checkpoint import PublicKey
from extproc.recording.entry import read_head
from extproc.recording.facts import microseconds
from extproc.recording.unpacking import unpack
from extproc.store.port import Archive, Ledger, Search, Stored
from extproc.verification.proven import Unproved, newest

PART_DOCUMENTS: Final = 1000
PART_BYTES: Final = 32 << 20
"""A part is held in memory, and made again by an export that was stopped in it."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where an export comes from. `keys` are those that checkpoints are checked with."""

    archive: Archive
    ledger: Ledger
    keys: Sequence[PublicKey]

    def sizes(self) -> dict[str, int]:
        """Return how many entries of each log checkpoints prove now; raises BadCheckpoint."""
        found = {log: newest(self.ledger, log, self.keys) for log in self.ledger.logs()}
        return {log: signed.checkpoint.size for log, signed in found.items() if signed is not None}

    def documents(self, bundle: Bundle) -> Iterator[dict[str, Any] | None]:
        """Yield the documents that a bundle lacks, the oldest first; None for each that no checkpoint proved yet."""
        manifest, done = bundle.manifest, bundle.manifest.position
        search = Search(**manifest.search)
        if done is not None:
            search = replace(search, since=done.at / 1_000_000)
        for document in self.archive.exchanges(search):
            log, index = document["entry"]["log"], document["entry"]["index"]
            if index >= manifest.sizes.get(log, 0):
                yield None
                continue
            at = microseconds(document["opened_at"])
            is_done = done is not None and (at < done.at or (at == done.at and document["id"] in done.ids))
            if index >= manifest.since.get(log, 0) and not is_done:
                yield document


def begin(source: Source, search: Search, wanted: Format, now: float, since: dict[str, int]) -> export_bundle.Manifest:
    """Settle what belongs to an export: what fits the search, below the checkpoints of now, from `since` on."""
    return export_bundle.Manifest(
        v=export_bundle.VERSION,
        format=wanted.value,
        search=asdict(search),
        started_at=microseconds(now),
        since=since,
        sizes=source.sizes(),
    )


def same_search(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two searches, as dictionaries, differ at most in their times, which may be relative to a now."""
    times = {"since": None, "until": None}
    # What a newer version may search by, and an older one did not write down, is not searched by.
    known = dict.fromkeys((*one, *other))
    return {**known, **one, **times} == {**known, **other, **times}


def run(source: Source, bundle: Bundle, progress: Callable[[int, int], None]) -> int:
    """Make what a bundle lacks; return how many exchanges fit and were left out, as no checkpoint proved them yet.

    `progress` is told the documents that are there, and the bytes of the current part. Raises Unproved, BadCheckpoint
    where the record is not what was signed: nothing is exported as proved that is not.
    """
    if bundle.manifest.complete:
        return 0
    left_out = _write_parts(source, bundle, progress)
    export_proofs.write(source.ledger, source.keys, bundle, lambda: _lines(bundle))
    bundle.add(export_bundle.CHECKER, [export_bundle.checker()])
    bundle.manifest.complete = True
    bundle.save()
    return left_out


# --- documents -------------------------------------------------------------------------------------------------------


class _Part:
    """One part of the documents, in memory."""

    def __init__(self, source: Source, wanted: Format) -> None:
        self._source = source
        self._keeps_bodies = wanted is Format.JSONL
        self._rendering = rendering(wanted)
        self._documents = [self._rendering.begin()]
        self._stored: list[bytes] = []
        self._blobs: dict[tuple[str, str], bytes] = {}
        self.lines: list[Line] = []
        self.size = 0

    @property
    def is_full(self) -> bool:
        """Whether the next document belongs to another part."""
        return len(self.lines) >= PART_DOCUMENTS or self.size >= PART_BYTES

    def add(self, document: dict[str, Any]) -> None:
        """Take a document, and what is stored of it."""
        place = document["entry"]
        stored = self._source.ledger.find(document["id"])
        if stored is None or (stored.log, stored.index) != (place["log"], place["index"]):
            raise Unproved(place["log"], f"entry {place['index']} is not where its document says")
        content = self._content(stored, readable="removed" not in document)
        if content == "clear" and self._keeps_bodies and stored.body is not None:
            self._keep(document["id"], document["session"], stored.body)
        self._append(self._documents, self._rendering.add(document))
        self.lines.append(Line(document["id"], document["session"], stored.log, stored.index, content))

    def write(self, bundle: Bundle) -> None:
        """Make the files of the part."""
        number = f"{bundle.manifest.parts + 1:06}"
        suffix = SUFFIX[Format(bundle.manifest.format)]
        bundle.add(f"documents/{number}{suffix}", [*self._documents, self._rendering.end()])
        bundle.add(f"index/{number}.jsonl", (json_line(line) for line in self.lines))
        if self._keeps_bodies:
            bundle.add(f"stored/{number}.jsonl", self._stored)
        bundle.manifest.parts += 1

    def _content(self, stored: Stored, *, readable: bool) -> str:
        head = read_head(stored.head)
        if head.body is None:
            return "none"
        if readable:
            return "clear" if head.key is None else "encrypted"
        if stored.body is None:
            return "gone"
        if head.key is None:
            raise Unproved(head.log, f"what the store has as content of entry {head.index} is not what was recorded")
        return "erased" if self._source.ledger.key(head.session, head.key) is None else "unreadable"

    def _keep(self, exchange: str, session: str, body: bytes) -> None:
        """Keep a body and its blobs; each blob once per part."""

        def get(addresses: Collection[str]) -> dict[str, bytes]:
            lacking = [one for one in addresses if (session, one) not in self._blobs]
            for address, data in sorted(self._source.ledger.blobs(session, lacking).items()):
                self._blobs[session, address] = data
                encoded = base64.b64encode(data).decode()
                self._append(self._stored, json_line({"session": session, "blob": address, "data": encoded}))
            return {one: self._blobs[session, one] for one in addresses if (session, one) in self._blobs}

        packed, _ = packing.parts_of(body)
        unpack(packed, get)
        self._append(self._stored, json_line({"id": exchange, "body": base64.b64encode(body).decode()}))

    def _append(self, where: list[bytes], data: bytes) -> None:
        where.append(data)
        self.size += len(data)


def _write_parts(source: Source, bundle: Bundle, progress: Callable[[int, int], None]) -> int:
    manifest, left_out = bundle.manifest, 0
    if manifest.logs:
        return 0
    part = _Part(source, Format(manifest.format))
    position = manifest.position or Position(-1, [])
    for document in source.documents(bundle):
        if document is None:
            left_out += 1
            continue
        part.add(document)
        at = microseconds(document["opened_at"])
        ids = [*position.ids, document["id"]] if at == position.at else [document["id"]]
        position = Position(at, ids)
        progress(sum(manifest.contents.values()) + len(part.lines), part.size)
        if part.is_full:
            _finish(part, bundle, position)
            part = _Part(source, Format(manifest.format))
    if part.lines:
        _finish(part, bundle, position)
    return left_out


def _finish(part: _Part, bundle: Bundle, position: Position) -> None:
    part.write(bundle)
    contents = bundle.manifest.contents
    for line in part.lines:
        contents[line.content] = contents.get(line.content, 0) + 1
    bundle.manifest.position = position
    bundle.save()


def _lines(bundle: Bundle) -> Iterator[Line]:
    for number in range(1, bundle.manifest.parts + 1):
        for line in bundle.read(f"index/{number:06}.jsonl").splitlines():
            yield msgspec.json.decode(line, type=Line)
