"""Exports that go on where the last one ended, each into a folder of its own: for cron jobs.

A state file remembers how many entries of each log were exported; so nothing is left out or exported twice, however
late it reached the store. While a bundle is made the state names it: a run that was stopped is finished by the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec

from extproc.errors import ConfigError
from extproc.export import bundle as export_bundle
from extproc.export import exporting
from extproc.export.bundle import Bundle
from extproc.export.exporting import Source
from extproc.export.formats import Format
from extproc.recording.entry import Kind, read_head
from extproc.store.port import Search


class State(msgspec.Struct):
    """What the state file holds; `running` is the folder of the bundle that is being made, None between runs."""

    v: int
    format: str
    search: dict[str, Any]
    exported: dict[str, int]
    running: str | None = None


def run(
    source: Source,
    path: Path,
    out: Path,
    *,
    search: Search,
    wanted: Format,
    now: float,
    progress: Callable[[int, int], None],
) -> list[Bundle]:
    """Finish what an earlier run began and export what is new since; return the bundles, none where nothing is new.

    Raises ConfigError where the state is that of another search or format.
    """
    state = _load(path, search, wanted)
    bundles = []
    if state.running is not None:
        bundle = export_bundle.load(out / state.running)
        # Without one the run was stopped before it made anything.
        if bundle is not None:
            bundles.append(_finish(source, bundle, path, state, progress))
    bundle = _begin(source, path, out, state, now)
    if bundle is not None:
        bundles.append(_finish(source, bundle, path, state, progress))
    return bundles


def _begin(source: Source, path: Path, out: Path, state: State, now: float) -> Bundle | None:
    """Begin a bundle of what is new; None where there is no exchange that is."""
    manifest = exporting.begin(source, Search(**state.search), Format(state.format), now, dict(state.exported))
    first = _oldest(source, state.exported, manifest.sizes)
    if first is None:
        state.exported, state.running = manifest.sizes, None
        _save(path, state)
        return None
    # Nothing older is looked at, so that a run costs what is new and not what is there.
    search = Search(**state.search)
    since = first / 1_000_000 if search.since is None else max(search.since, first / 1_000_000)
    manifest.search = asdict(replace(search, since=since))
    state.running = _name(out, now)
    _save(path, state)
    return export_bundle.create(out / state.running, manifest)


def _finish(source: Source, bundle: Bundle, path: Path, state: State, progress: Callable[[int, int], None]) -> Bundle:
    sizes = dict(bundle.manifest.sizes)
    exporting.run(source, bundle, progress)
    state.exported, state.running = {**state.exported, **sizes}, None
    _save(path, state)
    return bundle


def _oldest(source: Source, since: dict[str, int], sizes: dict[str, int]) -> int | None:
    """Return the time of the oldest exchange that is new, in microseconds."""
    oldest: int | None = None
    for log, size in sizes.items():
        start = since.get(log, 0)
        for stored in source.ledger.entries(log, start, bodies=False) if start < size else ():
            if stored.index >= size:
                break
            head = read_head(stored.head)
            if head.kind is Kind.EXCHANGE:
                oldest = head.at if oldest is None else min(oldest, head.at)
    return oldest


def _name(out: Path, now: float) -> str:
    name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    taken = sum(1 for one in out.glob(f"{name}*")) if out.is_dir() else 0
    return f"{name}-{taken}" if taken else name


def _load(path: Path, search: Search, wanted: Format) -> State:
    asked = asdict(search)
    try:
        state = msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return State(1, wanted.value, asked, {})
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: expected the state of a scheduled export, as an earlier run wrote it") from error
    if (state.v, state.format) != (1, wanted.value) or not exporting.same_search(state.search, asked):
        raise ConfigError(f"{path}: is the state of an export with another format or search; use another file")
    return state


def _save(path: Path, state: State) -> None:
    export_bundle.write_json(path, msgspec.to_builtins(state))
