from __future__ import annotations

import time
from pathlib import Path

import pytest

from extproc.certificates import operations
from extproc.certificates.operations import Wanted
from extproc.doctor.tls import Authorities


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the gateway's authority."""
    return _authority(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="session")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of an authority that everybody trusts, which has signed for GitHub."""
    return _authority(tmp_path_factory.mktemp("theirs"))


@pytest.fixture(scope="session")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of an authority that nobody here knows."""
    return _authority(tmp_path_factory.mktemp("strange"))


@pytest.fixture(scope="session")
def authorities(ours: Path, theirs: Path) -> Authorities:
    return Authorities(pem(ours), pem(theirs))


def _authority(folder: Path) -> Path:
    operations.init(folder, Wanted(["github.com"]), time.time())
    return folder


def pem(folder: Path) -> str:
    return (folder / "ca.pem").read_text()
