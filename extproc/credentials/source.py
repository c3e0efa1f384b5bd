"""Read GitHub tokens from where they are kept; one that is gone or unreadable is never served from memory."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from extproc.credentials.refusal import unavailable
from extproc.echo import MIN_SECRET_BYTES
from extproc.errors import Refused
from extproc.secret import Secret

_MAX_FILE_BYTES = 65_536


class FileSource:
    """Hold the token of one file and read it again when the file changes, at the price of one `stat` per call.

    Kubernetes swaps a symlink to rotate a mounted secret: another inode, so a change.
    """

    __slots__ = ("_name", "_path", "_seen", "_token")

    def __init__(self, name: str, path: Path) -> None:
        self._name = name
        self._path = path
        self._seen: tuple[int, ...] | None = None
        self._token = Secret("")

    def read(self) -> Secret:
        """Return the token. Raises Refused."""
        try:
            # A pipe or device would block the event loop, so look before opening.
            status = self._path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise Refused(unavailable(self._name, "its file is not a regular file"))
            if self._seen != _identity(status):
                self._load()
        except OSError as error:
            # The error text names the path, which is not the caller's to know.
            raise Refused(unavailable(self._name, f"its file cannot be read ({error.strerror})")) from None
        return self._token

    def _load(self) -> None:
        with self._path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(_MAX_FILE_BYTES + 1)
        if len(content) > _MAX_FILE_BYTES:
            raise Refused(unavailable(self._name, f"its file is larger than {_MAX_FILE_BYTES} bytes"))
        self._token = checked_token(self._name, content.decode("ascii", "replace"))
        self._seen = _identity(status)


class EnvironmentSource:
    """Read the token from one variable of the environment that was handed in."""

    __slots__ = ("_environ", "_name", "_variable")

    def __init__(self, name: str, variable: str, environ: Mapping[str, str]) -> None:
        self._name = name
        self._variable = variable
        self._environ = environ

    def read(self) -> Secret:
        """Return the token. Raises Refused."""
        value = self._environ.get(self._variable)
        if value is None:
            raise Refused(unavailable(self._name, "its environment variable is not set"))
        return checked_token(self._name, value)


def checked_token(name: str, text: str) -> Secret:
    """Return `text` without surrounding white space as a token of credential `name`.

    Raises Refused for anything that cannot stand in an Authorization header or is too short to be found in an answer.
    """
    token = text.strip(" \t\r\n")
    if not token:
        raise Refused(unavailable(name, "it is empty"))
    if not all("!" <= char <= "~" for char in token):
        raise Refused(unavailable(name, "it holds a space, a line break or another character no token has"))
    if len(token) < MIN_SECRET_BYTES:
        raise Refused(unavailable(name, f"it is shorter than {MIN_SECRET_BYTES} characters"))
    return Secret(token)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
