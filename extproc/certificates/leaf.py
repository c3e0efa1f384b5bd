"""The certificates that the gateway shows: signed by the authority, short-lived, made again in time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from extproc.certificates import files, names
from extproc.certificates.authority import BACKDATED, Authority, is_signed_by, usage
from extproc.errors import ConfigError

LIFETIME = dt.timedelta(days=90)

_RENEWED_AT = 3
"""A leaf is made again when a third of its life is left, so that a month of failing timers does no harm."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a leaf is, and which listener shows it."""

    certificate: str
    key: str
    title: str


LISTENER: Final = Place("tls.crt", "tls.key", "copilot-extproc gateway")
INTERCEPTION: Final = Place("proxy.crt", "proxy.key", "copilot-extproc interception")


def make(folder: Path, place: Place, hosts: Sequence[str], authority: Authority, at: dt.datetime) -> x509.Certificate:
    """Make a leaf with a key of its own and put both in place, the key first. Raises OSError, ConfigError.

    Between the two renames, or for good after a crash between them, key and certificate do not match: Envoy keeps what
    it has until the second one, and `stale` notices. A leaf never outlives a certificate above it.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    begin = max(at - BACKDATED, *(one.not_valid_before_utc for one in authority.chain))
    end = min(begin + LIFETIME, *(one.not_valid_after_utc for one in authority.chain))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, place.title)]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(names.alternative_names(hosts), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_identifier_of(authority), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    files.write_pair(folder / place.key, key, folder / place.certificate, (certificate, *authority.sent))
    return certificate


def read(folder: Path, place: Place) -> x509.Certificate | None:
    """Return the leaf in a folder, None where there is none that can be read."""
    try:
        return files.read_certificates(folder / place.certificate)[0]
    except (FileNotFoundError, ConfigError):
        return None


def stale(folder: Path, place: Place, hosts: Sequence[str], authority: Authority, at: dt.datetime) -> str | None:
    """Say why a leaf has to be made again; None where it has more than a third of its life left and all fits."""
    if fault := unfit(folder, place, authority, at):
        return fault
    certificate = read(folder, place)
    if certificate is None or set(names.names_of(certificate)) != set(hosts):
        return "it is for other names"
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return f"it expires in {(end - at).days} days" if (end - at) * _RENEWED_AT <= end - begin else None


def unfit(folder: Path, place: Place, authority: Authority, at: dt.datetime) -> str | None:
    """Say why clients of the authority would not accept what is in place, or Envoy would not load it."""
    try:
        chain = files.read_certificates(folder / place.certificate)
        key = files.read_key(folder / place.key)
    except FileNotFoundError as error:
        return f"there is no {Path(error.filename).name}"
    except ConfigError:
        return "it cannot be read"
    certificate = chain[0]
    if not files.matches(certificate, key):
        return "key and certificate do not match"
    if not is_signed_by(certificate, authority.certificate) or chain[1:] != authority.sent:
        return "it is not signed by the current authority"
    if at >= certificate.not_valid_after_utc:
        return "it is expired"
    return "it is not yet valid" if at < certificate.not_valid_before_utc else None


def _identifier_of(authority: Authority) -> x509.AuthorityKeyIdentifier:
    """Return the authority's own identifier, which need not be the hash of its key (RFC 5280 section 4.2.1.1)."""
    try:
        own = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)
