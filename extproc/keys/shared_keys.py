"""The keys that all replicas share: made once, kept elsewhere, put into the state directory of each."""

from __future__ import annotations

import base64
import binascii
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from extproc.errors import ConfigError
from extproc.keys import checkpoint_key, fingerprint_key, gateway_token_key, wrapping_key
from extproc.keys.key_file import digest_path
from extproc.keys.new_file import create_once

_MAX_BYTES: Final = checkpoint_key.MAX_BYTES


@dataclass(frozen=True, slots=True)
class SharedKey:
    """A file with a key: `make` makes it where there is none, `check` raises ConfigError where it is no usable one."""

    file: str
    make: Callable[[Path], object]
    check: Callable[[Path], object]
    optional: bool = False


def shared_keys(signer: str) -> tuple[SharedKey, ...]:
    """Return all of them; `signer` is the name that checkpoints are signed under."""
    return (
        SharedKey(
            checkpoint_key.FILE_NAME,
            lambda path: checkpoint_key.load_or_create_signer(path, signer),
            lambda path: checkpoint_key.load_signer(path, signer),
        ),
        SharedKey(fingerprint_key.FILE_NAME, fingerprint_key.load_or_create_key, fingerprint_key.load_key),
        # It makes none: the file is there.
        SharedKey(
            gateway_token_key.FILE_NAME, gateway_token_key.load_or_create_key, gateway_token_key.load_or_create_key
        ),
        SharedKey(
            wrapping_key.FILE_NAME,
            wrapping_key.load_or_create_wrapping_key,
            wrapping_key.load_wrapping_key,
            optional=True,
        ),
    )


def make(folder: Path, keys: Sequence[SharedKey]) -> list[Path]:
    """Make these keys in the folder, each with mode 0600, and what their loaders put beside them; return their paths.

    Raises ConfigError where one is there already, before anything is made, and where a file cannot be made.
    """
    paths = [folder / key.file for key in keys]
    if there := [str(path) for path in paths if path.exists() or path.is_symlink()]:
        raise ConfigError(f"{', '.join(there)}: there already; keys are never overwritten, name another folder")
    for key, path in zip(keys, paths, strict=True):
        key.make(path)
    return paths


def install(source: Path, state: Path, keys: Sequence[SharedKey]) -> list[tuple[str, bool]]:
    """Put the keys of the folder `source` into the state directory; return each file's name and whether it is new.

    Files of `source` may be links and readable by all, as Kubernetes mounts them; the copies have mode 0600 and are
    durable. Nothing is copied before all that are needed are there, usable, and not different from what is there
    already. An optional one may be missing. Raises ConfigError.
    """
    found = {key: _read(source / key.file) for key in keys}
    if missing := [str(source / key.file) for key, content in found.items() if content is None and not key.optional]:
        raise ConfigError(
            f"missing: {', '.join(missing)}; make them once with `extproc keys make`, and mount them there"
        )
    given = {key: content for key, content in found.items() if content is not None}
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    for key, content in given.items():
        # The loaders ask for the mode that only a copy has; in the state directory, where the keys go anyway.
        with tempfile.TemporaryDirectory(prefix=".keys-", dir=state) as folder:
            create_once(Path(folder) / key.file, content)
            _check_usable(key, source / key.file, Path(folder) / key.file)
            _check_same(source / key.file, state / key.file, content)
            _check_signer(source / key.file, state / key.file, Path(folder) / key.file)
    return [(key.file, _put(key, source / key.file, state / key.file, content)) for key, content in given.items()]


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: the key cannot be read: {error.strerror}") from None


def _check_usable(key: SharedKey, source: Path, copy: Path) -> None:
    try:
        key.check(copy)
    except ConfigError as error:
        why = str(error).removeprefix(f"{copy}: ")
        encoded = "; it is base64: mount it decoded (objectEncoding: base64)" if _is_base64(copy.read_bytes()) else ""
        raise ConfigError(f"{source}: no usable key: {why}{encoded}") from None


def _is_base64(content: bytes) -> bool:
    try:
        return len(content) > wrapping_key.KEY_BYTES and bool(base64.b64decode(content.strip(), validate=True))
    except binascii.Error:
        return False


def _check_same(source: Path, path: Path, content: bytes) -> None:
    there, gone = _read(path), digest_path(path)
    if there is not None and there != content:
        raise ConfigError(
            f"{path}: there is another key than {source}, and it is not overwritten: what was made with it needs it."
            f" Mount the key that was used here before, or move {path} and what is beside it"
            f" ({path.name}.pub or .sha256) away to go on with the new one"
        )
    if there is None and gone.exists() and _read(gone) != f"{hashlib.sha256(content).hexdigest()}\n".encode():
        raise ConfigError(
            f"{source}: not the key that was here before, of which {gone} is left: mount that one, or remove"
            f" {gone} to go on with the new one"
        )


def _check_signer(source: Path, path: Path, copy: Path) -> None:
    public = checkpoint_key.public_path(path)
    if path.name != checkpoint_key.FILE_NAME or not public.exists():
        return
    published = checkpoint_key.load_public_key(public)
    if checkpoint_key.load_signer(copy, published.name).public != published:
        raise ConfigError(
            f"{source}: not the key of {public}, under which checkpoints were signed here: mount that one, or move"
            f" {public} away (older checkpoints are checked with it) to go on with the new one"
        )


def _put(key: SharedKey, source: Path, path: Path, content: bytes) -> bool:
    is_new = not path.exists()
    try:
        create_once(path, content)
        # One that was put there by hand may be open to others, and then the service would refuse it.
        path.chmod(0o600)
    except OSError as error:
        raise ConfigError(f"{path}: the key cannot be put there: {error.strerror}") from None
    # Another process may have been quicker, with another key.
    _check_same(source, path, content)
    # The public key gets its name from the settings: the service puts it there.
    if key.file != checkpoint_key.FILE_NAME:
        key.make(path)
    return is_new
