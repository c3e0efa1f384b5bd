"""The templates, and how values are shown in them. Recorded text is written by strangers: nothing of it is markup."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES: Final = Path(__file__).parent / "templates"

# What cannot be seen, or makes other text be shown in another order than it is read by machines ("Trojan Source",
# CVE-2021-42574): an approver must see what will be done.
_CONTROLS: Final = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t\r"} | {0x7F: "\u2421"}
_UNSEEN: Final = re.compile(
    "[\u0080-\u009f\u00ad\u061c\u180e\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]|(?<=[ -~])\u200d|\u200d(?=[ -~])"
)


def visible(text: str) -> str:
    """Return text in which every character can be seen; line ends and tabs stay, a return before a line end goes."""
    plain = text.replace("\r\n", "\n").replace("\r", "\u240d").translate(_CONTROLS)
    return _UNSEEN.sub(lambda found: f"\u27e8U+{ord(found[0]):04X}\u27e9", plain)


def moment(seconds: float | None) -> str:
    """Return unix seconds as date and time in UTC."""
    return "-" if seconds is None else f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%Y-%m-%d %H:%M:%S}"


def duration(seconds: float | None) -> str:
    """Return a time span in the largest units that matter."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def number(value: float | None) -> str:
    """Return a count with its thousands apart."""
    return "-" if value is None else f"{value:,.0f}".replace(",", "\u202f")


def environment() -> Environment:
    """Return the templates; whatever is put into one is escaped, and shows what would be unseen."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(moment=moment, duration=duration, number=number)
    return made


def _finalized(value: Any) -> Any:  # noqa: ANN401 - whatever a template says
    if value is None:
        return ""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
