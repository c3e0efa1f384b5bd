from __future__ import annotations

import hashlib
import ssl
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from extproc.errors import ConfigError
from extproc.signin.authority import (
    REPLACING,
    AuthorityFiles,
    authority_written,
    remove_authorities,
    trusting,
    write_authority,
)
from extproc.signin.kept import NoFolder
from extproc.signin.profile import Profile


def pem(letter: str) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{letter * 4}\n-----END CERTIFICATE-----\n"


PROFILE = Profile(gateway="https://g.example", issuer="https://i.example", client_id="cli", ca_pem=pem("A"))


def written(home: Path, named: Mapping[str, str] | None = None, profile: Profile = PROFILE) -> AuthorityFiles:
    files = write_authority(profile, {"HOME": str(home), **(named or {})})
    assert files is not None
    return files


@pytest.fixture
def system(tmp_path: Path) -> str:
    (tmp_path / "system.pem").write_text(pem("S"))
    return str(tmp_path / "system.pem")


def test_a_gateway_whose_authority_the_system_trusts_needs_no_files(tmp_path: Path) -> None:
    assert write_authority(replace(PROFILE, ca_pem=None), {"HOME": str(tmp_path)}) is None
    assert list(tmp_path.iterdir()) == []


def test_each_file_is_named_by_what_it_holds(tmp_path: Path, system: str) -> None:
    files = written(tmp_path, {"SSL_CERT_FILE": system})
    assert files.added.read_text() == pem("A")
    assert files.bundle.read_text() == pem("S") + pem("A")
    for path, kind in ((files.added, "ca"), (files.bundle, "ca-bundle")):
        assert path.name == f"{kind}-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pem"
        assert path.parent == tmp_path / ".config" / "copilot-extproc"


def test_two_gateways_do_not_take_each_others_place(tmp_path: Path, system: str) -> None:
    one = written(tmp_path, {"SSL_CERT_FILE": system})
    other = written(tmp_path, {"SSL_CERT_FILE": system}, replace(PROFILE, ca_pem=pem("B")))
    assert one.added.read_text() == pem("A")
    assert (other.added.read_text(), other.bundle.read_text()) == (pem("B"), pem("S") + pem("B"))
    assert written(tmp_path, {"SSL_CERT_FILE": system}) == one


def test_the_systems_authorities_are_in_the_bundle_where_no_other_are_named(tmp_path: Path) -> None:
    bundle = written(tmp_path).bundle
    assert bundle.read_text().endswith(pem("A"))
    assert len(ssl.create_default_context(cafile=trust_without_ours(bundle)).get_ca_certs()) > 10


def trust_without_ours(bundle: Path) -> str:
    bundle.write_text(bundle.read_text().removesuffix(pem("A")))
    return str(bundle)


def test_what_is_named_already_is_in_the_files_once_and_readable(tmp_path: Path, system: str) -> None:
    named = {}
    for letter, name in zip("NCRW", ("NODE_EXTRA_CA_CERTS", *REPLACING[1:]), strict=True):
        # Without its last line break, and with what is no certificate.
        (tmp_path / name).write_text(f"{pem('S')}# {letter}\n{pem(letter).rstrip()}")
        named[name] = str(tmp_path / name)
    files = written(tmp_path, {"SSL_CERT_FILE": system, **named})
    assert files.added.read_text() == pem("A") + pem("S") + pem("N")
    assert files.bundle.read_text() == pem("S") + pem("C") + pem("R") + pem("W") + pem("A")


def test_within_a_command_that_has_the_files_they_do_not_grow(tmp_path: Path, system: str) -> None:
    first = written(tmp_path, {"SSL_CERT_FILE": system})
    named = {"SSL_CERT_FILE": str(first.bundle), "CURL_CA_BUNDLE": str(first.bundle)}
    assert written(tmp_path, {"NODE_EXTRA_CA_CERTS": str(first.added), **named}) == first


@pytest.mark.parametrize("variable", ["NODE_EXTRA_CA_CERTS", *REPLACING])
def test_a_file_that_is_named_and_cannot_be_read_is_told(tmp_path: Path, variable: str) -> None:
    missing = str(tmp_path / "missing.pem")
    with pytest.raises(ConfigError, match=f"{variable} names {missing}, which cannot be read .No such file.*unset"):
        written(tmp_path, {variable: missing})
    with pytest.raises(ConfigError, match=f"{variable} names {tmp_path}, which cannot be read .Is a directory"):
        written(tmp_path, {variable: str(tmp_path)})


@pytest.mark.parametrize("ca_pem", ["", "no certificate", "caf\xe9"])
def test_an_authority_that_is_none_is_told(tmp_path: Path, ca_pem: str) -> None:
    with pytest.raises(ConfigError, match="ca_pem holds no certificate"):
        written(tmp_path, profile=replace(PROFILE, ca_pem=ca_pem))
    with pytest.raises(ConfigError, match="ca_pem holds no certificate"):
        trusting(ca_pem)


@pytest.mark.parametrize("environ", [{}, {"HOME": "/dev/null"}, {"XDG_CONFIG_HOME": "/proc"}])
def test_without_a_folder_that_can_be_written_it_is_told_which_variable_to_set(environ: dict[str, str]) -> None:
    with pytest.raises(NoFolder, match="set XDG_CONFIG_HOME to a folder that can be written"):
        write_authority(PROFILE, environ)


@pytest.mark.parametrize("environ", [{}, {"HOME": "/dev/null"}])
def test_for_a_while_a_temporary_folder_of_this_user_alone_does(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with authority_written(PROFILE, environ) as files:
        assert files is not None
        assert files.added.read_text() == pem("A")
        assert stat.S_IMODE(files.added.parent.stat().st_mode) == 0o700
    assert list(tmp_path.iterdir()) == []


def test_where_the_folder_can_be_written_the_files_stay(tmp_path: Path) -> None:
    with authority_written(PROFILE, {"HOME": str(tmp_path)}) as files:
        assert files == written(tmp_path)
    assert files is not None
    assert files.added.exists()


def test_without_any_folder_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with (
        pytest.raises(ConfigError, match=r"XDG_CONFIG_HOME .* nor is there a temporary folder"),
        authority_written(PROFILE, {}),
    ):
        pass


def test_all_files_are_removed_and_nothing_else(tmp_path: Path) -> None:
    folder = written(tmp_path).added.parent
    written(tmp_path, profile=replace(PROFILE, ca_pem=pem("B")))
    (folder / "sign-in.json").touch()
    remove_authorities({"HOME": str(tmp_path)})
    assert [path.name for path in folder.iterdir()] == ["sign-in.json"]
    remove_authorities({"HOME": str(tmp_path / "nowhere")})
