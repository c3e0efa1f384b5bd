from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from extproc.doctor.check import Status, Verdict, run
from extproc.doctor.inside import checks
from extproc.doctor.peers import Way
from extproc.keys.shared_keys import make, shared_keys


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    return written(tmp_path)


def written(folder: Path, **more: Any) -> Path:
    (folder / "policy.yaml").write_bytes(Path("extproc/dev/policy.yaml").read_bytes())
    (folder / "spool").mkdir(exist_ok=True)
    oidc = {"kind": "oidc", "issuer": "http://127.0.0.1:9", "audiences": ["extproc"]}
    values = {
        "policy": "policy.yaml",
        "store": {"sqlite": "record.db"},
        "issuers": [oidc],
        "operations": "127.0.0.1:9",
        "listen": ["unix:{worker}.sock"],
        "credentials": {"github": {"env": "TOKEN"}},
        "upstreams": {"copilot-api": "localhost"},
        **more,
    }
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


async def looked(path: Path, *only: str) -> dict[str, Verdict]:
    found = checks(path, Way("", 0.2, 9), "os:me", time.time, store_seconds=0.1)
    return {one.id: one.verdict for one in await run([one for one in found if not only or one.id in only])}


async def test_all_of_a_gateway_is_looked_at(settings: Path) -> None:
    found = await looked(settings)
    assert {
        *("settings.valid", "state.outlives", "keys.present", "spool.writable", "store.writable", "store.readable"),
        *("worker.0", "service.ready", "upstream.localhost.reachable", "issuer.http://127.0.0.1:9.keys"),
    } < set(found)
    assert found["settings.valid"].status is Status.OK
    assert found["service.ready"].status is Status.FAILED


async def test_beside_a_console_no_worker_and_no_way_to_github_is_expected(settings: Path) -> None:
    ids = {one.id for one in checks(settings, Way("", 0.2, 9), "os:me", time.time, is_console=True)}
    assert not [one for one in ids if one.startswith(("worker.", "service.", "upstream."))]
    assert {"store.writable", "keys.present", "issuer.http://127.0.0.1:9.keys"} < ids


async def test_settings_that_are_not_valid_are_all_that_is_told(tmp_path: Path) -> None:
    found = await looked(written(tmp_path, workers=0))
    assert list(found) == ["settings.valid"]
    assert found["settings.valid"].status is Status.FAILED
    assert "workers" in found["settings.valid"].sentence


async def test_keys_that_are_missing_are_named_and_not_made(settings: Path) -> None:
    verdict = (await looked(settings, "keys.present"))["keys.present"]
    assert verdict.status is Status.FAILED
    for name in ("checkpoint.key", "fingerprint.key", "gateway-token.key"):
        assert name in verdict.sentence
        assert not (settings.parent / name).exists()


async def test_keys_that_can_be_used_are_in_order(settings: Path) -> None:
    make(settings.parent, shared_keys("copilot-extproc")[:3])
    assert (await looked(settings, "keys.present"))["keys.present"].status is Status.OK


async def test_a_key_of_encryption_is_wanted_where_the_settings_name_one(tmp_path: Path) -> None:
    path = written(tmp_path, recording={"encryption": {"key_file": "wrapping.key"}})
    make(tmp_path, shared_keys("copilot-extproc")[:3])
    assert "wrapping.key" in (await looked(path, "keys.present"))["keys.present"].sentence


@pytest.mark.parametrize("name", ["checkpoint.key", "fingerprint.key", "gateway-token.key"])
async def test_a_key_that_cannot_be_used_is_named(settings: Path, name: str) -> None:
    make(settings.parent, shared_keys("copilot-extproc")[:3])
    (settings.parent / name).write_bytes(b"another")
    verdict = (await looked(settings, "keys.present"))["keys.present"]
    assert verdict.status is Status.FAILED
    assert name in verdict.sentence


async def test_the_state_directory_has_to_be_there(tmp_path: Path) -> None:
    verdict = (await looked(written(tmp_path, state="elsewhere"), "state.outlives"))["state.outlives"]
    assert verdict.status is Status.FAILED
    assert "elsewhere" in verdict.sentence
