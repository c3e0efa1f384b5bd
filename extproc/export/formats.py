"""The formats that documents are exported in: JSON lines, HAR 1.2, Markdown. Pure.

A rendering makes one file: what `begin` returns, what `add` returns for each document, what `end` returns. Documents
are those of `extproc.recording.reading.document`. JSON lines are the documents as they are; the others are for tools
and for people, and leave out what these have no place for.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, Protocol

from extproc.export.har import Har
from extproc.export.markdown import Markdown
from extproc.recording.packing import encoded


class Format(StrEnum):
    """What exports are written as."""

    JSONL = "jsonl"
    HAR = "har"
    MARKDOWN = "markdown"


SUFFIX: Final[Mapping[Format, str]] = {Format.JSONL: ".jsonl", Format.HAR: ".har", Format.MARKDOWN: ".md"}
"""How names of files in a format end."""


class Rendering(Protocol):
    """Make one file, piece by piece."""

    def begin(self) -> bytes:
        """Return what comes first."""
        ...

    def add(self, document: Mapping[str, Any]) -> bytes:
        """Return what stands for a document."""
        ...

    def end(self) -> bytes:
        """Return what comes last."""
        ...


class JsonLines:
    """Write a document as one line of JSON."""

    def begin(self) -> bytes:
        """Return nothing."""
        return b""

    def add(self, document: Mapping[str, Any]) -> bytes:
        """Return the line of a document."""
        return encoded(document) + b"\n"

    def end(self) -> bytes:
        """Return nothing."""
        return b""


def rendering(wanted: Format) -> Rendering:
    """Return what makes a file of this format."""
    match wanted:
        case Format.JSONL:
            return JsonLines()
        case Format.HAR:
            return Har()
        case Format.MARKDOWN:
            return Markdown()
