"""What is in the authority's folder and whether clients would accept it: a row for each certificate."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from extproc.certificates import authority, leaf, names
from extproc.certificates.authority import CA, CA_KEY, NEXT_KEY, Holdings
from extproc.certificates.leaf import INTERCEPTION, LISTENER, Place

ROTATE_BEFORE: Final = dt.timedelta(days=180)
"""An authority that ends sooner should be replaced: its successor has to reach every client first."""

Role = Literal["current", "announced", "previous", "listener", "interception"]


@dataclass(frozen=True, slots=True)
class Row:
    """One certificate: `id` is its SHA-256 fingerprint, times are ISO 8601 in UTC, None where it cannot be read.

    `names` is what a leaf is for, or what an authority is confined to (None: to nothing). `faults` is what makes
    clients refuse it or its key unsafe, `advice` what to do soon.
    """

    id: str | None
    role: Role
    file: str
    subject: str | None
    serial: str | None
    valid_from: str | None
    valid_until: str | None
    days_left: int | None
    names: tuple[str, ...] | None
    faults: tuple[str, ...]
    advice: tuple[str, ...]


def rows(folder: Path, now: float) -> list[Row]:
    """Describe the current authority, the announced one, previous ones and the two leaves; raises ConfigError."""
    held = authority.read(folder)
    at = dt.datetime.fromtimestamp(now, dt.UTC)
    above = [
        _authority(one, "current", at, _open_keys(folder, CA_KEY), _advice(one, held, at)) for one in held.current.chain
    ]
    if held.announced is not None:
        advice = ("hand ca.pem out to all clients, then run `extproc ca rotate --finish`",)
        faults = _open_keys(folder, NEXT_KEY)
        above += [_authority(one, "announced", at, faults, advice) for one in held.announced.chain]
    above += [_authority(one, "previous", at, (), ()) for one in held.previous]
    return [
        *above,
        _leaf(folder, LISTENER, "listener", held, at),
        _leaf(folder, INTERCEPTION, "interception", held, at),
    ]


def _authority(
    certificate: x509.Certificate, role: Role, at: dt.datetime, faults: Iterable[str], advice: Iterable[str]
) -> Row:
    found = list(faults)
    # A previous one signs nothing any more; the next renewal takes it out.
    if role != "previous" and not certificate.not_valid_before_utc <= at < certificate.not_valid_after_utc:
        found.append("it is not valid now")
    return _row(certificate, role, CA, at, names.permitted_of(certificate), faults=found, advice=advice)


def _advice(certificate: x509.Certificate, held: Holdings, at: dt.datetime) -> tuple[str, ...]:
    ends_soon = certificate.not_valid_after_utc - at < ROTATE_BEFORE
    return ("it ends soon: run `extproc ca rotate`",) if ends_soon and held.announced is None else ()


def _leaf(folder: Path, place: Place, role: Role, held: Holdings, at: dt.datetime) -> Row:
    fault = leaf.unfit(folder, place, held.current, at)
    faults = (() if fault is None else (f"{fault}: run `extproc ca renew`",)) + _open_keys(folder, place.key)
    certificate = leaf.read(folder, place)
    if certificate is None:
        return Row(None, role, place.certificate, None, None, None, None, None, None, faults, ())
    own = names.names_of(certificate)
    soon = fault is None and leaf.stale(folder, place, own, held.current, at) is not None
    advice = ("run `extproc ca renew`",) if soon else ()
    return _row(certificate, role, place.certificate, at, own, faults=faults, advice=advice)


def _row(
    certificate: x509.Certificate,
    role: Role,
    file: str,
    at: dt.datetime,
    own: tuple[str, ...] | None,
    *,
    faults: Iterable[str],
    advice: Iterable[str],
) -> Row:
    return Row(
        id=certificate.fingerprint(hashes.SHA256()).hex(),
        role=role,
        file=file,
        subject=certificate.subject.rfc4514_string(),
        serial=f"{certificate.serial_number:x}",
        valid_from=certificate.not_valid_before_utc.isoformat(),
        valid_until=certificate.not_valid_after_utc.isoformat(),
        days_left=math.floor((certificate.not_valid_after_utc - at) / dt.timedelta(days=1)),
        names=own,
        faults=tuple(faults),
        advice=tuple(advice),
    )


def _open_keys(folder: Path, key: str) -> tuple[str, ...]:
    """Say so where others than the owner may use a key."""
    path = folder / key
    mode = path.stat().st_mode & 0o777 if path.exists() else 0
    return (f"{key} is open to others (mode {mode:04o}): run `chmod 600 {path}`",) if mode & 0o077 else ()
