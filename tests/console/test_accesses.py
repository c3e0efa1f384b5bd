from __future__ import annotations

from pathlib import Path

import pytest

from extproc.config_recording import Places, RecordingSettings, StoreSettings
from extproc.console.accesses import AGAIN_SECONDS, Accesses
from extproc.console.roles import Role, Viewer
from extproc.errors import StoreUnavailable
from extproc.exchange_id import exchange_id
from tests.console.api.serving import accesses
from tests.console.desk import principal
from tests.recording_of import NOW

ALICE, CAROL = (Viewer(principal(user), frozenset({Role.AUDITOR})) for user in ("alice", "carol"))


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def noted(tmp_path: Path, clock: Clock) -> Accesses:
    places = Places(tmp_path, Path(), StoreSettings(sqlite=Path("record.db")), RecordingSettings(replica="r"))
    return Accesses(places, clock, exchange_id)


async def test_an_access_says_who_did_what_through_the_console(tmp_path: Path, noted: Accesses) -> None:
    await noted.note(CAROL, "replay", target="s1", start=0, exchanges=3)
    (head,) = accesses(tmp_path)
    assert head.facts == {
        "by": "issuer#carol",
        "name": "carol",
        "through": "console",
        "action": "replay",
        "target": "s1",
        "start": 0,
        "exchanges": 3,
    }
    assert head.at == NOW * 1_000_000


async def test_the_same_look_within_a_minute_counts_once(tmp_path: Path, noted: Accesses, clock: Clock) -> None:
    await noted.note_once(CAROL, "show", target="e1")
    clock.now += AGAIN_SECONDS - 1
    await noted.note_once(CAROL, "show", target="e1")
    assert len(accesses(tmp_path)) == 1
    clock.now += 1
    await noted.note_once(CAROL, "show", target="e1")
    assert len(accesses(tmp_path)) == 2


async def test_another_person_action_or_thing_is_another_look(tmp_path: Path, noted: Accesses) -> None:
    await noted.note_once(CAROL, "show", target="e1")
    await noted.note_once(CAROL, "show", target="e2")
    await noted.note_once(CAROL, "replay", target="e1")
    await noted.note_once(ALICE, "show", target="e1")
    assert len(accesses(tmp_path)) == 4


async def test_what_could_not_be_recorded_is_tried_again(tmp_path: Path, noted: Accesses) -> None:
    (tmp_path / "spool").write_text("no folder")
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await noted.note_once(CAROL, "show", target="e1")
    (tmp_path / "spool").unlink()
    await noted.note_once(CAROL, "show", target="e1")
    assert len(accesses(tmp_path)) == 1
