"""Whether the gateway itself is in order: its settings, keys, spool, store, workers, and whom it asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from extproc.config import Config
from extproc.config import load as load_config
from extproc.doctor import peers, recording, workers
from extproc.doctor.check import Check, Verdict, aside, failed, ok
from extproc.doctor.mounts import PASSING, kind_of
from extproc.doctor.peers import Way
from extproc.errors import ConfigError
from extproc.keys import checkpoint_key, fingerprint_key, gateway_token_key, wrapping_key

_SETTINGS: Final = "settings.valid"
STORE_SECONDS: Final = 20.0
"""How long the service may take to ship an entry: it looks every second for what commands leave."""

_MOUNTS: Final = Path("/proc/self/mountinfo")


def checks(
    path: Path,
    way: Way,
    by: str,
    now: Callable[[], float],
    *,
    is_console: bool = False,
    store_seconds: float = STORE_SECONDS,
) -> list[Check]:
    """Return all checks of the gateway with these settings; where they are not valid, that alone.

    `by` is who looks, which is recorded. Beside a console there are no workers, and nobody there asks GitHub.
    """
    try:
        config = load_config(path)
    except ConfigError as error:
        verdict = failed(
            f"The settings are not valid: {error}", "Correct the file; the service does not start with it."
        )
        return [_told(_SETTINGS, verdict)]
    seconds = way.seconds + 1
    places = config.places
    hosts = () if is_console else config.upstream_hosts.values()
    return [
        _told(_SETTINGS, ok(f"The settings in {path} are valid.")),
        Check("state.outlives", lambda: aside(lambda: _outlives(places.state)), seconds),
        Check("keys.present", lambda: aside(lambda: _keys(config)), seconds),
        *recording.checks(places, by, now, seconds=way.seconds, store_seconds=store_seconds),
        *([] if is_console else workers.checks(config.settings, path.parent, seconds)),
        *peers.checks(hosts, config.issuers, way),
    ]


def _told(check_id: str, verdict: Verdict) -> Check:
    async def look() -> Verdict:
        return verdict

    return Check(check_id, look, 1.0)


def _outlives(state: Path) -> Verdict:
    folder = state.resolve()
    kind = kind_of(folder, _MOUNTS.read_text(encoding="utf-8", errors="replace")) if _MOUNTS.exists() else None
    return outlives(folder, kind)


def outlives(folder: Path, kind: str | None) -> Verdict:
    """Judge the type of the file system that the state directory is on."""
    if not folder.is_dir():
        return failed(f"There is no state directory {folder}.", "Mount a volume there (settings: state).")
    if kind is None:
        return failed(f"This could not be checked: no mount of {folder} is known.", "Look at the volumes of the pod.")
    if kind in PASSING:
        return failed(
            f"The state directory {folder} is on {kind}: spool and keys are lost with the pod.",
            "Mount a PersistentVolumeClaim there.",
        )
    return ok(f"The state directory {folder} is on a disk ({kind}).")


def _keys(config: Config) -> Verdict:
    """Load what is there; nothing is made, for the service's keys may only not be mounted yet."""
    places = config.places
    encryption = config.settings.recording.encryption
    wanted: list[tuple[Path, Callable[[Path], object]]] = [
        (
            places.checkpoint_key,
            lambda path: checkpoint_key.load_signer(path, config.settings.recording.checkpoints.name),
        ),
        (places.fingerprint_key, fingerprint_key.load_key),
        # It makes none: the file is there.
        (places.gateway_token_key, gateway_token_key.load_or_create_key),
    ]
    if encryption is not None and encryption.key_file is not None:
        wanted.append((places.state / encryption.key_file, wrapping_key.load_wrapping_key))
    if missing := [str(path) for path, _ in wanted if not path.exists()]:
        return failed(
            f"Keys are missing: {', '.join(missing)}.",
            "Install those that replicas share (`extproc keys install`); the service would make others of its own.",
        )
    for path, load in wanted:
        try:
            load(path)
        except ConfigError as error:
            return failed(f"A key cannot be used: {error}", "Put the key there that was there before, with mode 0600.")
    return ok(f"All {len(wanted)} keys are there and can be used.")
