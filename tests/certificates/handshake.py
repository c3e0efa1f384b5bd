"""TLS handshakes in memory, and what tests ask of the authority's folder."""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path

from cryptography import x509

NOW = 1_760_000_000
DAY = 86_400


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def certificates(path: Path) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(path.read_bytes())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def changed(folder: Path, before: dict[str, bytes]) -> set[str]:
    after = contents(folder)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def names_in(path: Path) -> list[str]:
    value = certificate(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(one.value) for one in value]


def server(folder: Path, name: str = "proxy") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    return context


def client(*trusted: Path | bytes) -> ssl.SSLContext:
    """Return a client that trusts these files or PEM texts, and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # What create_default_context asks for from Python 3.13 on: RFC 5280 to the letter.
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    for one in trusted:
        pem = one.read_bytes() if isinstance(one, Path) else one
        context.load_verify_locations(cadata=pem.decode())
    return context


def shake(client: ssl.SSLContext, server: ssl.SSLContext, host: str) -> x509.Certificate:
    """Return the certificate that a client asking for `host` accepted; raises ssl.SSLCertVerificationError."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(down, up, server_hostname=host)
    answering = server.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for one in (asking, answering):
            with suppress(ssl.SSLWantReadError):
                one.do_handshake()
    shown = asking.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown)


def refusal(client: ssl.SSLContext, server: ssl.SSLContext, host: str) -> str:
    """Return why a client did not accept."""
    try:
        shake(client, server, host)
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    return "it accepted"
