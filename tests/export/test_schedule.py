from __future__ import annotations

import json
from pathlib import Path

import pytest

from extproc.errors import ConfigError
from extproc.export import bundle as export_bundle
from extproc.export import exporting
from extproc.export import schedule as export_schedule
from extproc.export.bundle import Bundle
from extproc.export.exporting import Source
from extproc.export.formats import Format
from extproc.recording.entry import Draft, Kind
from extproc.store.port import Search
from tests.evidence import Evidence
from tests.recording_of import NOW, exchange


@pytest.fixture
def store(tmp_path: Path) -> Evidence:
    return Evidence(tmp_path / "record.db")


def run(store: Evidence, folder: Path, now: float = NOW, **search: str) -> list[Bundle]:
    return export_schedule.run(
        Source(store.archive, store.ledger, store.keys),
        folder / "state.json",
        folder / "out",
        search=Search(**search),  # type: ignore[arg-type]
        wanted=Format.JSONL,
        now=now,
        progress=lambda *_: None,
    )


def ids(bundles: list[Bundle]) -> list[str]:
    parts = [one for bundle in bundles for one in sorted((bundle.folder / "documents").iterdir())]
    return [json.loads(line)["id"] for part in parts for line in part.read_bytes().splitlines()]


def test_every_exchange_is_in_one_bundle_however_late_it_came(store: Evidence, tmp_path: Path) -> None:
    store.log("a.0.1", [exchange("e1", at=NOW + 5)])
    assert ids(run(store, tmp_path)) == ["e1"]
    # Opened before, in the store after; another not yet below a checkpoint.
    store.log("b.0.1", [exchange("e2", at=NOW + 1)])
    store.log("a.0.1", [exchange("e3", at=NOW + 9)], signed=False)
    assert ids(run(store, tmp_path, NOW + 60)) == ["e2"]
    store.log("a.0.1", [exchange("e4", at=NOW + 10)])
    bundles = run(store, tmp_path, NOW + 120)
    assert ids(bundles) == ["e3", "e4"]
    assert [one.folder.name for one in bundles] == ["20251009T085520Z"]


def test_nothing_new_makes_no_folder(store: Evidence, tmp_path: Path) -> None:
    store.log("a.0.1", [exchange("e1")])
    run(store, tmp_path)
    store.record([Draft(Kind.ACCESS, "x", "log:command", 0, {"by": "me"})])
    assert run(store, tmp_path, NOW + 60) == []
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_two_runs_in_one_second_have_their_own_folders(store: Evidence, tmp_path: Path) -> None:
    store.log("a.0.1", [exchange("e1")])
    run(store, tmp_path)
    store.log("a.0.1", [exchange("e2")])
    assert ids(run(store, tmp_path)) == ["e2"]
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.parametrize("dies_in", ["create", "run"])
def test_a_run_that_was_stopped_is_finished_by_the_next(
    store: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_in: str
) -> None:
    store.log("a.0.1", [exchange("e1")])
    module = export_bundle if dies_in == "create" else exporting

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, dies_in, die)
        with pytest.raises(KeyboardInterrupt):
            run(store, tmp_path)
    store.log("a.0.1", [exchange("e2")])
    assert ids(run(store, tmp_path, NOW + 60)) == ["e1", "e2"]
    assert run(store, tmp_path, NOW + 120) == []


def test_a_state_belongs_to_one_search(store: Evidence, tmp_path: Path) -> None:
    store.log("a.0.1", [exchange("e1"), exchange("e2", user="bob")])
    assert ids(run(store, tmp_path, user="bob")) == ["e2"]
    with pytest.raises(ConfigError, match="is the state of an export with another format or search"):
        run(store, tmp_path)


def test_a_file_that_is_no_state_is_refused(store: Evidence, tmp_path: Path) -> None:
    store.log("a.0.1", [exchange("e1")])
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(ConfigError, match="expected the state of a scheduled export"):
        run(store, tmp_path)
