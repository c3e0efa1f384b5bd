"""Keep one sign-in on this machine: in the keyring of the operating system, or in a file that only its owner reads."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import keyring
import msgspec
from keyring.backend import KeyringBackend
from keyring.errors import KeyringError, PasswordDeleteError

from extproc.durable import sync_folder
from extproc.errors import ConfigError, ExtprocError
from extproc.secret import Secret
from extproc.signin.profile import Profile

SERVICE, ACCOUNT = "copilot-extproc", "sign-in"
"""The name of the keyring's entry."""
LOCK_SECONDS = 60.0
"""How long to wait for another process that refreshes: longer than its requests can take."""
_LOCK_POLL_SECONDS = 0.05
_MAX_BYTES = 1024 * 1024


class NoFolder(ConfigError):
    """Say that this user has no folder where something could be kept, and what to do."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """Who signed in where, and their tokens. Times are Unix seconds of this machine's clock."""

    profile: Profile
    name: str
    token: Secret
    refresh_token: Secret | None
    obtained_at: float
    expires_at: float


class _Stored(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    profile: Profile
    name: str
    token: str
    obtained_at: float
    expires_at: float
    refresh_token: str | None = None


@dataclass(frozen=True, slots=True)
class Keeper:
    """Keep the sign-in in `keyring` where there is one, else in `file`; a file that exists goes before the keyring."""

    file: Path
    keyring: KeyringBackend | None

    def load(self) -> SignIn | None:
        """Return the sign-in, None where there is none. Raises ConfigError for a file that others can read."""
        raw = _read_private(self.file)
        if raw is None and self.keyring is not None:
            raw = _asked(self.keyring)
        return None if raw is None else self._decoded(raw)

    def save(self, sign_in: SignIn, *, in_file: bool = False) -> None:
        """Keep `sign_in` durably in place of any other; raises ExtprocError."""
        raw = _encoded(sign_in)
        if self.keyring is None or in_file:
            _write_private(self.file, raw)
            return
        try:
            self.keyring.set_password(SERVICE, ACCOUNT, raw.decode())
        except KeyringError as error:
            raise ExtprocError(_locked(error)) from None
        _remove(self.file)

    def replace(self, sign_in: SignIn) -> None:
        """Keep a refreshed `sign_in` where the one before it was found; raises ExtprocError."""
        self.save(sign_in, in_file=self.file.exists())

    def forget(self) -> None:
        """Remove what is kept, readable or not; raises ExtprocError."""
        _remove(self.file)
        if self.keyring is not None and _asked(self.keyring) is not None:
            try:
                # Another process may have been first.
                with suppress(PasswordDeleteError):
                    self.keyring.delete_password(SERVICE, ACCOUNT)
            except KeyringError as error:
                raise ExtprocError(_locked(error)) from None

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Be the only process of this user that refreshes; raises ExtprocError where that does not come about."""
        path, descriptor = self._lock, None
        try:
            async with asyncio.timeout(LOCK_SECONDS):
                # A blocking flock in a thread could not be interrupted.
                while (descriptor := _try_lock(path)) is None:  # noqa: ASYNC110 - no event can tell
                    await asyncio.sleep(_LOCK_POLL_SECONDS)
        except TimeoutError:
            raise ExtprocError(f"another process holds {path} for more than {LOCK_SECONDS:.0f} seconds") from None
        except OSError as error:
            raise ExtprocError(f"{path}: it cannot be made ({error.strerror})") from None
        try:
            yield
        finally:
            os.close(descriptor)

    def forget_lock(self) -> None:
        """Remove the lock's file; call it with the lock held. Raises ExtprocError."""
        _remove(self._lock)

    @property
    def _lock(self) -> Path:
        return self.file.with_suffix(".lock")

    def _decoded(self, raw: bytes) -> SignIn:
        try:
            stored = msgspec.json.decode(raw, type=_Stored)
        except msgspec.DecodeError:
            place = self.file if self.file.exists() else "the keyring's entry"
            raise ExtprocError(f"{place}: this is not a sign-in: run `extproc login`") from None
        refresh_token = None if stored.refresh_token is None else Secret(stored.refresh_token)
        token, name = Secret(stored.token), stored.name
        return SignIn(stored.profile, name, token, refresh_token, stored.obtained_at, stored.expires_at)


def load(environ: Mapping[str, str]) -> SignIn | None:
    """Return the kept sign-in of this user, None where nobody is signed in; raises ExtprocError and ConfigError."""
    return keeper_of(environ).load()


def keeper_of(environ: Mapping[str, str]) -> Keeper:
    """Return where this user's sign-in is kept (XDG Base Directory Specification); raises ConfigError."""
    _check_system()
    return Keeper(config_folder(environ) / "sign-in.json", system_keyring())


def config_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of this user for what is ours, which need not be there; raises NoFolder."""
    config, home = environ.get("XDG_CONFIG_HOME", ""), environ.get("HOME", "")
    # The specification has relative paths ignored.
    if not config.startswith("/"):
        if not home:
            none = "neither HOME nor XDG_CONFIG_HOME is set, so there is no place to keep anything"
            raise NoFolder(f"{none}: set XDG_CONFIG_HOME to a folder that can be written")
        config = f"{home}/.config"
    return Path(config) / "copilot-extproc"


def system_keyring() -> KeyringBackend | None:
    """Return the keyring of this session, None where all there is keeps nothing or keeps it in plain."""
    found = keyring.get_keyring()
    # Documentation of `keyring`, "priority": from 1 on a backend is fit for use; `fail` is 0, `null` is -1.
    return found if float(found.priority) >= 1 else None


def _encoded(one: SignIn) -> bytes:
    refresh_token = None if one.refresh_token is None else one.refresh_token.reveal()
    stored = _Stored(
        profile=one.profile,
        name=one.name,
        token=one.token.reveal(),
        refresh_token=refresh_token,
        obtained_at=one.obtained_at,
        expires_at=one.expires_at,
    )
    return msgspec.json.encode(stored)


def _asked(backend: KeyringBackend) -> bytes | None:
    try:
        text = backend.get_password(SERVICE, ACCOUNT)
    except KeyringError as error:
        raise ExtprocError(_locked(error)) from None
    return None if text is None else text.encode()


def _locked(error: KeyringError) -> str:
    # Only the kind of error: its text is the backend's.
    return f"the keyring does not answer ({type(error).__name__}): unlock it, or use `extproc login --file`"


def _read_private(path: Path) -> bytes | None:
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if fault := _fault(os.fstat(file.fileno())):
                raise ConfigError(f"{path}: {fault}")
            return file.read(_MAX_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: it cannot be read ({error.strerror})") from None


def _without_waiting(path: str, flags: int) -> int:
    # A pipe in the file's place would block for ever.
    return os.open(path, flags | os.O_NONBLOCK)


def _fault(status: os.stat_result) -> str | None:
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        return "expected a file of this user"
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        return f"others can read it (mode {mode:04o}): remove it and run `extproc login` again"
    return None


def _write_private(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # mkstemp makes the file with mode 0600, so it is never readable by others, not even while it is written.
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise ExtprocError(f"{path}: the sign-in cannot be kept ({error.strerror})") from None


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ExtprocError(f"{path}: it cannot be removed ({error.strerror})") from None


def _try_lock(path: Path) -> int | None:
    """Return the descriptor that holds the lock, None where another process does; raises OSError."""
    import fcntl  # noqa: PLC0415 - Windows has none, and is told so by `keeper_of`

    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # What somebody removed meanwhile, who signed out, keeps nobody out any more.
        if os.fstat(descriptor).st_nlink:
            return descriptor
    os.close(descriptor)
    return None


def _check_system() -> None:
    if find_spec("fcntl") is None:
        raise ConfigError("signing in needs Linux or macOS: on Windows use WSL, where the client runs too")
