from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from extproc.certificates import files, leaf, operations
from extproc.certificates.operations import Wanted
from tests.certificates.handshake import DAY, NOW, certificate, changed, contents

NOTHING = Wanted()
LEAVES = ("tls.crt", "tls.key", "proxy.crt", "proxy.key")


@pytest.mark.parametrize("name", ["tls", "proxy"])
def test_a_leaf_serves_for_ninety_days_and_signs_nothing(tmp_path: Path, name: str) -> None:
    operations.init(tmp_path, NOTHING, NOW)
    one = certificate(tmp_path / f"{name}.crt")
    assert one.not_valid_after_utc - one.not_valid_before_utc == dt.timedelta(days=90)
    assert one.not_valid_before_utc.timestamp() == NOW - 3600
    assert one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    usage = one.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_cert_sign) == (True, False)
    assert list(one.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH
    ]


@pytest.mark.parametrize(("days", "is_renewed"), [(0, False), (59, False), (60.1, True), (89, True), (500, True)])
def test_leaves_are_renewed_when_a_third_of_their_life_is_left(
    tmp_path: Path,
    days: float,
    is_renewed: bool,  # noqa: FBT001
) -> None:
    operations.init(tmp_path, NOTHING, NOW)
    before = contents(tmp_path)
    renewal = operations.renew(tmp_path, NOTHING, NOW + days * DAY)
    assert changed(tmp_path, before) == (set(LEAVES) if is_renewed else set())
    assert bool(renewal.done) is is_renewed
    again = contents(tmp_path)
    assert operations.renew(tmp_path, NOTHING, NOW + days * DAY).done == ()
    assert contents(tmp_path) == again


@pytest.mark.parametrize("place", [leaf.LISTENER, leaf.INTERCEPTION])
def test_a_crash_between_key_and_certificate_is_noticed_and_repaired(tmp_path: Path, place: leaf.Place) -> None:
    operations.init(tmp_path, NOTHING, NOW)
    old = (tmp_path / place.certificate).read_bytes()
    operations.renew(tmp_path, NOTHING, NOW, force=True)
    (tmp_path / place.certificate).write_bytes(old)
    (tmp_path / f".{place.certificate}.new").write_bytes(b"half a certif")
    before = contents(tmp_path)
    renewal = operations.renew(tmp_path, NOTHING, NOW)
    assert [line.partition(";")[0] for line in renewal.done] == [
        f"{place.certificate}: made because key and certificate do not match"
    ]
    assert changed(tmp_path, before) == {place.certificate, place.key, f".{place.certificate}.new"}
    assert files.matches(certificate(tmp_path / place.certificate), files.read_key(tmp_path / place.key))


@pytest.mark.parametrize("name", LEAVES)
@pytest.mark.parametrize("content", [None, b"", b"rubbish"])
def test_a_leaf_that_is_missing_or_damaged_is_made_again(tmp_path: Path, name: str, content: bytes | None) -> None:
    operations.init(tmp_path, NOTHING, NOW)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert len(operations.renew(tmp_path, NOTHING, NOW).done) == 1
    assert operations.renew(tmp_path, NOTHING, NOW).done == ()


def test_a_leaf_never_outlives_its_authority(tmp_path: Path) -> None:
    operations.init(tmp_path, NOTHING, NOW)
    operations.renew(tmp_path, NOTHING, NOW + 3640 * DAY)
    root, one = certificate(tmp_path / "ca.pem"), certificate(tmp_path / "proxy.crt")
    assert one.not_valid_after_utc == root.not_valid_after_utc
