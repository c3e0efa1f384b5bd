"""What an operator does with the authority: make it, renew its leaves, replace it. One at a time, whole or not at all.

Replacing takes two steps, so that no client is cut off. `announce` puts a new authority into ca.pem beside the current
one, which goes on signing; the operator hands the new ca.pem out. `finish` makes the announced one sign. What clients
trusted before stays in ca.pem until it expires or is forgotten, its key is gone.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from extproc.certificates import authority, files, leaf, names
from extproc.certificates.authority import CA, CA_KEY, NEXT_KEY, Authority, Holdings
from extproc.certificates.leaf import INTERCEPTION, LISTENER, Place
from extproc.durable import sync_folder
from extproc.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the leaves are to be for, beside loopback and the default hosts; None is what they are for already."""

    hosts: Sequence[str] | None = None
    names: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Renewal:
    """What was done, a line each, and which names the current authority may not sign for."""

    done: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Brought:
    """An authority that was made elsewhere: the files of its certificate (with those above it) and key."""

    certificate: Path
    key: Path


def ensure(directory: Path, hosts: Sequence[str], now: float) -> None:
    """Make sure there is an authority, and fresh leaves for loopback, the default hosts and `hosts`.

    Raises ConfigError, also where the authority that is there may not sign for one of them.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with files.locked(directory):
        work = _renew if (directory / CA).exists() else _init
        if left_out := work(directory, Wanted(hosts), _moment(now)).left_out:
            raise ConfigError(confined(directory, left_out))


def init(directory: Path, wanted: Wanted, now: float, brought: Brought | None = None) -> Renewal:
    """Make an authority, or take over one that is brought, and its leaves. Never replaces one; raises ConfigError.

    A key without its certificate (a crash, or a lost file) is kept and gets a new certificate of the same name, which
    clients of the lost one accept as well.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with files.locked(directory):
        if (directory / CA).exists():
            raise ConfigError(f"{directory / CA}: there is an authority already; replace it with `extproc ca rotate`")
        return _init(directory, wanted, _moment(now), brought)


def renew(directory: Path, wanted: Wanted, now: float, *, force: bool = False) -> Renewal:
    """Make those leaves again that need it, or all with `force`, and repair what a crash left. Idempotent.

    Names that the authority may not sign for are left out and reported: the rest must not expire because of them.
    Raises ConfigError.
    """
    authority.read(directory)  # the folder must be there before it can be locked
    with files.locked(directory):
        return _renew(directory, wanted, _moment(now), force=force)


def announce(directory: Path, wanted: Wanted, now: float, brought: Brought | None = None) -> Authority:
    """Begin to replace the authority: the new one is in ca.pem, the current one signs on. Raises ConfigError."""
    authority.read(directory)
    with files.locked(directory):
        held, at = authority.read(directory), _moment(now)
        if held.announced is not None:
            raise ConfigError(
                f"{directory / NEXT_KEY}: a new authority is announced already; when clients have the new {CA}, "
                "end the rotation with `extproc ca rotate --finish`"
            )
        made = _new(directory, wanted, at, brought, None)
        if made.certificate.public_key() == held.current.certificate.public_key():
            raise ConfigError(f"{brought.key if brought else directory}: expected a new authority, got the current one")
        files.write_key(directory / NEXT_KEY, made.key)
        trusted = tuple(dict.fromkeys((*held.trusted, *made.chain)))
        files.write_certificates(directory / CA, Holdings(held.current, made, trusted).listed(at))
        return made


def finish(directory: Path, wanted: Wanted, now: float) -> Renewal:
    """End the rotation: the announced authority signs, the key of the one before is gone. Raises ConfigError."""
    authority.read(directory)
    with files.locked(directory):
        held, at = authority.read(directory), _moment(now)
        if held.announced is None:
            raise ConfigError(f"{directory / NEXT_KEY}: no authority is announced; begin with `extproc ca rotate`")
        if not held.announced.is_valid(at):
            raise ConfigError(f"{directory / CA}: the announced authority is not valid now; nothing is changed")
        # The one step that counts; what follows is repaired by the next renewal if it is cut short.
        (directory / NEXT_KEY).replace(directory / CA_KEY)
        sync_folder(directory)
        return _renew(directory, wanted, at)


def forget(directory: Path, now: float) -> int:
    """Take previous authorities out of ca.pem; returns how many certificates that were. Raises ConfigError."""
    authority.read(directory)
    with files.locked(directory):
        held = authority.read(directory)
        gone = held.previous
        kept = replace(held, trusted=tuple(one for one in held.trusted if one not in gone))
        files.write_certificates(directory / CA, kept.listed(_moment(now)))
        return len(gone)


def confined(directory: Path, left_out: Sequence[str]) -> str:
    """Return what to tell when the authority may not sign for some names."""
    return (
        f"{directory / CA}: the authority is confined to other names and cannot sign for {', '.join(left_out)}; they "
        "are not served until it is replaced: `extproc ca rotate`, hand the new ca.pem out, "
        "`extproc ca rotate --finish`"
    )


def _init(directory: Path, wanted: Wanted, at: dt.datetime, brought: Brought | None = None) -> Renewal:
    left = files.read_key(directory / CA_KEY) if (directory / CA_KEY).exists() else None
    made = _new(directory, wanted, at, brought, left)
    if left is None:
        files.write_key(directory / CA_KEY, made.key)
    elif not files.matches(made.certificate, left):
        raise ConfigError(f"{directory / CA_KEY}: there is the key of another authority; move it away first")
    files.write_certificates(directory / CA, made.chain)
    return _renew(directory, wanted, at)


def _renew(directory: Path, wanted: Wanted, at: dt.datetime, *, force: bool = False) -> Renewal:
    held = authority.read(directory)
    if not held.current.is_valid(at):
        ends = min(one.not_valid_after_utc for one in held.current.chain)
        raise ConfigError(
            f"{directory / CA}: the authority is not valid now (it ends {ends:%Y-%m-%d}) and signs no more; replace it "
            "with `extproc ca rotate` and `extproc ca rotate --finish`"
        )
    done = []
    if (listed := held.listed(at)) != held.trusted:
        files.write_certificates(directory / CA, listed)
        done.append(f"{CA}: put in order, {len(listed)} certificates")
    left_out: list[str] = []
    for place, hosts in _leaves(directory, wanted):
        served = [name for name in hosts if held.current.permits(name)]
        left_out += [name for name in hosts if name not in served]
        if not served:
            continue
        why = "it was asked for" if force else leaf.stale(directory, place, served, held.current, at)
        if why is not None:
            made = leaf.make(directory, place, served, held.current, at)
            done.append(f"{place.certificate}: made because {why}; valid until {made.not_valid_after_utc:%Y-%m-%d}")
    return Renewal(tuple(done), tuple(left_out))


def _new(
    directory: Path, wanted: Wanted, at: dt.datetime, brought: Brought | None, left: files.PrivateKey | None
) -> Authority:
    if brought is not None:
        return authority.bring(brought.certificate, brought.key, at)
    return authority.create((name for _, hosts in _leaves(directory, wanted) for name in hosts), at, left)


def _leaves(directory: Path, wanted: Wanted) -> tuple[tuple[Place, tuple[str, ...]], ...]:
    hosts = names.proxy_names(_given(directory, INTERCEPTION, wanted.hosts))
    own = names.listener_names(_given(directory, LISTENER, wanted.names))
    return (LISTENER, own), (INTERCEPTION, hosts)


def _given(directory: Path, place: Place, asked: Sequence[str] | None) -> Sequence[str]:
    if asked is not None:
        return asked
    there = leaf.read(directory, place)
    return () if there is None else names.names_of(there)


def _moment(now: float) -> dt.datetime:
    # Certificates have whole seconds (RFC 5280 section 4.1.2.5).
    return dt.datetime.fromtimestamp(int(now), dt.UTC)
