"""`extproc doctor` on a running gateway, as a developer's machine and as the gateway itself."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from extproc.commands.doctor import doctor
from tests.e2e.gateway import Gateway

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


async def ask(gateway: Gateway, *arguments: str, **environ: str) -> tuple[Result, dict[str, dict[str, Any]]]:
    """Run the command in a thread: issuer and upstream answer from here."""
    app = typer.Typer()
    app.command()(doctor)
    known = {"XDG_CONFIG_HOME": str(gateway.state / "config"), **environ}
    cleared = dict.fromkeys(["HTTPS_PROXY", "https_proxy", "EXTPROC_GATEWAY"])
    ran = await asyncio.to_thread(
        CliRunner().invoke, app, ["--json", *arguments], obj=known, env={**cleared, **environ}
    )
    return ran, {row["id"]: row for row in map(json.loads, ran.output.splitlines())}


def statuses(found: dict[str, dict[str, Any]], *kinds: str) -> dict[str, str]:
    return {one: row["status"] for one, row in found.items() if one.startswith(kinds)}


async def test_a_developers_machine_behind_the_gateway_is_in_order(gateway: Gateway) -> None:
    token = gateway.token()
    _, found = await ask(
        gateway,
        *("--gateway", f"https://127.0.0.1:{gateway.ports.https}"),
        *("--proxy", f"http://127.0.0.1:{gateway.ports.proxy}"),
        *("--ca-file", str(gateway.state / "ca" / "ca.pem")),
        EXTPROC_TOKEN=token,
    )
    assert statuses(found, "gateway.", "token.", "proxy.") == {
        "gateway.reachable": "ok",
        "gateway.trusted": "ok",
        "gateway.profile": "ok",
        "gateway.ready": "ok",
        "token.accepted": "ok",
        "proxy.connect": "ok",
        "proxy.confined": "ok",
    }
    assert token not in json.dumps(found)


async def test_without_the_authority_and_with_a_bad_token_it_says_so(gateway: Gateway) -> None:
    ran, found = await ask(
        gateway,
        *("--gateway", f"https://127.0.0.1:{gateway.ports.https}"),
        *("--proxy", f"http://me:nobody@127.0.0.1:{gateway.ports.proxy}"),
    )
    assert ran.exit_code == 1
    assert statuses(found, "gateway.trusted", "proxy.") == {
        "gateway.trusted": "failed",
        "proxy.connect": "failed",
        "proxy.confined": "failed",
    }
    _, found = await ask(gateway, "--gateway", gateway.url, "--token", "nobody")
    assert found["token.accepted"]["status"] == "failed"
    assert "does not accept the token" in found["token.accepted"]["sentence"]


async def test_the_gateway_itself_is_in_order_but_for_github(gateway: Gateway) -> None:
    _, found = await ask(gateway, "--config", str(Path(gateway.state / "gateway.yaml")))
    good = statuses(found, "settings.", "keys.", "spool.", "store.", "worker.", "service.", "issuer.")
    assert set(good.values()) == {"ok"}
    assert {"store.writable", "store.readable", "worker.0", "keys.present", "service.ready"} < set(good)
    assert any(one.startswith("upstream.") for one in found)
