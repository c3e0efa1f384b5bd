from __future__ import annotations

from pathlib import Path

import pytest

from extproc.doctor.trust import public_bundle, trust_of
from extproc.errors import ConfigError
from tests.doctor.conftest import pem


def count(text: str) -> int:
    return text.count("BEGIN CERTIFICATE")


def test_a_named_authority_is_the_gateways_and_trusted(ours: Path, theirs: Path) -> None:
    trust = trust_of({}, ours / "ca.pem", pem(theirs), None)
    assert (count(trust.in_use), count(trust.authorities.gateway), count(trust.authorities.public)) == (2, 1, 1)


def test_what_nobody_else_trusts_in_a_clients_bundle_is_the_gateways(ours: Path, theirs: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(pem(theirs) + pem(ours))
    for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"):
        trust = trust_of({name: str(bundle)}, None, pem(theirs), None)
        assert trust.authorities.gateway.split() == pem(ours).split()
        assert trust.authorities.public.split() == pem(theirs).split()
        assert count(trust.in_use) == 2
        assert trust.authorities.is_guess


def test_who_reads_all_traffic_of_a_network_is_not_taken_for_the_gateway(
    ours: Path, theirs: Path, strange: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(pem(theirs) + pem(strange) + pem(ours))
    for named, told in ((ours / "ca.pem", None), (None, pem(ours)), (ours / "ca.pem", pem(theirs))):
        trust = trust_of({"SSL_CERT_FILE": str(bundle)}, named, pem(theirs), told)
        assert trust.authorities.gateway.split() == pem(ours).split()
        assert not trust.authorities.is_guess
        assert count(trust.in_use) == 3


def test_without_settings_clients_trust_whom_everybody_trusts(ours: Path, theirs: Path) -> None:
    trust = trust_of({}, None, pem(theirs), pem(ours))
    assert trust.in_use.split() == pem(theirs).split()
    # What the gateway tells of itself is known to be its own, and not trusted for that.
    assert trust.authorities.gateway.split() == pem(ours).split()


def test_a_public_authority_is_not_taken_for_the_gateways(theirs: Path) -> None:
    trust = trust_of({"NODE_EXTRA_CA_CERTS": str(theirs / "ca.pem")}, None, pem(theirs), pem(theirs))
    assert trust.authorities.gateway == ""


def test_a_named_authority_that_the_system_trusts_as_well_is_the_gateways(ours: Path, theirs: Path) -> None:
    trust = trust_of({}, ours / "ca.pem", pem(theirs) + pem(ours), None)
    assert trust.authorities.gateway.split() == pem(ours).split()
    assert trust.authorities.public.split() == pem(theirs).split()


def test_a_file_without_or_with_all_certificates_is_no_authority(tmp_path: Path, ours: Path) -> None:
    for text in ("nothing", pem(ours) * 11):
        (tmp_path / "ca.pem").write_text(text)
        with pytest.raises(ConfigError, match="expected the gateway's authority alone"):
            trust_of({}, tmp_path / "ca.pem", "", None)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.pem: the certificates cannot be read"):
        trust_of({"SSL_CERT_FILE": str(tmp_path / "none.pem")}, None, "", None)


def test_this_system_brings_authorities_along() -> None:
    assert count(public_bundle()) > 10
