from __future__ import annotations

import importlib.metadata
import re
from email.message import Message
from pathlib import Path
from typing import cast

import pytest

from image.sbom import licence, pins

ALLOWED = {"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "PSF-2.0"}

# Copyleft of single files: they are shipped as they came, so that nothing else is asked of us.
UNCHANGED = {"certifi": "MPL-2.0", "pathspec": "MPL-2.0"}

LOCKS = [Path("requirements.lock"), Path("requirements-image.lock")]
NAMES = sorted(name for lock in LOCKS for name in pins(lock.read_text()))


def refused(name: str, spdx: str) -> bool:
    return not set(re.split(r" (?:AND|OR) ", spdx)) <= ALLOWED and UNCHANGED.get(name) != spdx


def test_every_distribution_in_the_image_has_a_licence_that_we_accept() -> None:
    installed = {name: licence(importlib.metadata.metadata(name)) for name in NAMES if _is_installed(name)}
    assert len(installed) > 60
    assert {name: spdx for name, spdx in installed.items() if refused(name, spdx)} == {}
    assert {name: installed[name] for name in UNCHANGED} == UNCHANGED


def test_what_is_not_installed_here_is_for_another_system_or_python() -> None:
    text = "".join(lock.read_text() for lock in LOCKS)
    assert [name for name in NAMES if not _is_installed(name) and not re.search(rf"(?m)^{name}==\S+ ; ", text)] == []


@pytest.mark.parametrize("spdx", ["", "GPL-3.0-or-later", "MIT AND AGPL-3.0-only", "MPL-2.0", "LicenseRef-Proprietary"])
def test_another_licence_or_none_is_refused(spdx: str) -> None:
    assert refused("somebody", spdx)


def test_a_licence_is_read_from_wherever_the_package_tells_it() -> None:
    def told(**headers: str) -> str:
        message = Message()
        for name, value in headers.items():
            message[name.replace("_", "-")] = value
        return licence(cast("importlib.metadata.PackageMetadata", message))

    assert told(License_Expression="MIT OR Apache-2.0", License="other") == "MIT OR Apache-2.0"
    assert told(License="MIT License") == "MIT"
    assert told(Classifier="License :: OSI Approved :: Apache Software License") == "Apache-2.0"
    assert told(License="x" * 400, Classifier="License :: OSI Approved :: MIT License") == "MIT"
    assert told(Classifier="Topic :: Security") == ""


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
