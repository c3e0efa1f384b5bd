from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from extproc.certificates import authority, files, operations
from extproc.certificates.operations import Brought, Wanted
from extproc.errors import ConfigError
from tests.certificates.handshake import DAY, NOW, certificate, certificates, contents, names_in

NOTHING = Wanted()


def test_the_authority_signs_servers_for_ten_years_and_no_other_authority(tmp_path: Path) -> None:
    operations.init(tmp_path, NOTHING, NOW)
    root = certificate(tmp_path / "ca.pem")
    basic = root.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    usage = root.extensions.get_extension_for_class(x509.KeyUsage)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.digital_signature) == (True, True, False)
    assert list(root.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH
    ]
    assert root.not_valid_after_utc.timestamp() == NOW + 3650 * DAY


def signed(
    name: str,
    issuer: authority.Authority | None = None,
    *extensions: x509.ExtensionType,
    is_ca: bool = True,
    days: int = 1000,
    basic: bool = True,
) -> authority.Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    at = operations._moment(NOW)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - dt.timedelta(days=30))
        .not_valid_after(at + dt.timedelta(days=days))
    )
    if basic:
        builder = builder.add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    for one in extensions:
        builder = builder.add_extension(one, critical=False)
    return authority.Authority(
        builder.sign(issuer.key if issuer else key, hashes.SHA256()), key, issuer.chain if issuer else ()
    )


def on_disk(folder: Path, one: authority.Authority, *more: x509.Certificate) -> Brought:
    folder.mkdir(exist_ok=True)
    files.write_certificates(folder / "company.pem", (one.certificate, *more))
    files.write_key(folder / "company.key", one.key)
    return Brought(folder / "company.pem", folder / "company.key")


def test_a_companys_intermediate_signs_and_is_sent_along(tmp_path: Path) -> None:
    root = signed("Company Root")
    middle = signed("Company Policy CA", root)
    own = signed("Company Gateway CA", middle)
    brought = on_disk(tmp_path / "from", own, root.certificate, middle.certificate)
    operations.init(tmp_path / "ca", NOTHING, NOW, brought)
    # All of it is what clients may trust; without the root it is sent.
    assert certificates(tmp_path / "ca" / "ca.pem") == [own.certificate, middle.certificate, root.certificate]
    leaf_, *above = certificates(tmp_path / "ca" / "proxy.crt")
    assert above == [own.certificate, middle.certificate]
    leaf_.verify_directly_issued_by(own.certificate)
    assert operations.renew(tmp_path / "ca", NOTHING, NOW).done == ()


def test_a_companys_constraints_are_respected(tmp_path: Path) -> None:
    tree = x509.NameConstraints([x509.DNSName("githubcopilot.com")], [x509.DNSName("api.business.githubcopilot.com")])
    brought = on_disk(tmp_path / "from", signed("Company Gateway CA", signed("Company Root"), tree))
    renewal = operations.init(tmp_path / "ca", NOTHING, NOW, brought)
    assert "localhost" in renewal.left_out
    assert {"api.business.githubcopilot.com", "api.github.com"} < set(renewal.left_out)
    assert "api.enterprise.githubcopilot.com" in names_in(tmp_path / "ca" / "proxy.crt")


def test_a_rotation_can_bring_the_next_one(tmp_path: Path) -> None:
    operations.init(tmp_path / "ca", NOTHING, NOW)
    own = signed("Company Gateway CA")
    operations.announce(tmp_path / "ca", NOTHING, NOW, on_disk(tmp_path / "from", own))
    operations.finish(tmp_path / "ca", NOTHING, NOW)
    assert certificate(tmp_path / "ca" / "ca.pem") == own.certificate
    with pytest.raises(ConfigError, match="expected a new authority"):
        operations.announce(tmp_path / "ca", NOTHING, NOW, on_disk(tmp_path / "from", own))


_NO_SIGNING = x509.KeyUsage(*[True, *[False] * 8])
_CLIENTS_ONLY = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (signed("A server", is_ca=False), "is no certificate authority"),
        (signed("An old one", basic=False), "no basic constraints"),
        (signed("Encipherer", None, _NO_SIGNING), "lacks keyCertSign"),
        (signed("VPN", None, _CLIENTS_ONLY), "lacks serverAuth"),
        (signed("Past", days=-1), "not now"),
        (signed("Child", signed("Past", days=-1)), "CN=Past is valid from"),
    ],
)
def test_what_cannot_sign_for_servers_is_not_taken_over(
    tmp_path: Path, one: authority.Authority, expected: str
) -> None:
    brought = on_disk(tmp_path / "from", one, *one.issuers)
    with pytest.raises(ConfigError, match=rf"company\.pem: .*{expected}"):
        operations.init(tmp_path / "ca", NOTHING, NOW, brought)
    assert set(contents(tmp_path / "ca")) == {".lock"}


def test_files_that_do_not_belong_together_are_not_taken_over(tmp_path: Path) -> None:
    one, other = signed("One"), signed("Other")
    brought = on_disk(tmp_path / "from", one, other.certificate)
    with pytest.raises(ConfigError, match=r"company\.pem: expected a chain, but 1"):
        operations.init(tmp_path / "ca", NOTHING, NOW, brought)
    files.write_key(brought.key, other.key)
    with pytest.raises(ConfigError, match=r"company\.key: expected the key of the first certificate"):
        operations.init(tmp_path / "ca", NOTHING, NOW, brought)
    brought.key.unlink()
    with pytest.raises(ConfigError, match=r"company\.key: there is no such file"):
        operations.init(tmp_path / "ca", NOTHING, NOW, brought)


def test_a_key_that_is_there_is_not_lost_to_another_authority(tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir()
    files.write_key(tmp_path / "ca" / "ca.key", ec.generate_private_key(ec.SECP256R1()))
    before = contents(tmp_path / "ca")
    with pytest.raises(ConfigError, match=r"ca\.key: there is the key of another authority"):
        operations.init(tmp_path / "ca", NOTHING, NOW, on_disk(tmp_path / "from", signed("Company")))
    assert {name: contents(tmp_path / "ca")[name] for name in before} == before
