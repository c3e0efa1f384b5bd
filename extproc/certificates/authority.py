"""A certificate authority: made here or brought along, read back from its folder, checked before it signs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from extproc.certificates import files, names
from extproc.certificates.files import PrivateKey
from extproc.errors import ConfigError

LIFETIME = dt.timedelta(days=3650)

BACKDATED = dt.timedelta(hours=1)
"""A certificate may be looked at by a clock that is a little behind ours."""

CA, CA_KEY, NEXT_KEY = "ca.pem", "ca.key", "next.key"
"""What clients trust; the key that signs; the key of an announced authority, there while a rotation is under way."""

_SERVER_ONLY = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate that may sign, its key, and the certificates above it as far as they are known."""

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)
    issuers: tuple[x509.Certificate, ...] = ()

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """Return the certificate and those above it."""
        return (self.certificate, *self.issuers)

    @property
    def sent(self) -> tuple[x509.Certificate, ...]:
        """Return what a server sends behind its own certificate: everything but the root, which clients have."""
        return tuple(one for one in self.chain if one.subject != one.issuer)

    def permits(self, name: str) -> bool:
        """Say whether the constraints of every certificate of the chain leave room for a host name or address."""
        return all(names.permits(one, name) for one in self.chain)

    def is_valid(self, at: dt.datetime) -> bool:
        """Say whether the whole chain is valid at a moment."""
        return all(one.not_valid_before_utc <= at < one.not_valid_after_utc for one in self.chain)


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a folder holds: who signs, who is announced to sign next, and all that clients are to trust."""

    current: Authority
    announced: Authority | None
    trusted: tuple[x509.Certificate, ...]

    @property
    def previous(self) -> tuple[x509.Certificate, ...]:
        """Return what is trusted beside the current and the announced authority."""
        known = (*self.current.chain, *(self.announced.chain if self.announced else ()))
        return tuple(one for one in self.trusted if one not in known)

    def listed(self, at: dt.datetime) -> tuple[x509.Certificate, ...]:
        """Return what ca.pem is to say: the current authority, the announced one, previous ones until they expire."""
        announced = self.announced.chain if self.announced else ()
        left = (one for one in self.previous if one.not_valid_after_utc > at)
        return tuple(dict.fromkeys((*self.current.chain, *announced, *left)))


def read(folder: Path) -> Holdings:
    """Read the authorities of a folder; raises ConfigError, which names the file.

    The key that signs says which certificate is the current one, so that a rotation ends with one rename. A `next.key`
    without its certificate is what a crash left of an announcement, and counts for nothing.
    """
    try:
        trusted = files.read_certificates(folder / CA)
    except FileNotFoundError:
        raise ConfigError(
            f"{folder / CA}: there is no certificate authority; make one with `extproc ca init`"
        ) from None
    try:
        current = _of_key(files.read_key(folder / CA_KEY), trusted)
    except FileNotFoundError:
        raise ConfigError(f"{folder / CA_KEY}: expected the key of the authority in {CA}, there is none") from None
    if current is None:
        raise ConfigError(f"{folder / CA_KEY}: expected the key of a certificate in {CA}, got another one")
    try:
        announced = _of_key(files.read_key(folder / NEXT_KEY), trusted)
    except FileNotFoundError:
        announced = None
    return Holdings(current, announced, trusted)


def create(hosts: Iterable[str], at: dt.datetime, key: PrivateKey | None = None) -> Authority:
    """Make an authority that can sign for servers of `hosts` and nothing else; with a new P-256 key unless given one.

    It is a root of 10 years that can make no other authority (path length 0). Raises ConfigError.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    # An own name for each: some clients pick the issuer by its name alone, which two authorities must not share.
    title = f"copilot-extproc CA {identifier.digest.hex()[:8]}"
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - BACKDATED)
        .not_valid_after(at + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(signs=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(names.confinement(hosts), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def bring(certificate: Path, key: Path, at: dt.datetime) -> Authority:
    """Read an authority that was made elsewhere, such as a company's intermediate, and check that it can serve here.

    `certificate` may hold the certificates above it, in any order behind it. Raises ConfigError, which names the file.
    """
    try:
        listed = files.read_certificates(certificate)
        own = files.read_key(key)
    except FileNotFoundError as error:
        raise ConfigError(f"{error.filename}: there is no such file") from None
    if not files.matches(listed[0], own):
        raise ConfigError(f"{key}: expected the key of the first certificate in {certificate}, got another one")
    authority = Authority(listed[0], own, _issuers(listed[0], listed))
    if surplus := len(listed) - len(authority.chain):
        raise ConfigError(
            f"{certificate}: expected a chain, but {surplus} of its certificates signed none of the others"
        )
    for one in authority.chain:
        if fault := _fault(one, at):
            raise ConfigError(f"{certificate}: {one.subject.rfc4514_string()} {fault}")
    return authority


def usage(*, signs: bool) -> x509.KeyUsage:
    """Return the key usage of an authority or of a server (RFC 5280 section 4.2.1.3)."""
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _of_key(key: PrivateKey, trusted: Sequence[x509.Certificate]) -> Authority | None:
    found = next((one for one in trusted if files.matches(one, key)), None)
    return None if found is None else Authority(found, key, _issuers(found, trusted))


def _issuers(certificate: x509.Certificate, among: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Return who signed a certificate, who signed that one, and so on, up to a root or the last one known."""
    found: list[x509.Certificate] = []
    last = certificate
    while last.subject != last.issuer:
        above = next((one for one in among if one not in (certificate, *found) and is_signed_by(last, one)), None)
        if above is None:
            break
        found.append(above)
        last = above
    return tuple(found)


def is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Say whether `issuer` signed a certificate: by name and signature."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _fault(certificate: x509.Certificate, at: dt.datetime) -> str | None:
    """Say why a certificate may not sign for servers."""
    extensions = certificate.extensions
    try:
        if not extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return "is no certificate authority: expected basic constraints with CA:TRUE"
    except x509.ExtensionNotFound:
        return "is no certificate authority: it has no basic constraints"
    for extension in extensions:
        match extension.value:
            case x509.KeyUsage(key_cert_sign=False):
                return "may not sign certificates: its key usage lacks keyCertSign"
            case x509.ExtendedKeyUsage() as purposes if not any(one in purposes for one in _SERVER_ONLY):
                return "may not sign for servers: its extended key usage lacks serverAuth"
            case _:
                pass
    if not certificate.not_valid_before_utc <= at < certificate.not_valid_after_utc:
        return f"is valid from {certificate.not_valid_before_utc} to {certificate.not_valid_after_utc}, not now"
    return None
