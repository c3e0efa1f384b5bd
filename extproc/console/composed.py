"""Put together what the console reads, as the settings say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import aiohttp

from extproc import stores
from extproc.config import Config
from extproc.config_recording import Places
from extproc.console.accesses import Accesses
from extproc.console.configuration import configuration_of
from extproc.console.page import Console
from extproc.console.reading import Reading
from extproc.console.roles import Roles
from extproc.console.services import Services
from extproc.console.templates import environment
from extproc.errors import ConfigError
from extproc.exchange_id import exchange_id
from extproc.keys.checkpoint_key import load_public_key, public_path
from extproc.keys.fingerprint_key import load_key
from extproc.recording.checkpoint import PublicKey
from extproc.store.approvals_port import Answers

T = TypeVar("T")

TRUSTED_KEYS: Final = "trusted-keys"
"""The folder of the state directory with public keys (`*.pub`) of gateways that sign with keys of their own."""

MAX_TRUSTED_KEYS: Final = 1000

_EVERY_INTERFACE: Mapping[str, str] = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}


def make_console(
    config: Config, approvals: Callable[[], Answers], session: aiohttp.ClientSession, now: Callable[[], float]
) -> Console:
    """Return everything that pages and API use; raises ConfigError."""
    places, told = config.places, config.settings.console
    reading = Reading(
        archive=once(lambda: stores.archive_of(places)),
        listing=once(lambda: stores.listing_of(places, now)),
        ledger=lambda: stores.opened_ledger(places),
        public_keys=once(lambda: _public_keys(places)),
        fingerprint_key=once(lambda: load_key(places.fingerprint_key)),
        accesses=Accesses(places, now, exchange_id),
    )
    return Console(
        reading=reading,
        approvals=approvals,
        services=Services(told.services or [_own_operations(config)], session),
        roles=roles_of(config),
        configuration=configuration_of(config),
        templates=environment(),
        now=now,
        url=told.url,
    )


def _public_keys(places: Places) -> list[PublicKey]:
    """Return the keys that checkpoints are checked with: that of the state directory, and those trusted beside it."""
    others = sorted((places.state / TRUSTED_KEYS).glob("*.pub"))
    if len(others) > MAX_TRUSTED_KEYS:
        raise ConfigError(f"{places.state / TRUSTED_KEYS}: expected at most {MAX_TRUSTED_KEYS} keys")
    return [load_public_key(path) for path in (public_path(places.checkpoint_key), *others)]


def roles_of(config: Config) -> Roles:
    """Return which groups have which role; the settings may use the names that the policy gives to groups."""
    told, policy = config.settings.console.roles, config.policy
    return Roles(
        developers=None if told.developer is None else policy.ids(told.developer),
        approvers=policy.approvers(),
        auditors=policy.ids(told.auditor),
        administrators=policy.ids(told.administrator),
    )


def once(make: Callable[[], T]) -> Callable[[], T]:
    """Return what makes something when it is first asked for, and keeps it; what fails is tried again."""
    made: list[T] = []

    def get() -> T:
        if not made:
            made.append(make())
        return made[0]

    return get


def _own_operations(config: Config) -> str:
    host, _, port = config.settings.operations.rpartition(":")
    return f"http://{_EVERY_INTERFACE.get(host, host)}:{port}"
