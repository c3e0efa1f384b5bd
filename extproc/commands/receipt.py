"""`extproc receipt`: make what proves offline that an exchange was recorded, and check it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from extproc.commands import access
from extproc.commands.evidence import ConfigOption, KeysOption, ledger_at, places, public_keys
from extproc.commands.options import (
    DEFAULT_STATE,
    AsOption,
    JsonOption,
    ServerOption,
    StateOption,
    TokenOption,
    print_json,
)
from extproc.commands.remote import remote_of
from extproc.config_recording import Places
from extproc.errors import ConfigError, ExtprocError
from extproc.keys.checkpoint_key import load_public_key
from extproc.recording import receipt as receipts
from extproc.recording.checkpoint import PublicKey
from extproc.recording.receipt import Proved
from extproc.replay import printable
from extproc.verification.fault import moment
from extproc.verification.receipts import receipt_of


def receipt(  # noqa: PLR0917 - options, passed by name
    ctx: typer.Context,
    exchange: Annotated[str | None, typer.Argument(help="The id of an exchange.")] = None,
    check: Annotated[Path | None, typer.Option(help="Check this receipt; only it and the public key are read.")] = None,
    with_body: Annotated[bool, typer.Option("--with-body", help="Put what was recorded into it.")] = False,  # noqa: FBT002 - a flag
    out: Annotated[Path | None, typer.Option(help="Where it goes; by default standard output.")] = None,
    public_key: KeysOption = None,
    server: ServerOption = None,
    token: TokenOption = None,
    as_user: AsOption = None,
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
    remote, asked = remote_of(ctx, server, state, token, as_user), exchange or ""
    if remote is None:
        made = _made(places(state, config), public_key, asked, with_body=with_body)
    else:
        made = remote.receipt(asked, with_body=with_body)
        if public_key:
            _check_remote(made, [load_public_key(path) for path in public_key], asked)
    if out is None:
        sys.stdout.buffer.write(made)
        sys.stdout.buffer.flush()
        return
    try:
        out.touch(mode=0o600)
        out.write_bytes(made)
    except OSError as error:
        raise ConfigError(f"{out}: the receipt cannot be written: {error.strerror}") from error


def _made(where: Places, public_key: list[Path] | None, exchange: str, *, with_body: bool) -> bytes:
    keys = public_keys(where, public_key)
    made = receipt_of(ledger_at(where), keys, exchange, with_body=with_body)
    if with_body:
        access.note(where, "receipt", exchange=exchange)
    return made


def _check_remote(made: bytes, keys: list[PublicKey], exchange: str) -> None:
    """Raise ExtprocError for a receipt that does not prove, with the auditor's own keys, what was asked for."""
    try:
        proved = receipts.check(made, keys)
    except receipts.BadReceipt as error:
        raise ExtprocError(f"what the console sent proves nothing: {error}") from error
    if proved.head.id != exchange:
        raise ExtprocError("what the console sent is the receipt of another exchange")


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
