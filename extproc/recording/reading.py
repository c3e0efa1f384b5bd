"""Make the document that readers see of what is stored of an entry, whatever is left of that. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from extproc.recording import document as exchange
from extproc.recording.entry import Head, Kind, WrappedKey, address_of
from extproc.recording.envelope import CannotOpen, DataKey, Envelope
from extproc.recording.packing import Corrupt, identity, parts_of
from extproc.recording.unpacking import Missing, Parts, unpack

Blobs = Callable[[str, Collection[str]], dict[str, bytes]]
"""Return those blobs of a session that are there, as `Ledger.blobs`."""

Key = Callable[[str, str], WrappedKey | None]
"""Return a data key of a session, None where it was erased, as `Ledger.key`."""


def document(
    head: Head,
    body: bytes | None,
    *,
    blobs: Blobs,
    key: Key,
    envelope: Envelope | None,
    parts: Parts | None = None,
) -> dict[str, Any]:
    """Return the document of an entry: for an exchange, that of `extproc.recording.document.merged`.

    Where its content cannot be shown it is `id`, `session`, `opened_at` (unix seconds), `kind`, `facts` and `removed`,
    which says in words why; so too for entries that are no exchange, of which the content is in the facts, without
    `removed`. Each has `entry`, with `log` and `index`. What `blobs`, `key` and the envelope raise passes, except
    `CannotOpen`. With `parts`, documents of the same session share what is kept in them, and nobody changes it.
    """
    place = {"log": head.log, "index": head.index}
    short = {
        "id": head.id,
        "session": head.session,
        "opened_at": head.at / 1_000_000,
        "kind": head.kind.value,
        "facts": head.facts,
        "entry": place,
    }
    if head.kind is not Kind.EXCHANGE:
        return short
    try:
        opening, closing = _content(head, body, blobs, key, envelope, parts=parts)
    except (_Gone, Missing, Corrupt, CannotOpen) as error:
        return {**short, "removed": str(error)}
    return {**exchange.merged(opening, closing), "entry": place}


class _Gone(Exception):
    """Say why there is no content."""


def _content(
    head: Head, body: bytes | None, blobs: Blobs, key: Key, envelope: Envelope | None, *, parts: Parts | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return opening and closing; raises _Gone, Missing, Corrupt, CannotOpen."""
    if head.body is None:
        raise _Gone("only these facts of it were recorded")
    if body is None:
        raise _Gone("its content was removed from the store")
    if address_of(body) != head.body:
        raise Corrupt("what the store has as its content is not what was recorded: verify the store")
    reveal = identity if head.key is None else _opened(head, head.key, key, envelope).reveal
    packed, closing = parts_of(reveal(body))
    opening = unpack(packed, lambda addresses: blobs(head.session, addresses), reveal, parts=parts)
    if opening.get("id") != head.id:
        raise Corrupt("its content is that of another exchange, or of none: verify the store")
    return opening, closing


def _opened(head: Head, key_id: str, key: Key, envelope: Envelope | None) -> DataKey:
    wrapped = key(head.session, key_id)
    if wrapped is None:
        raise _Gone("the key that its content was encrypted with was erased: nobody can read it any more")
    if envelope is None:
        raise _Gone("its content is encrypted, and the key to it is not configured here")
    return envelope.open(wrapped)
