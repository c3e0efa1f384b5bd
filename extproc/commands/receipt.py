"""`extproc receipt`: make what proves offline that an exchange was recorded, and check it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from extproc.commands import access
from extproc.commands.evidence import ConfigOption, KeysOption, ledger_at, places, public_keys
from extproc.commands.options import DEFAULT_STATE, JsonOption, StateOption, print_json
from extproc.errors import ConfigError, ExtprocError
from extproc.recording import receipt as receipts
from extproc.recording.checkpoint import BadCheckpoint, PublicKey, open_note
from extproc.recording.merkle import Frontier, inclusion_proof, leaf_hash
from extproc.recording.receipt import Proved
from extproc.replay import printable
from extproc.store.port import Ledger, Stored
from extproc.verification import proven
from extproc.verification.fault import moment


def receipt(  # noqa: PLR0917 - options, passed by name
    exchange: Annotated[str | None, typer.Argument(help="The id of an exchange.")] = None,
    check: Annotated[Path | None, typer.Option(help="Check this receipt; only it and the public key are read.")] = None,
    with_body: Annotated[bool, typer.Option("--with-body", help="Put what was recorded into it.")] = False,  # noqa: FBT002 - a flag
    out: Annotated[Path | None, typer.Option(help="Where it goes; by default standard output.")] = None,
    public_key: KeysOption = None,
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
    as_json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Make a receipt of an exchange, or check one: exit 0 when it proves something, 1 when not."""
    if (exchange is None) == (check is None):
        raise ConfigError("expected the id of an exchange, or --check and the file of a receipt")
    if check is not None:
        keys = public_keys(places(state, config), public_key)
        try:
            proved = receipts.check(_read(check), keys)
        except receipts.BadReceipt as error:
            raise ExtprocError(f"{check} proves nothing: {error}") from error
        _tell(proved, as_json=as_json)
        return
    where = places(state, config)
    keys = public_keys(where, public_key)
    made = _made(ledger_at(where), keys, exchange or "", with_body=with_body)
    if with_body:
        access.note(where, "receipt", exchange=exchange)
    if out is None:
        sys.stdout.buffer.write(made)
        sys.stdout.buffer.flush()
        return
    try:
        out.touch(mode=0o600)
        out.write_bytes(made)
    except OSError as error:
        raise ConfigError(f"{out}: the receipt cannot be written: {error.strerror}") from error


def _made(ledger: Ledger, keys: Sequence[PublicKey], exchange: str, *, with_body: bool) -> bytes:
    stored = ledger.find(exchange)
    if stored is None:
        raise ExtprocError(f"no exchange has the id {exchange!r}, or it was removed by rule")
    if with_body and stored.body is None:
        raise ExtprocError(f"the body of exchange {exchange!r} was removed")
    note, size = _covering(ledger, keys, stored)
    leaves, prefix = _leaves(ledger, keys, stored, size)
    try:
        proof = inclusion_proof(leaves, stored.index, size, prefix)
    except ValueError as error:
        raise ExtprocError(f"log {stored.log} is not complete: {error}; `extproc verify` says more") from error
    body = stored.body if with_body else None
    made = receipts.make(head=stored.head, size=size, proof=proof, checkpoint=note, body=body)
    try:
        receipts.check(made, keys)
    except receipts.BadReceipt as error:
        raise ExtprocError(f"log {stored.log} is not what was signed: {error}; `extproc verify` says more") from error
    return made


def _covering(ledger: Ledger, keys: Sequence[PublicKey], stored: Stored) -> tuple[str, int]:
    """Return the smallest checkpoint that an entry is below, and its size."""
    for note in ledger.checkpoints(stored.log):
        try:
            checkpoint = open_note(note, keys)
        except BadCheckpoint:
            continue
        if checkpoint.log == stored.log and checkpoint.size > stored.index:
            return note, checkpoint.size
    raise ExtprocError(
        f"no valid checkpoint covers entry {stored.index} of log {stored.log}; that takes seconds after an exchange"
    )


def _leaves(ledger: Ledger, keys: Sequence[PublicKey], stored: Stored, size: int) -> tuple[list[bytes], Frontier]:
    """Return the leaves of the first `size` entries, without those that the frontier says went by rule."""
    prefix: Frontier | None = None
    leaves: list[bytes] = []
    for one in ledger.entries(stored.log, bodies=False):
        if prefix is None:
            is_whole = one.index == 0
            prefix = Frontier() if is_whole else proven.book(ledger, keys).removed().frontier(stored.log)
        if one.index >= size:
            break
        # A removal that was not finished leaves entries that the frontier covers.
        if one.index >= prefix.size:
            leaves.append(leaf_hash(one.head))
    return leaves, prefix or Frontier()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: the receipt cannot be read: {error.strerror}") from error


def _tell(proved: Proved, *, as_json: bool) -> None:
    head, checkpoint = proved.head, proved.checkpoint
    if as_json:
        told = {"log": head.log, "index": head.index, "session": head.session, "at": head.at, "facts": head.facts}
        signed = {"origin": checkpoint.origin, "size": checkpoint.size, "signed_at": checkpoint.at}
        print_json({"id": head.id, **told, **signed, "body": proved.body is not None})
        return
    user = head.facts.get("user")
    lines = [
        f"exchange {head.id} of session {head.session}, {f'by {user}, ' if user else ''}{moment(head.at / 1_000_000)}",
        f"is entry {head.index} of log {head.log}, as {checkpoint.name} signed {moment(checkpoint.at)}.",
        "The body in the receipt is the one that was recorded."
        if proved.body is not None
        else f"The receipt has no body; the SHA-256 of the one that was recorded is {head.body}.",
    ]
    print(printable("\n".join(lines)))  # noqa: T201 - this is the terminal
