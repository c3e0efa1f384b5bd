"""The record of the real gateway by the command line: what was changed is named, what is encrypted stays so."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from extproc.recording.entry import Head, Kind, read_head
from extproc.store.sqlite_ledger import SqliteLedger
from tests.e2e import tampering
from tests.e2e.gateway import Gateway, decision_id, until
from tests.e2e.load import Pausing, said, text_of

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

LONG = "and so on, until it is a part of its own " * 50


async def ask(gateway: Gateway, text: str) -> str:
    async with gateway.chat(text=text) as response:
        assert response.status == 200, await response.text()
        await response.read()
    return decision_id(response)


def heads(gateway: Gateway) -> list[Head]:
    ledger = SqliteLedger(gateway.state / "record.db")
    return [read_head(one.head) for log in ledger.logs() for one in ledger.entries(log, bodies=False)]


# --- what was changed is named ----------------------------------------------------------------------------------------

Tamper = Callable[[Path, str], None]
INDEX = 2
"""Of the entry that is changed, in the first of two logs with six entries each; its neighbour is changed along."""

TAMPERED: dict[str, tuple[Tamper, list[str]]] = {
    "edit": (
        lambda state, log: tampering.change(
            state,
            """UPDATE entry SET head = CAST(replace(CAST(head AS TEXT), '"alice"', '"mally"') AS BLOB)
            WHERE log = {log} AND idx = {index}""",
            log=log,
            index=INDEX,
        ),
        ["EDITED: {log}, entry 2: ", "exchange {exchange}"],
    ),
    "delete": (
        lambda state, log: tampering.change(
            state, "DELETE FROM entry WHERE log = {log} AND idx = {index}", log=log, index=INDEX
        ),
        ["REMOVED: {log}, entry 2: "],
    ),
    "swap": (
        lambda state, log: tampering.change(
            state,
            """UPDATE entry SET idx = -1 WHERE log = {log} AND idx = {index};
            UPDATE entry SET idx = {index} WHERE log = {log} AND idx = {index} + 1;
            UPDATE entry SET idx = {index} + 1 WHERE log = {log} AND idx = -1""",
            log=log,
            index=INDEX,
        ),
        ["REORDERED: {log}, entry 2: ", "REORDERED: {log}, entry 3: ", "exchange {exchange}"],
    ),
    "truncate": (
        lambda state, log: tampering.change(
            state,
            "DELETE FROM entry WHERE log = {log} AND idx >= {index}; DELETE FROM checkpoint WHERE size > {index}",
            log=log,
            index=INDEX,
        ),
        ["TRUNCATED: {log}, entries 2 to 5: "],
    ),
    "rehash": (
        lambda state, log: tampering.rehash(state, log, INDEX),
        ["REWRITTEN: {log}, entries "],
    ),
    "drop the log": (
        lambda state, log: tampering.change(
            state, "DELETE FROM entry WHERE log = {log}; DELETE FROM checkpoint WHERE log = {log}", log=log
        ),
        ["TRUNCATED: {log}, entries 0 to 5: "],
    ),
    "delete a part": (
        lambda state, log: tampering.change(
            state,
            """DELETE FROM blob WHERE address = (
            SELECT json_extract(CAST(head AS TEXT), '$.blobs[0]') FROM entry WHERE log = {log} AND idx = {index})""",
            log=log,
            index=INDEX,
        ),
        ["REMOVED: {log}, entry 2: ", "exchange {exchange}"],
    ),
}


async def test_what_is_done_to_the_record_of_a_gateway_is_found_and_named(own_gateway: Gateway) -> None:
    await own_gateway.prepare()
    await own_gateway.start()
    for life in range(2):
        if life:
            await own_gateway.start_service()
        for number in range(5):
            await ask(own_gateway, f"life {life} number {number} {LONG}")
        await own_gateway.stop_service()
    good = await own_gateway.command("verify")
    assert (good.code, "nothing was changed" in good.out) == (0, True), good
    first = [head for head in heads(own_gateway) if head.log == heads(own_gateway)[0].log]
    assert [head.index for head in first] == list(range(6))
    log, exchange = first[INDEX].log, first[INDEX].id
    await asyncio.gather(*(_tamper(own_gateway, name, log, exchange) for name in TAMPERED))


async def _tamper(gateway: Gateway, name: str, log: str, exchange: str) -> None:
    tamper, expected = TAMPERED[name]
    state = await asyncio.to_thread(tampering.copy_of, gateway.state, name.replace(" ", "-"))
    try:
        await asyncio.to_thread(tamper, state, log)
        found = await gateway.command("verify", state=state)
    finally:
        shutil.rmtree(state)
    assert found.code == 1, (name, found)
    for text in expected:
        assert text.format(log=log, exchange=exchange) in found.out, (name, text, found.out)


# --- reading is recorded ----------------------------------------------------------------------------------------------


async def test_who_reads_is_in_the_store_while_the_service_runs(own_gateway: Gateway, tmp_path: Path) -> None:
    await own_gateway.prepare()
    await own_gateway.start()
    exchange = await ask(own_gateway, "who reads this?")
    session = (await own_gateway.document(exchange))["session"]
    out = tmp_path / "found.jsonl"
    before = time.time()
    shown, replayed, exported = await asyncio.gather(
        own_gateway.command("sessions", "show", session),
        own_gateway.command("replay", exchange, "--no-wait"),
        own_gateway.command("export", "--session", session, "--out", str(out)),
    )
    assert [shown.code, replayed.code, exported.code] == [0, 0, 0], (shown, replayed, exported)
    assert "who reads this?" in shown.out
    assert "who reads this?" in replayed.out
    assert "who reads this?" in out.read_text()

    def accesses() -> list[Head]:
        found = [head for head in heads(own_gateway) if head.kind is Kind.ACCESS]
        return found if len(found) == 3 else []

    found = {head.facts["action"]: head for head in await until(accesses, "three access entries")}
    assert (found["show"].facts["target"], found["show"].facts["exchanges"]) == (session, 1)
    assert found["replay"].facts["target"] == exchange
    assert (found["export"].facts["session"], found["export"].facts["out"]) == (session, str(out))
    for head in found.values():
        assert head.facts["by"].startswith("os:")
        assert before <= head.at / 1_000_000 <= time.time()
    assert (await own_gateway.command("verify")).code == 0


# --- encrypted at rest ------------------------------------------------------------------------------------------------

ASKED, SAID = "Sugar-is-sweet", "Violets-are-blue"


def files_with(state: Path, *texts: str) -> set[str]:
    """Return the names of the files in which one of these texts is.

    A file or a folder may go meanwhile: the spool of a command is removed once it is in the store.
    """
    wanted = [text.encode() for text in texts]
    found = set[str]()
    for folder, _, names in os.walk(state):
        for name in (one for one in names if Path(folder, one).is_file()):
            with contextlib.suppress(FileNotFoundError):
                content = Path(folder, name).read_bytes()
                if any(text in content for text in wanted):
                    found.add(name)
    return found


async def shown(gateway: Gateway, target: str) -> dict[str, Any]:
    """Return the document that `sessions show` shows of an exchange, once it is there."""
    await until(lambda: [one for one in heads(gateway) if one.id == target], f"the entry of {target}")
    done = await gateway.command("sessions", "show", target, "--json")
    assert done.code == 0, done
    document: dict[str, Any] = json.loads(done.out)
    return document


async def test_encrypted_content_is_nowhere_in_the_clear_and_can_be_erased(
    own_gateway: Gateway, tmp_path: Path
) -> None:
    await own_gateway.prepare()
    upstream = Pausing([f"{SAID} ", "in ", "pieces "], [], whole=f"{SAID} {LONG}")
    own_gateway.upstream.play(upstream)
    await own_gateway.start()
    await ask(own_gateway, ASKED)
    await own_gateway.stop_service()
    # Without encryption it is found in this way.
    for text in (ASKED, SAID):
        assert files_with(own_gateway.state, text) == {"record.db"}
    for name in ("record.db", "witness.log"):
        (own_gateway.state / name).rename(tmp_path / name)
    own_gateway.configure(recording={"encryption": {"key_file": "wrapping.key"}})
    await own_gateway.start_service()
    short, long = await ask(own_gateway, ASKED), await ask(own_gateway, f"{ASKED} {LONG}")
    async with own_gateway.chat(stream=True, text=f"{ASKED} in a stream") as running:
        received = b""
        while b"pieces" not in received:
            received += await running.content.readany()
        await until(lambda: {short, long} <= {head.id for head in heads(own_gateway)}, "both entries")
        # "delta" stands in every event of the stream.
        assert not files_with(own_gateway.state, SAID, ASKED, "delta", "of its own")
        assert list((own_gateway.state / "spool").glob("*/*.segment"))
        await own_gateway.kill_service()
    upstream.go_on.set()
    await own_gateway.start_service()
    cut = await shown(own_gateway, decision_id(running))
    assert cut["outcome"] == "interrupted"
    assert cut["request"]["messages"][0]["content"] == f"{ASKED} in a stream"
    assert said(cut).startswith(text_of(received))
    whole = await shown(own_gateway, long)
    assert whole["request"]["messages"][0]["content"] == f"{ASKED} {LONG}"
    assert not files_with(own_gateway.state, SAID, ASKED, "delta", "of its own")
    await check_erased(own_gateway, whole)


async def check_erased(gateway: Gateway, whole: dict[str, Any]) -> None:
    """Erase the session of an exchange; check that it cannot be read, and verifies."""
    reason = ("--reason", "asked to", "--token", gateway.token("dave"))
    done = await gateway.command("retention", "erase", "--in-use", "--session", whole["session"], *reason)
    assert done.code == 0, done
    erased = await shown(gateway, whole["id"])
    assert "removed" in erased
    assert not {"request", "response"} & set(erased)
    verified = await gateway.command("verify")
    assert (verified.code, "nothing was changed" in verified.out) == (0, True), verified
