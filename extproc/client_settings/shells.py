"""Write settings in the language of a shell: what it reads back is exactly what was meant, or it is refused. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

from extproc.client_settings.settings import Settings
from extproc.errors import ConfigError


class Shell(StrEnum):
    """The languages that settings are written in."""

    SH = "sh"
    FISH = "fish"
    POWERSHELL = "powershell"
    CMD = "cmd"
    JSON = "json"
    DOTENV = "dotenv"


def render(settings: Settings, shell: Shell) -> str:
    """Return the text for `shell`: one line per variable, then notes as comments; JSON has the documents too.

    Raises ConfigError for a value that the shell cannot be told exactly; its message names the variable only.
    """
    for name, value in settings.variables.items():
        if not value.isprintable():
            raise ConfigError(f"{name}: the value has a line break or a control character")
    if shell is Shell.JSON:
        whole = {"environment": settings.variables, "settings": settings.documents, "notes": settings.notes}
        return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
    comment = "rem" if shell is Shell.CMD else "#"
    # Last: `eval $(…)` without quotes makes one line of all, and what is behind a comment is lost.
    notes = [f"{comment} {note}" for note in settings.notes]
    return "\n".join([*_lines(settings.variables, shell), *notes]) + "\n"


def _lines(variables: Mapping[str, str], shell: Shell) -> list[str]:
    write = _WRITERS[shell]
    lines = []
    for name, value in variables.items():
        line = write(name, value)
        if line is None:
            raise ConfigError(f"{name}: the value has characters that --shell {shell} cannot be told exactly")
        lines.append(line)
    return lines


def _sh(name: str, value: str) -> str:
    """Quote by POSIX (Shell Command Language, section 2.2.2): nothing is special between apostrophes."""
    quoted = value.replace("'", "'\\''")
    return f"export {name}='{quoted}'"


def _fish(name: str, value: str) -> str:
    r"""Quote by fish's rules (language, "Quotes"): between apostrophes only \' and \\ are escapes."""
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"set -gx {name} '{quoted}'"


# PowerShell takes the typographic ones for apostrophes too (about_Quoting_Rules; U+2018 to U+201B).
_POWERSHELL_QUOTES = re.compile("['\u2018-\u201b]")


def _powershell(name: str, value: str) -> str:
    """Quote by PowerShell's rules (about_Quoting_Rules): a doubled apostrophe is one."""
    quoted = _POWERSHELL_QUOTES.sub(r"\g<0>\g<0>", value)
    return f"$env:{name} = '{quoted}'"


def _cmd(name: str, value: str) -> str | None:
    """Quote by cmd's rules: `set` takes all up to the last quote; quotes within end the protection of operators."""
    # How often `%` must be doubled depends on whether a file or the prompt is read, so it cannot be told; `!` likewise.
    if re.search("[%!]", value) or ('"' in value and re.search("[&|<>^]", value)):
        return None
    return f'set "{name}={value}"'


def _dotenv(name: str, value: str) -> str | None:
    r"""Quote for what readers of .env files agree on: apostrophes, within which only some know \' and \\."""
    if re.fullmatch(r"[A-Za-z0-9_./:@,+-]+", value):
        return f"{name}={value}"
    if "'" in value or "\\\\" in value or value.endswith("\\"):
        return None
    return f"{name}='{value}'"


_WRITERS: Final[Mapping[Shell, Callable[[str, str], str | None]]] = {
    Shell.SH: _sh,
    Shell.FISH: _fish,
    Shell.POWERSHELL: _powershell,
    Shell.CMD: _cmd,
    Shell.DOTENV: _dotenv,
}
