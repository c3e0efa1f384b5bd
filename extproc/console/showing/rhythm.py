"""When what is shown appears in a replay: the original rhythm, without its long pauses. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

from extproc.console.showing import shapes
from extproc.console.templates import visible
from extproc.replay import MAX_WAIT_SECONDS

_MAX_PAUSE_MS: Final = MAX_WAIT_SECONDS * 1000

MIN_STEP_MS: Final = 80.0
"""What grows faster than this is shown together: nobody sees more, and the page stays small."""

_CHANNEL: Final = "0.text"


@dataclass(frozen=True, slots=True)
class Scene:
    """An exchange in a replay, in milliseconds after its begin: when it starts and ends, and what its answer grows by.

    `steps` are (time, text); their texts are the first choice's, in which every character is visible.
    """

    start: float
    end: float
    steps: list[tuple[float, str]]


def scenes(documents: Iterable[Mapping[str, Any]]) -> list[Scene]:
    """Return the scenes of documents, one for each in their order; no pause in them is longer than the terminal's."""
    found: list[Scene] = []
    now = 0.0
    closed: float | None = None
    for document in documents:
        opened = shapes.number(document.get("opened_at"))
        if opened is not None and closed is not None:
            now += _pause((opened - closed) * 1000)
        scene = _scene(document, now)
        found.append(scene)
        now = scene.end
        closed = shapes.number(document.get("closed_at")) or opened or closed
    return found


def _scene(document: Mapping[str, Any], start: float) -> Scene:
    timing = shapes.members(document.get("timing"))
    text = shapes.members(document.get("response")).get("text")
    text = text if isinstance(text, str) else ""
    steps: list[tuple[float, str]] = []
    now, before, shown, known, next_step = start, 0.0, 0, 0, start
    for at, count in _pieces(timing.get("pieces")):
        now += _pause(at - before)
        before = at
        known += count
        if now >= next_step and shown < len(text):
            steps.append((round(now, 1), visible(text[shown:known])))
            shown, next_step = known, now + MIN_STEP_MS
    end = now + _pause((shapes.number(timing.get("closed")) or before) - before)
    if steps and shown < len(text):
        steps.append((round(end, 1), visible(text[shown:])))
    return Scene(round(start, 1), round(end, 1), steps)


def _pieces(pieces: Any) -> list[tuple[float, int]]:  # noqa: ANN401 - JSON
    """Return the time of each piece of the first text, and how many characters it added."""
    return [
        (float(at), count)
        for at, channel, count in (one for one in shapes.elements(pieces) if isinstance(one, list) and len(one) == 3)
        if channel == _CHANNEL and type(count) is int and count > 0 and shapes.number(at) is not None
    ]


def _pause(milliseconds: float) -> float:
    return min(max(milliseconds, 0.0), _MAX_PAUSE_MS)


def data(made: Iterable[Scene]) -> Markup:
    """Return scenes as JSON that may stand in a `script` element: nothing in it ends one (HTML, section 4.12.1.3)."""
    rows = [[one.start, one.end, one.steps] for one in made]
    encoded = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
    return Markup(encoded.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))  # noqa: S704 - escaped
