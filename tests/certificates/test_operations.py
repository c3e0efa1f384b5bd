from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from extproc.certificates import authority, files, leaf, operations
from extproc.certificates.operations import Wanted
from extproc.errors import ConfigError
from extproc.intercepted import DEFAULT_HOSTS
from tests.certificates.handshake import DAY, NOW, certificate, certificates, changed, contents, names_in

NOTHING = Wanted()
LEAVES = ("tls.crt", "tls.key", "proxy.crt", "proxy.key")


def made(folder: Path, *hosts: str, now: float = NOW, names: tuple[str, ...] = ()) -> Path:
    operations.init(folder, Wanted(hosts, names), now)
    return folder


# --- init ------------------------------------------------------------------------------------------------------------


def test_what_is_made_is_an_authority_and_two_leaves(tmp_path: Path) -> None:
    folder = made(tmp_path / "state" / "ca", names=("gateway.acme.example",))
    assert set(contents(folder)) == {"ca.pem", "ca.key", *LEAVES, ".lock"}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for key in ("ca.key", "tls.key", "proxy.key"):
        assert stat.S_IMODE((folder / key).stat().st_mode) == 0o600
    assert names_in(folder / "tls.crt") == ["localhost", "127.0.0.1", "::1", "gateway.acme.example"]
    assert names_in(folder / "proxy.crt") == list(DEFAULT_HOSTS)


def test_an_authority_is_never_replaced_by_another_init(tmp_path: Path) -> None:
    before = contents(made(tmp_path))
    with pytest.raises(ConfigError, match="extproc ca rotate"):
        operations.init(tmp_path, NOTHING, NOW)
    assert contents(tmp_path) == before


def test_a_key_without_its_certificate_is_kept_and_gets_one_of_the_same_name(tmp_path: Path) -> None:
    made(tmp_path)
    lost, key = certificate(tmp_path / "ca.pem"), (tmp_path / "ca.key").read_bytes()
    (tmp_path / "ca.pem").unlink()
    made(tmp_path)
    assert (tmp_path / "ca.key").read_bytes() == key
    assert certificate(tmp_path / "ca.pem") != lost
    certificate(tmp_path / "proxy.crt").verify_directly_issued_by(lost)


def test_a_name_that_cannot_be_in_a_certificate_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a_b"):
        made(tmp_path, names=("a_b",))
    assert set(contents(tmp_path)) == {".lock"}


# --- ensure and renew ------------------------------------------------------------------------------------------------


def test_ensure_makes_what_is_missing_once(tmp_path: Path) -> None:
    operations.ensure(tmp_path / "ca", ["api.acme.ghe.com"], NOW)
    before = contents(tmp_path / "ca")
    assert "api.acme.ghe.com" in names_in(tmp_path / "ca" / "proxy.crt")
    operations.ensure(tmp_path / "ca", ["api.acme.ghe.com"], NOW + 50 * DAY)
    assert contents(tmp_path / "ca") == before


def test_many_at_once_make_one_authority(tmp_path: Path) -> None:
    threads = [threading.Thread(target=operations.ensure, args=(tmp_path / "ca", (), NOW)) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    held = authority.read(tmp_path / "ca")
    assert len(held.trusted) == 1
    for place in (leaf.LISTENER, leaf.INTERCEPTION):
        assert leaf.unfit(tmp_path / "ca", place, held.current, operations._moment(NOW)) is None


def test_all_leaves_are_renewed_when_it_is_asked_for(tmp_path: Path) -> None:
    before = contents(made(tmp_path))
    operations.renew(tmp_path, NOTHING, NOW, force=True)
    assert changed(tmp_path, before) == set(LEAVES)


def test_names_are_kept_unless_others_are_given(tmp_path: Path) -> None:
    made(tmp_path, "*.acme.ghe.com", names=("gateway.acme.example",))
    operations.renew(tmp_path, NOTHING, NOW, force=True)
    assert "gateway.acme.example" in names_in(tmp_path / "tls.crt")
    assert "*.acme.ghe.com" in names_in(tmp_path / "proxy.crt")
    assert len(operations.renew(tmp_path, Wanted(hosts=(), names=()), NOW).done) == 2
    assert names_in(tmp_path / "tls.crt") == ["localhost", "127.0.0.1", "::1"]
    assert names_in(tmp_path / "proxy.crt") == list(DEFAULT_HOSTS)


def test_a_host_that_the_authority_permits_is_added(tmp_path: Path) -> None:
    made(tmp_path)
    renewal = operations.renew(tmp_path, Wanted(["api.newplan.githubcopilot.com"]), NOW)
    assert (len(renewal.done), renewal.left_out) == (1, ())
    assert "api.newplan.githubcopilot.com" in names_in(tmp_path / "proxy.crt")


def test_names_that_the_authority_may_not_sign_for_are_reported_and_the_others_are_renewed(tmp_path: Path) -> None:
    made(tmp_path)
    renewal = operations.renew(tmp_path, Wanted(["api.acme.ghe.com"], ["gateway.acme.example"]), NOW + 80 * DAY)
    assert renewal.left_out == ("gateway.acme.example", "api.acme.ghe.com")
    assert len(renewal.done) == 2
    assert names_in(tmp_path / "proxy.crt") == list(DEFAULT_HOSTS)
    assert "extproc ca rotate" in operations.confined(tmp_path, renewal.left_out)
    with pytest.raises(ConfigError, match=r"cannot sign for api\.acme\.ghe\.com.*extproc ca rotate"):
        operations.ensure(tmp_path, ["api.acme.ghe.com"], NOW)


# --- what must not go on ---------------------------------------------------------------------------------------------


def test_without_an_authority_nothing_is_done_and_nothing_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "ca"
    for act in (operations.renew, operations.announce, operations.finish):
        with pytest.raises(ConfigError, match=r"ca\.pem: there is no certificate authority.*extproc ca init"):
            act(folder, NOTHING, NOW)
    with pytest.raises(ConfigError, match="no certificate authority"):
        operations.forget(folder, NOW)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "expected the key of the authority"), (b"rubbish", "expected a private key"), (b"other", "another one")],
)
def test_an_authority_whose_key_is_missing_damaged_or_of_another_signs_nothing(
    tmp_path: Path, content: bytes | None, expected: str
) -> None:
    made(tmp_path)
    (tmp_path / "ca.key").unlink()
    if content == b"other":
        files.write_key(tmp_path / "ca.key", ec.generate_private_key(ec.SECP256R1()))
    elif content is not None:
        (tmp_path / "ca.key").write_bytes(content)
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=rf"ca\.key: .*{expected}"):
        operations.renew(tmp_path, NOTHING, NOW + 80 * DAY)
    assert contents(tmp_path) == before


def test_an_expired_authority_signs_nothing_and_can_be_replaced(tmp_path: Path) -> None:
    made(tmp_path)
    before, late = contents(tmp_path), NOW + 3650 * DAY
    with pytest.raises(ConfigError, match=r"ca\.pem: .*not valid now.*extproc ca rotate"):
        operations.renew(tmp_path, NOTHING, late)
    assert contents(tmp_path) == before
    operations.announce(tmp_path, NOTHING, late)
    operations.finish(tmp_path, NOTHING, late)
    assert len(certificates(tmp_path / "ca.pem")) == 1


# --- rotate ----------------------------------------------------------------------------------------------------------


def test_an_announced_authority_is_in_ca_pem_and_signs_nothing_yet(tmp_path: Path) -> None:
    made(tmp_path)
    before, old = contents(tmp_path), certificate(tmp_path / "ca.pem")
    new = operations.announce(tmp_path, NOTHING, NOW).certificate
    assert changed(tmp_path, before) == {"ca.pem", "next.key"}
    assert certificates(tmp_path / "ca.pem") == [old, new]
    assert new.subject != old.subject
    assert stat.S_IMODE((tmp_path / "next.key").stat().st_mode) == 0o600
    operations.renew(tmp_path, NOTHING, NOW, force=True)
    certificate(tmp_path / "proxy.crt").verify_directly_issued_by(old)


def test_the_end_of_a_rotation_lets_the_new_one_sign_and_keeps_the_old_one_trusted(tmp_path: Path) -> None:
    made(tmp_path)
    old = certificate(tmp_path / "ca.pem")
    new = operations.announce(tmp_path, NOTHING, NOW).certificate
    assert len(operations.finish(tmp_path, NOTHING, NOW).done) == 3
    assert certificates(tmp_path / "ca.pem") == [new, old]
    assert not (tmp_path / "next.key").exists()
    for name in ("tls.crt", "proxy.crt"):
        certificate(tmp_path / name).verify_directly_issued_by(new)
    assert operations.renew(tmp_path, NOTHING, NOW).done == ()


def test_a_rotation_permits_hosts_that_were_added(tmp_path: Path) -> None:
    made(tmp_path)
    wanted = Wanted(["api.acme.ghe.com"])
    operations.announce(tmp_path, wanted, NOW)
    assert operations.renew(tmp_path, wanted, NOW).left_out == ("api.acme.ghe.com",)
    assert operations.finish(tmp_path, wanted, NOW).left_out == ()
    assert "api.acme.ghe.com" in names_in(tmp_path / "proxy.crt")


def test_a_rotation_that_is_cut_short_after_its_one_step_is_ended_by_the_next_renewal(tmp_path: Path) -> None:
    made(tmp_path)
    old = certificate(tmp_path / "ca.pem")
    new = operations.announce(tmp_path, NOTHING, NOW).certificate
    (tmp_path / "next.key").replace(tmp_path / "ca.key")
    assert len(operations.renew(tmp_path, NOTHING, NOW).done) == 3
    assert certificates(tmp_path / "ca.pem") == [new, old]
    certificate(tmp_path / "proxy.crt").verify_directly_issued_by(new)


def test_an_announcement_that_is_cut_short_counts_for_nothing(tmp_path: Path) -> None:
    made(tmp_path)
    files.write_key(tmp_path / "next.key", ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(ConfigError, match="no authority is announced"):
        operations.finish(tmp_path, NOTHING, NOW)
    operations.announce(tmp_path, NOTHING, NOW)
    operations.finish(tmp_path, NOTHING, NOW)
    assert len(certificates(tmp_path / "ca.pem")) == 2


def test_a_rotation_begins_once_and_ends_once(tmp_path: Path) -> None:
    made(tmp_path)
    with pytest.raises(ConfigError, match=r"next\.key: no authority is announced"):
        operations.finish(tmp_path, NOTHING, NOW)
    operations.announce(tmp_path, NOTHING, NOW)
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=r"announced already.*--finish"):
        operations.announce(tmp_path, NOTHING, NOW)
    assert contents(tmp_path) == before


def test_previous_authorities_stay_until_they_expire_or_are_forgotten(tmp_path: Path) -> None:
    made(tmp_path)
    roots = [certificate(tmp_path / "ca.pem")]
    for years in (1, 2):
        roots.insert(0, operations.announce(tmp_path, NOTHING, NOW + years * 365 * DAY).certificate)
        operations.finish(tmp_path, NOTHING, NOW + years * 365 * DAY)
    assert set(certificates(tmp_path / "ca.pem")) == set(roots)
    assert certificate(tmp_path / "ca.pem") == roots[0]
    operations.renew(tmp_path, NOTHING, NOW + 3651 * DAY)
    assert set(certificates(tmp_path / "ca.pem")) == set(roots[:2])
    assert operations.forget(tmp_path, NOW + 3651 * DAY) == 1
    assert certificates(tmp_path / "ca.pem") == roots[:1]
    assert operations.forget(tmp_path, NOW + 3651 * DAY) == 0
