"""Prose and code to measure with: docstrings and sources of Python's standard library, cut as models send them."""

from __future__ import annotations

import ast
import re
import sysconfig
from pathlib import Path
from random import Random
from statistics import median
from typing import Final

_SEED: Final = 20_240_701
_MODULES: Final = (
    "argparse",
    "ast",
    "asyncio/events",
    "decimal",
    "email/message",
    "http/client",
    "inspect",
    "logging/__init__",
    "pathlib",
    "pickle",
    "random",
    "statistics",
    "subprocess",
    "tarfile",
    "threading",
    "typing",
    "zipfile",
)
_TOKEN: Final = re.compile(r" ?[A-Za-z]+| ?[0-9]{1,3}|\s+| ?[^\sA-Za-z0-9]{1,3}")
_LONGEST_TOKEN: Final = 8
_JOINED_CHARS: Final = 5
_KEYWORD: Final = re.compile(r"(?i)password|secret|token|api_?key|auth")


def code(chars: int) -> str:
    """Return source code."""
    return "\n".join(_sources())[:chars]


def prose(chars: int) -> str:
    """Return what docstrings say."""
    return "\n\n".join(_docstrings())[:chars]


def armed(chars: int) -> str:
    """Return lines of code about passwords, tokens and keys: they may announce a secret, and hold none."""
    library = Path(sysconfig.get_path("stdlib"))
    names = ("tokenize", "secrets", "getpass", "smtplib", "imaplib", "netrc", "urllib/request", "http/cookies", "hmac")
    lines = [line for name in names for line in _text(library / f"{name}.py").splitlines() if _KEYWORD.search(line)]
    return "\n".join(lines)[:chars]


def pieces(text: str) -> list[str]:
    """Cut a text about as models send it: by words, long ones in parts, short ones together; the median is 5."""
    random = Random(_SEED)  # noqa: S311 - the same cuts in every run
    cut = [""]
    for word in _TOKEN.findall(text):
        at = 0
        while at < len(word):
            size = random.randint(4, _LONGEST_TOKEN)
            part = word[at : at + size]
            if len(cut[-1]) + len(part) <= _JOINED_CHARS:
                cut[-1] += part
            else:
                cut.append(part)
            at += size
    return [one for one in cut if one]


def median_chars(cut: list[str]) -> float:
    """Return the median length of the pieces."""
    return median(map(len, cut))


def _sources() -> list[str]:
    library = Path(sysconfig.get_path("stdlib"))
    return [_text(library / f"{name}.py") for name in _MODULES]


def _docstrings() -> list[str]:
    found = []
    for source in _sources():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text and len(text) > 100:
                    found.append(text)
    return found


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")
