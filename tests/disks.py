"""Real file systems that are small or read-only, for tests of what a full disk does."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.needing import not_tested


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """Give an empty folder on a file system of so many bytes; skips where none can be mounted, and fails in CI."""
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S603, S607 - our own folder


def make_read_only(folder: Path, *, read_only: bool) -> None:
    """Remount a `small_disk`."""
    _mount("-o", "remount,ro" if read_only else "remount,rw", str(folder))


def fill(folder: Path) -> Path:
    """Leave no room in a folder; return the file that takes it."""
    path = folder / "filling"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return path


def _mount(*arguments: str) -> None:
    ran = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607 - fixed words
    if ran.returncode == 0:
        return
    not_tested(f"what a full disk does. Mounting a small one needs root: {ran.stderr.strip()}")
