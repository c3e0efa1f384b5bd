from __future__ import annotations

import time
from pathlib import Path

import aiohttp
import pytest

from extproc import config
from extproc.errors import ConfigError, Refused
from extproc.identities import graph_of, identify
from extproc.secret import Secret

POLICY = "version: 1\ncredential: github\nrules:\n  - id: all\n    effect: allow\n"
SETTINGS = """\
policy: policy.yaml
store: {{ sqlite: record.db }}
issuers: {issuers}
credentials:
  github: {{ file: token }}
"""
GRAPH = ", graph: { client_id: app, client_secret_file: secret }"


def entra(number: int, graph: str = GRAPH) -> str:
    tenant = f"{number}1111111-2222-3333-4444-555555555555"
    return f"{{ kind: entra, tenants: [{tenant}], audiences: [gateway]{graph} }}"


def load(folder: Path, *issuers: str) -> config.Config:
    (folder / "policy.yaml").write_text(POLICY)
    (folder / "gateway.yaml").write_text(SETTINGS.format(issuers=f"[{', '.join(issuers)}]"))
    return config.load(folder / "gateway.yaml")


async def test_a_token_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"identity\.malformed"):
        await identify(load(tmp_path, entra(1, "")), Secret("gho_1"), time.time)


async def test_groups_are_asked_for_only_where_that_is_set_up(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("made-up-secret")
    (tmp_path / "secret").chmod(0o600)
    async with aiohttp.ClientSession() as session:
        assert graph_of(load(tmp_path, entra(1, "")), session, time.time) is None
        assert graph_of(load(tmp_path, entra(1, ""), entra(2)), session, time.time) is not None


async def test_a_source_of_groups_that_cannot_be_is_a_fault_of_the_settings(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ConfigError, match="client_secret_file"):
            graph_of(load(tmp_path, entra(1)), session, time.time)
        with pytest.raises(ConfigError, match="at most one Entra entry"):
            graph_of(load(tmp_path, entra(1), entra(2)), session, time.time)
