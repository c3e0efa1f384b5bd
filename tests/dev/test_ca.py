from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from extproc.dev import ca

NOW = 1_760_000_000.0
DAY = 86_400.0


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_made_is_a_ca_and_a_certificate_for_loopback(tmp_path: Path) -> None:
    ca.ensure(tmp_path / "ca", NOW)
    assert set(contents(tmp_path / "ca")) == {"ca.pem", "ca.key", "tls.crt", "tls.key"}
    root, leaf = certificate(tmp_path / "ca" / "ca.pem"), certificate(tmp_path / "ca" / "tls.crt")
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False


@pytest.mark.parametrize("days", [0, 300])
def test_a_strict_verifier_accepts_the_chain_now_and_later(tmp_path: Path, days: int) -> None:
    ca.ensure(tmp_path, NOW)
    leaf = certificate(tmp_path / "tls.crt")
    builder = PolicyBuilder().store(Store([certificate(tmp_path / "ca.pem")]))
    at = leaf.not_valid_before_utc + dt.timedelta(days=days)
    for name in (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))):
        assert builder.time(at).build_server_verifier(name).verify(leaf, [])


def test_a_strict_verifier_refuses_another_name(tmp_path: Path) -> None:
    ca.ensure(tmp_path, NOW)
    leaf = certificate(tmp_path / "tls.crt")
    builder = PolicyBuilder().store(Store([certificate(tmp_path / "ca.pem")])).time(leaf.not_valid_before_utc)
    with pytest.raises(VerificationError):
        builder.build_server_verifier(x509.DNSName("api.github.com")).verify(leaf, [])


def test_keys_fit_their_certificates_and_only_the_owner_may_read_them(tmp_path: Path) -> None:
    ca.ensure(tmp_path, NOW)
    for key in ("ca.key", "tls.key"):
        assert stat.S_IMODE((tmp_path / key).stat().st_mode) == 0o600
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    key_of_leaf = certificate(tmp_path / "tls.crt").public_key()
    assert isinstance(key_of_leaf, ec.EllipticCurvePublicKey)


def test_what_is_there_and_fresh_is_kept(tmp_path: Path) -> None:
    ca.ensure(tmp_path, NOW)
    before = contents(tmp_path)
    ca.ensure(tmp_path, NOW + 300 * DAY)
    assert contents(tmp_path) == before


def test_a_certificate_that_will_expire_is_renewed_by_the_same_ca(tmp_path: Path) -> None:
    ca.ensure(tmp_path, NOW)
    before = contents(tmp_path)
    ca.ensure(tmp_path, NOW + 340 * DAY)
    after = contents(tmp_path)
    assert {name for name in after if after[name] == before[name]} == {"ca.pem", "ca.key"}
    leaf = certificate(tmp_path / "tls.crt")
    assert leaf.not_valid_after_utc.timestamp() == pytest.approx(NOW + (340 + 365) * DAY)
    leaf.verify_directly_issued_by(certificate(tmp_path / "ca.pem"))
