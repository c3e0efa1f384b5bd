"""The folder of an export: its files, and the manifest that lists them with their SHA-256.

The manifest is written after each step, as a whole; a file that it does not list is not there yet.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

import msgspec

from extproc.durable import sync_folder
from extproc.errors import ConfigError, ExtprocError

VERSION: Final = 1
MANIFEST: Final = "manifest.json"
CHECKER: Final = "check_export.py"


class FileFacts(msgspec.Struct, frozen=True):
    """What the manifest says of a file."""

    sha256: str
    size: int


class Line(msgspec.Struct, frozen=True):
    """What the index of a part says of a document: which entry it is from, and what there is of its content.

    `content` is `clear`; `encrypted`, at rest; `gone` or `erased`, by rule; `none`, where only facts were recorded;
    `unreadable`, where the key is not configured here.
    """

    id: str
    session: str
    log: str
    index: int
    content: str


class LogFacts(msgspec.Struct, frozen=True):
    """The files about one log, whose first `size` entries the checkpoint proves."""

    log: str
    size: int
    checkpoint: str
    entries: str


class Position(msgspec.Struct, frozen=True):
    """How far an export has come: the time of the last document as heads have it, and those with that very time."""

    at: int
    ids: list[str]


class Manifest(msgspec.Struct):
    """What a bundle holds.

    `search` and `format` are what was asked for; entries of a log count from index `since` (0 where it has none) to
    before `sizes`. `contents` counts the documents by what there is of them. `position` is None once all documents are
    there, and `complete` true once everything is.
    """

    v: int
    format: str
    search: dict[str, Any]
    started_at: int
    since: dict[str, int]
    sizes: dict[str, int]
    parts: int = 0
    contents: dict[str, int] = {}
    logs: list[LogFacts] = []
    files: dict[str, FileFacts] = {}
    position: Position | None = None
    complete: bool = False


class Bundle:
    """Write the files of an export, each durable before the manifest lists it. Raises ExtprocError where it cannot."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    def add(self, name: str, content: Iterable[bytes]) -> None:
        """Write a file; `save` makes it part of the bundle."""
        self.manifest.files[name] = _write(self.folder / name, content)

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise ExtprocError(f"{self.folder / name}: cannot be read: {error.strerror}") from error

    def save(self) -> None:
        """Write the manifest, in place of the one before."""
        temporary = self.folder / f".{MANIFEST}.new"
        _write(temporary, [self.encoded()])
        temporary.replace(self.folder / MANIFEST)
        sync_folder(self.folder)

    def encoded(self) -> bytes:
        """Return the bytes of the manifest."""
        return msgspec.json.format(msgspec.json.encode(self.manifest, order="sorted")) + b"\n"

    @property
    def digest(self) -> str:
        """The SHA-256 of the manifest: who knows it knows that nothing in the bundle was changed."""
        return hashlib.sha256(self.encoded()).hexdigest()


def load(folder: Path) -> Bundle | None:
    """Return the bundle of a folder, None where there is none; raises ConfigError for a folder of something else."""
    path = folder / MANIFEST
    if not folder.is_dir() or (not path.exists() and not any(folder.iterdir())):
        return None
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder}: expected an empty folder, or one with the manifest of an export") from error
    if manifest.v != VERSION:
        raise ConfigError(f"{folder}: the export there is of version {manifest.v}, and only {VERSION} is known")
    return Bundle(folder, manifest)


def create(folder: Path, manifest: Manifest) -> Bundle:
    """Begin a bundle."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made: {error.strerror}") from error
    bundle = Bundle(folder, manifest)
    bundle.save()
    return bundle


def checker() -> bytes:
    """Return the program that checks a bundle; it needs nothing of this package."""
    return (resources.files("extproc.export") / CHECKER).read_bytes()


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a small file as a whole, in place of the one before."""
    temporary = path.with_name(f".{path.name}.new")
    _write(temporary, [msgspec.json.encode(value, order="sorted") + b"\n"])
    temporary.replace(path)
    sync_folder(path.parent)


def json_line(value: object) -> bytes:
    """Return a line of JSON."""
    return msgspec.json.encode(value) + b"\n"


# Prompts are nobody else's business.
def _write(path: Path, content: Iterable[bytes]) -> FileFacts:
    digest, size = hashlib.sha256(), 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for chunk in content:
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ExtprocError(f"{path}: cannot be written: {error.strerror}") from error
    return FileFacts(digest.hexdigest(), size)
