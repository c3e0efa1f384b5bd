"""`extproc ca`: the authority that clients of the forward proxy trust, and the certificates it signs."""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from extproc.certificates import authority, files, operations, report
from extproc.certificates.operations import Brought, Renewal, Wanted
from extproc.certificates.report import Row
from extproc.commands.acting import ConfigOption
from extproc.commands.options import DEFAULT_STATE, JsonOption, StateOption, print_json
from extproc.config import load_settings
from extproc.errors import ConfigError

app = typer.Typer(help="The gateway's certificate authority.", no_args_is_help=True)

FOLDER, SETTINGS = "ca", "gateway.yaml"
"""The authority's folder and the settings file, in the state directory."""

DirectoryOption = Annotated[
    Path | None, typer.Option("--dir", help=f"The authority's folder; by default {FOLDER} of the state directory.")
]
HostsOption = Annotated[
    list[str] | None,
    typer.Option("--host", help="Another host to intercept, in place of the settings' ones; may be repeated."),
]
NamesOption = Annotated[
    list[str] | None,
    typer.Option("--name", help="Another name of the gateway itself; may be repeated. By default as before."),
]
CertificateOption = Annotated[
    Path | None, typer.Option(help="Take this authority over: its certificate, those above it behind it. Needs --key.")
]
KeyOption = Annotated[Path | None, typer.Option(help="The key of --certificate, without a passphrase.")]


@app.command("init")
def init(  # noqa: PLR0917 - options, passed by name
    host: HostsOption = None,
    name: NamesOption = None,
    config: ConfigOption = None,
    certificate: CertificateOption = None,
    key: KeyOption = None,
    directory: DirectoryOption = None,
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Make the authority, or take one over, and the gateway's certificates. Exit 2 where there is one already."""
    folder = directory or state / FOLDER
    renewal = operations.init(folder, _wanted(host, name, config, state), time.time(), _brought(certificate, key))
    print(f"{folder / authority.CA}: the authority; clients need this file, `extproc ca show` says how")  # noqa: T201 - this is the terminal
    _tell(folder, renewal)


@app.command("show")
def show(
    *,
    pem: Annotated[bool, typer.Option("--pem", help="Print ca.pem: what clients are to trust.")] = False,
    directory: DirectoryOption = None,
    state: StateOption = DEFAULT_STATE,
    as_json: JsonOption = False,
) -> None:
    """Show the authority and its certificates; exit 1 where a client would refuse one."""
    folder = directory or state / FOLDER
    if pem:
        print(files.pem_of(authority.read(folder).trusted).decode(), end="")  # noqa: T201
        return
    rows = report.rows(folder, time.time())
    if as_json:
        for row in rows:
            print_json(asdict(row))
    else:
        console = Console(highlight=False, markup=False, soft_wrap=True)
        for row in rows:
            _show(row, console)
        _show_trust((folder / authority.CA).resolve(), console)
    if any(row.faults for row in rows):
        sys.exit(1)


@app.command("renew")
def renew(
    *,
    host: HostsOption = None,
    name: NamesOption = None,
    config: ConfigOption = None,
    force: Annotated[bool, typer.Option("--force", help="Make all leaves again, fresh or not.")] = False,
    directory: DirectoryOption = None,
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Make certificates again that end soon, for a daily timer; nothing where all are fresh.

    A running Envoy takes them up by itself. Exit 2 where the authority may not sign for a host; the others are renewed.
    """
    folder = directory or state / FOLDER
    _tell(folder, operations.renew(folder, _wanted(host, name, config, state), time.time(), force=force))


@app.command("rotate")
def rotate(  # noqa: PLR0917 - options, passed by name
    finish: Annotated[  # noqa: FBT002 - a command-line flag
        bool, typer.Option("--finish", help="Let the announced authority sign: all clients have the new ca.pem.")
    ] = False,
    forget_old: Annotated[  # noqa: FBT002
        bool, typer.Option("--forget-old", help="Take previous authorities out of ca.pem before they expire.")
    ] = False,
    host: HostsOption = None,
    name: NamesOption = None,
    config: ConfigOption = None,
    certificate: CertificateOption = None,
    key: KeyOption = None,
    directory: DirectoryOption = None,
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Replace the authority in two steps: announce a new one in ca.pem, then --finish when clients have that file."""
    folder, wanted = directory or state / FOLDER, _wanted(host, name, config, state)
    brought = _brought(certificate, key)
    if brought and (finish or forget_old):
        raise ConfigError("--certificate: expected with the first step of a rotation, without --finish or --forget-old")
    if finish:
        _tell(folder, operations.finish(folder, wanted, time.time()))
    if forget_old:
        count = operations.forget(folder, time.time())
        print(f"{folder / authority.CA}: {count} previous certificates taken out")  # noqa: T201
    if finish or forget_old:
        return
    made = operations.announce(folder, wanted, time.time(), brought)
    title = made.certificate.subject.rfc4514_string()
    print(f"{folder / authority.CA}: {title} is announced; the current authority signs on")  # noqa: T201
    print("hand ca.pem out to all clients, then run `extproc ca rotate --finish`")  # noqa: T201


def _wanted(host: list[str] | None, name: list[str] | None, config: Path | None, state: Path) -> Wanted:
    """Return what the leaves are to be for; without settings and options it is what they are for already."""
    path = config or state / SETTINGS
    if host is None and (config is not None or path.exists()):
        host = load_settings(path).proxy.hosts
    return Wanted(host, name)


def _brought(certificate: Path | None, key: Path | None) -> Brought | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ConfigError("--certificate and --key: expected both or neither")
    return Brought(certificate, key)


def _tell(folder: Path, renewal: Renewal) -> None:
    """Print what was done; raises ConfigError for what could not be."""
    for line in renewal.done or ("all certificates are fresh",):
        print(f"{folder}: {line}")  # noqa: T201
    if renewal.left_out:
        raise ConfigError(operations.confined(folder, renewal.left_out))


def _show(row: Row, console: Console) -> None:
    console.print(f"{row.role}: {row.subject or row.file}")
    if row.id is not None:
        console.print(f"  file         {row.file}")
        console.print(f"  SHA-256      {':'.join(row.id[at : at + 2] for at in range(0, len(row.id), 2))}")
        console.print(f"  valid        {row.valid_from} to {row.valid_until} ({row.days_left} days left)")
        is_leaf = row.role in {"listener", "interception"}
        console.print(f"  {'for         ' if is_leaf else 'may sign for'} {', '.join(row.names or ('any name',))}")
    for fault in row.faults:
        console.print(f"  FAULT        {fault}")
    for advice in row.advice:
        console.print(f"  to do        {advice}")


def _show_trust(ca: Path, console: Console) -> None:
    quoted = shlex.quote(str(ca))
    console.print(f"""
To trust it:
  export NODE_EXTRA_CA_CERTS={quoted}   # Copilot CLI, language server, opencode: beside the built-in ones
  export SSL_CERT_FILE=BUNDLE   # OpenSSL, Python, Go, Rust: in place of the system's, so make
                                # BUNDLE of both: cat /etc/ssl/certs/ca-certificates.crt {quoted}""")
