from __future__ import annotations

import os
from pathlib import Path

import pytest

from extproc.credentials.source import EnvironmentSource, FileSource
from extproc.errors import Code, Refused

TOKEN = "ghu_0123456789abcdef"


def test_a_file_s_token_is_read_without_the_white_space_around_it(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"\n {TOKEN}\r\n")
    assert FileSource("a", path).read().reveal() == TOKEN


def test_an_unchanged_file_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    source = FileSource("a", path)
    first = source.read()
    status = path.stat()
    # Same inode, size and time: only someone who opens the file can see the difference.
    path.write_text("x" * len(TOKEN))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert source.read() is first


def test_a_rewritten_file_gives_the_new_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    source = FileSource("a", path)
    source.read()
    path.write_text(f"{TOKEN}-new")
    assert source.read().reveal() == f"{TOKEN}-new"


def test_a_mounted_secret_is_followed_when_kubernetes_swaps_its_symlink(tmp_path: Path) -> None:
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "token").write_text(f"{TOKEN}-{version}")
        os.utime(tmp_path / version / "token", ns=(1, 1))
    data = tmp_path / "..data"
    data.symlink_to("v1")
    (tmp_path / "token").symlink_to("..data/token")
    source = FileSource("a", tmp_path / "token")
    assert source.read().reveal() == f"{TOKEN}-v1"
    swapped = tmp_path / "..data_tmp"
    swapped.symlink_to("v2")
    swapped.rename(data)
    assert source.read().reveal() == f"{TOKEN}-v2"


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"ghu_secret\nghu_other", "a line break"),
        (b"ghu_secret ghu_other", "a space"),
        (b"ghu_secret\x00", "another character"),
        (b"ghu_secret\x1b", "another character"),
        (b"\xef\xbb\xbfghu_secret", "another character"),
        ("ghu_sécret".encode(), "another character"),
        (b"ghu_", "shorter than 8"),
        (b"g" * 65_537, "larger than 65536 bytes"),
    ],
)
def test_a_file_that_holds_no_usable_token_is_refused_without_showing_it(
    tmp_path: Path, content: bytes, cause: str
) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    source = FileSource("team-a", path)
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            source.read()
        assert caught.value.refusal.code is Code.CREDENTIAL_UNAVAILABLE
        assert "'team-a'" in str(caught.value)
        assert cause in str(caught.value)
        assert "ghu_" not in str(caught.value)


def test_a_missing_file_is_refused_without_its_path_and_a_token_read_before_is_not_served(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    source = FileSource("a", path)
    source.read()
    path.unlink()
    with pytest.raises(Refused, match="No such file") as caught:
        source.read()
    assert str(tmp_path) not in str(caught.value)
    path.write_text(TOKEN)
    assert source.read().reveal() == TOKEN


def test_a_directory_and_a_pipe_are_refused_without_opening_them(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(Refused, match="not a regular file"):
            FileSource("a", path).read()


def test_an_environment_variable_is_read_each_time() -> None:
    environ = {"TOKEN": f"{TOKEN}\n"}
    source = EnvironmentSource("a", "TOKEN", environ)
    assert source.read().reveal() == TOKEN
    environ["TOKEN"] = f"{TOKEN}-new"
    assert source.read().reveal() == f"{TOKEN}-new"


@pytest.mark.parametrize(("environ", "cause"), [({}, "is not set"), ({"TOKEN": ""}, "is empty")])
def test_a_missing_or_empty_variable_is_refused(environ: dict[str, str], cause: str) -> None:
    with pytest.raises(Refused, match=cause):
        EnvironmentSource("a", "TOKEN", environ).read()
