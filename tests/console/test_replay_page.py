from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from extproc import stores
from extproc.console.reading import MAX_SHOWN_BYTES
from extproc.errors import ConfigError
from extproc.recording.checkpoint import Checkpoint, origin_of
from extproc.recording.merkle import Frontier, leaf_hash
from extproc.recording.receipt import check
from extproc.store.sqlite_store import SqliteStore
from tests.console.desk import CSRF, HOSTILE, Desk, is_inert, opened
from tests.console.rendered import Read, assert_harmless
from tests.evidence import SIGNER
from tests.recording_of import NOW, exchange

LOG = "test.0.1"


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened(tmp_path) as one:
        one.console.reading._public_keys = lambda: [SIGNER.public]
        yield one


async def sign(desk: Desk, *, root: bytes | None = None) -> int:
    """Sign what the log of the desk has; return how many entries that is."""
    frontier = Frontier()
    with stores.opened_ledger(desk.places) as ledger:
        for one in ledger.entries(LOG, bodies=False):
            frontier.append(leaf_hash(one.head))
    note = SIGNER.sign(Checkpoint(origin_of(SIGNER.name, LOG), frontier.size, root or frontier.root(), int(NOW)))
    store = SqliteStore(desk.places.record)
    await store.put_checkpoint(LOG, frontier.size, note)
    await store.aclose()
    return frontier.size


def articles(html: str) -> list[str | None]:
    return [one.get("id") for one in Read(html).all("article")]


def accesses(desk: Desk) -> str:
    """Return what the spool says was read."""
    return " ".join(
        one.read_bytes().decode("utf-8", "replace") for one in desk.places.spool.rglob("*") if one.is_file()
    )


# --- reading ---------------------------------------------------------------------------------------------------------


async def test_a_session_is_there_to_be_read_without_a_script(desk: Desk) -> None:
    await desk.record(exchange("x1", answered="Hello **you**"), exchange("x2", at=NOW + 60))
    answer = await desk.get("/sessions/s1")
    assert answer.status_code == 200
    assert articles(answer.text) == ["x1", "x2"]
    text = Read(answer.text).text
    assert "say hello" in text
    assert "Hello you" in text
    read = assert_harmless(answer.text)
    # Nothing of the conversation is hidden: that is what the script does while it plays.
    assert {name for name, attributes in read.elements if "hidden" in attributes} == {"section", "p"}
    assert "data-player" in next(one for one in read.all("section") if "hidden" in one)
    played = json.loads(read.scripts[-1])
    assert [one[0] for one in played] == sorted(one[0] for one in played)
    assert len(played) == 2


async def test_one_exchange_can_be_read_alone(desk: Desk) -> None:
    await desk.record(exchange("x1"), exchange("x2", at=NOW + 60))
    html = (await desk.get("/exchanges/x2")).text
    assert articles(html) == ["x2"]
    assert 'href="/sessions/s1#x2"' in html


@pytest.mark.parametrize("path", ["/sessions/s1", "/exchanges/x1", "/exchanges/x1/receipt"])
async def test_others_sessions_are_as_unknown_ones(desk: Desk, path: str) -> None:
    await desk.record(exchange("x1"))
    await sign(desk)
    assert (await desk.get(path, "alice")).status_code == 200
    assert (await desk.get(path, "carol")).status_code == 200
    unseen = await desk.get(path, "bob")
    unknown = await desk.get(path.replace("1", "9"), "bob")
    assert (unseen.status_code, unknown.status_code) == (404, 404)
    assert unseen.text == unknown.text
    assert (await desk.get(path, "dave")).status_code == 403
    assert (await desk.get(path, None)).status_code == 303


async def test_reading_is_recorded(desk: Desk) -> None:
    await desk.record(exchange("x1", session="the-session"), exchange("the-exchange", session="s2"))
    await desk.get("/sessions/the-session", "carol")
    assert "the-session" in accesses(desk)
    assert "the-exchange" not in accesses(desk)
    await desk.get("/exchanges/the-exchange", "carol")
    assert "the-exchange" in accesses(desk)


async def test_a_long_session_is_shown_in_parts(desk: Desk) -> None:
    await desk.record(*(exchange(f"x{at:03}", at=NOW + at) for at in range(450)))
    html = (await desk.get("/sessions/s1")).text
    assert articles(html) == [f"x{at:03}" for at in range(200)]
    assert "exchanges 1 to 200 of more" in html
    assert "Earlier exchanges" not in html
    assert html.count('href="/sessions/s1?start=200"') == 2
    html = (await desk.get("/sessions/s1?start=400")).text
    assert articles(html) == [f"x{at:03}" for at in range(400, 450)]
    assert "exchanges 401 to 450<" in re.sub(r"\s+<", "<", html)
    assert "Next exchanges" not in html
    assert 'href="/sessions/s1?start=200"' in html


async def test_of_long_exchanges_fewer_are_shown_at_once(desk: Desk) -> None:
    half = MAX_SHOWN_BYTES // 2
    await desk.record(*(exchange(f"x{at}", at=NOW + at, body_bytes=half) for at in range(3)))
    html = (await desk.get("/sessions/s1")).text
    assert articles(html) == ["x0", "x1"]
    assert 'href="/sessions/s1?start=2"' in html
    assert articles((await desk.get("/sessions/s1?start=2")).text) == ["x2"]


async def test_an_exchange_is_shown_however_long_it_is(desk: Desk) -> None:
    await desk.record(exchange("x1", body_bytes=MAX_SHOWN_BYTES + 1, answered="x" * 1_000_000))
    assert articles((await desk.get("/sessions/s1")).text) == ["x1"]


@pytest.mark.parametrize(("start", "status"), [("x", 422), ("-1", 422), ("1" * 30, 422), ("1", 404), ("", 200)])
async def test_a_start_that_is_none_is_told(desk: Desk, start: str, status: int) -> None:
    await desk.record(exchange("x1"))
    assert (await desk.get(f"/sessions/s1?start={start}")).status_code == status


async def test_what_strangers_wrote_is_no_markup(desk: Desk) -> None:
    opening, closing = exchange(
        "x1", model=HOSTILE, path=HOSTILE, messages=[{"role": HOSTILE, "content": HOSTILE}], answered=HOSTILE
    )
    closing["response"]["tool_calls"] = [
        {"id": "c", "name": HOSTILE, "arguments": json.dumps({"path": HOSTILE, "old_str": HOSTILE, "new_str": "x"})}
    ]
    closing["timing"] = {"pieces": [[1.0, "0.text", len(HOSTILE)]], "closed": 2.0}
    await desk.record((opening, closing))
    for path in ("/sessions/s1", "/exchanges/x1"):
        html = (await desk.get(path)).text
        assert is_inert(html)
        assert_harmless(html)


# --- proofs ----------------------------------------------------------------------------------------------------------


async def test_each_exchange_says_whether_it_is_signed(desk: Desk) -> None:
    await desk.record(exchange("x1"), exchange("x2", at=NOW + 1))
    assert (await desk.get("/sessions/s1")).text.count("not signed yet") == 2
    await sign(desk)
    await desk.record(exchange("x3", at=NOW + 2))
    html = (await desk.get("/sessions/s1")).text
    assert html.count("signed (checkpoint of 2 entries, 2025-10-09 08:53:20)") == 2
    assert html.count("not signed yet") == 1


async def test_without_a_key_nothing_is_said_to_be_signed(desk: Desk) -> None:
    def no_key() -> Any:
        raise ConfigError("checkpoint.key.pub: the public key of the checkpoints cannot be read")

    await desk.record(exchange("x1"))
    await sign(desk)
    desk.console.reading._public_keys = no_key
    answer = await desk.get("/sessions/s1")
    assert answer.status_code == 200
    assert "Whether this is signed cannot be said: checkpoint.key.pub" in answer.text
    assert "not checked" in answer.text
    assert "signed (" not in answer.text


async def test_a_proof_says_which_entry_leads_to_whose_signature(desk: Desk) -> None:
    await desk.record(*(exchange(f"x{at}", at=NOW + at) for at in range(5)))
    await sign(desk)
    whole = await desk.post("/exchanges/x3/prove")
    assert whole.status_code == 200
    text = " ".join(Read(whole.text).text.split())
    assert f"Proven: this exchange is entry 3 of log {LOG}. A proof of 3 hashes leads" in text
    assert "which gateway.example signed at 2025-10-09 08:53:20 over 5 entries." in text
    fragment = {"x-user": "alice", "x-fragment": "1", "content-type": "application/x-www-form-urlencoded"}
    part = await desk._client.post("/exchanges/x3/prove", headers=fragment, content=urlencode({"csrf": CSRF}))
    assert "<html" not in part.text
    assert "Proven:" in part.text


async def test_what_is_not_proven_says_why_in_red(desk: Desk) -> None:
    await desk.record(exchange("x1"))
    not_yet = (await desk.post("/exchanges/x1/prove")).text
    assert "Not proven: no valid checkpoint covers entry 0" in not_yet
    await sign(desk, root=bytes(32))
    altered = (await desk.post("/exchanges/x1/prove")).text
    assert 'class="notice bad wrap" role="alert">Not proven: log test.0.1 is not what was signed' in altered
    assert "Proven:" not in altered
    assert (await desk.get("/exchanges/x1/receipt")).status_code == 422


async def test_only_who_may_read_an_exchange_can_prove_it_and_only_from_our_form(desk: Desk) -> None:
    await desk.record(exchange("x1"))
    await sign(desk)
    assert (await desk.post("/exchanges/x1/prove", "bob")).status_code == 404
    assert (await desk.post("/exchanges/x1/prove", csrf="another")).status_code == 403
    assert (await desk.get("/exchanges/x1/prove")).status_code == 405


async def test_the_receipt_is_a_file_that_proves_it_elsewhere(desk: Desk) -> None:
    await desk.record(exchange("x1"), exchange("x2"))
    await sign(desk)
    answer = await desk.get("/exchanges/x2/receipt")
    assert answer.headers["content-disposition"] == 'attachment; filename="receipt-x2.json"'
    assert check(answer.content, [SIGNER.public]).head.id == "x2"
    # Without the content.
    assert "say hello" not in answer.text
