"""The table of results: which client did what in which mode, as Markdown between two markers of a page."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

BEGIN, END = "<!-- matrix -->", "<!-- /matrix -->"
OK = "ok"


@dataclass
class Results:
    """What the cells came to: by client and mode, a word for each cell."""

    cells: Sequence[str]
    versions: dict[str, str] = field(default_factory=dict)
    rows: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)

    def add(self, client: str, mode: str, cell: str, result: str) -> None:
        """Note a result; the rows keep the order in which they first came."""
        self.rows.setdefault((client, mode), {})[cell] = result

    def table(self, on: dt.date) -> str:
        """Return the table and, below it, the reasons of all cells that are not `ok`."""
        head = ["client", "version", "mode", *self.cells]
        notes: dict[str, int] = {}
        lines = [_line(head), _line(["---"] * len(head))]
        for (client, mode), found in self.rows.items():
            shown = (_shown(found.get(cell, "not run"), notes) for cell in self.cells)
            lines.append(_line([client, self.versions.get(client, "?"), mode, *shown]))
        reasons = [f"{number}. {text}" for text, number in notes.items()]
        return "\n".join([f"Run on {on.isoformat()}.", "", *lines, *([""] if reasons else []), *reasons])


def write(page: Path, table: str) -> None:
    """Put the table between the markers of the page; raises ValueError where they are missing."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page}: the markers {BEGIN} and {END} are missing")
    page.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


def _shown(result: str, notes: dict[str, int]) -> str:
    return result if result in {OK, "FAILED", "not run"} else f"- ({notes.setdefault(result, len(notes) + 1)})"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
