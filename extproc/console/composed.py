"""Put together what the console reads, as the settings say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import aiohttp

from extproc import stores
from extproc.config import Config
from extproc.console.accesses import Accesses
from extproc.console.configuration import configuration_of
from extproc.console.page import Console
from extproc.console.reading import Reading
from extproc.console.roles import Roles
from extproc.console.services import Services
from extproc.console.templates import environment
from extproc.keys.checkpoint_key import load_public_key, public_path
from extproc.keys.fingerprint_key import load_key
from extproc.processor import exchange_id
from extproc.store.approvals_port import Answers

T = TypeVar("T")

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
        public_keys=once(lambda: [load_public_key(public_path(places.checkpoint_key))]),
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
