"""Metrics of how the service stands: looked at now and then, not counted as things happen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from extproc.credentials.provider import CredentialState
from extproc.keys.jwks import KeyState
from extproc.metrics_kinds import Declaring


@dataclass(frozen=True, slots=True)
class RecordingState:
    """How recording stands: bytes in the spool, ages in seconds, and counts since the start; witnesses by name."""

    spool_bytes: int
    behind_seconds: float
    checkpoint_age_seconds: float
    store_retries: int
    conflicts: int
    interrupted: int
    refused_logs: int
    witness_behind_seconds: Mapping[str, float]
    contradictions: Mapping[str, int]
    chain_index: int = 0
    """Entries in the log of this process."""
    spool_max_bytes: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """How the service stands; credentials are by name, keys by the URL of their issuer."""

    recording: RecordingState
    is_ready: bool = True
    approvals_waiting: int = 0
    approval_oldest_seconds: float = 0.0
    credentials: Mapping[str, CredentialState] = field(default_factory=dict)
    keys: Mapping[str, KeyState] = field(default_factory=dict)


class RecordingMetrics:
    """How recording stands."""

    def __init__(self, declare: Declaring) -> None:
        # Several workers see the same spool, but each has a log of its own in it.
        self._spool_bytes = declare.gauge("extproc_spool_bytes", "What waits in the spool for the store.", "livemax")
        self._spool_max = declare.gauge("extproc_spool_max_bytes", "How much the spool may hold.", "livemax")
        self._spool_age = declare.gauge("extproc_spool_age_seconds", "How long the oldest entry waits.", "livemax")
        self._refused_logs = declare.gauge(
            "extproc_spool_refused_logs", "Logs of dead processes that cannot be shipped: an alarm.", "livemax"
        )
        self._chain_index = declare.gauge("extproc_chain_index", "Entries in the log of this process.", "livesum")
        self._checkpoint_age = declare.gauge(
            "extproc_checkpoint_age_seconds", "Since this log was signed last.", "livemax"
        )
        self._retries = declare.totals("extproc_store_retries", "Times the store did not take entries.")
        self._conflicts = declare.totals(
            "extproc_store_conflicts", "Things in the store that are not what was recorded: an alarm."
        )
        self._interrupted = declare.totals("extproc_interrupted", "Exchanges of dead processes that this one ended.")
        self._witness_behind = declare.gauges(
            "extproc_witness_behind_seconds",
            "Since when a witness did not take a checkpoint.",
            "witness",
            mode="livemax",
        )
        self._contradictions = declare.totals(
            "extproc_witness_contradictions", "Checkpoints a witness has another of: an alarm.", "witness"
        )

    def update(self, state: RecordingState) -> None:
        """Take over how it stands."""
        self._spool_bytes.set(state.spool_bytes)
        self._spool_max.set(state.spool_max_bytes)
        self._spool_age.set(state.behind_seconds)
        self._refused_logs.set(state.refused_logs)
        self._chain_index.set(state.chain_index)
        self._checkpoint_age.set(state.checkpoint_age_seconds)
        self._retries.reach(state.store_retries)
        self._conflicts.reach(state.conflicts)
        self._interrupted.reach(state.interrupted)
        for name, seconds in state.witness_behind_seconds.items():
            self._witness_behind[name,].set(seconds)
        for name, count in state.contradictions.items():
            self._contradictions.reach(count, name)


class StateMetrics:
    """How all of it stands."""

    def __init__(self, declare: Declaring) -> None:
        self._recording = RecordingMetrics(declare)
        self._ready = declare.gauge("extproc_ready", "Whether exchanges are taken: 1, or 0.", "livemin")
        self._waiting = declare.gauge("extproc_approvals_waiting", "Exchanges that wait for approvers now.", "livesum")
        self._oldest = declare.gauge(
            "extproc_approval_oldest_seconds", "How long the oldest of those waits.", "livemax"
        )
        self._refreshes = declare.totals(
            "extproc_credential_refreshes", "Exchanges of a credential for a new token.", "credential", "result"
        )
        self._expires = declare.gauges(
            "extproc_credential_expires_timestamp_seconds",
            "When the token that a credential was exchanged for expires (unix time).",
            "credential",
            mode="livemin",
        )
        self._keys_age = declare.gauges(
            "extproc_jwks_age_seconds", "Since the signing keys of an issuer were fetched.", "issuer", mode="livemax"
        )
        self._keys_refreshes = declare.totals(
            "extproc_jwks_refreshes", "Fetches of an issuer's signing keys.", "issuer", "result"
        )

    def update(self, state: State) -> None:
        """Take over how it stands."""
        self._recording.update(state.recording)
        self._ready.set(int(state.is_ready))
        self._waiting.set(state.approvals_waiting)
        self._oldest.set(state.approval_oldest_seconds)
        for name, credential in state.credentials.items():
            self._refreshes.reach(credential.refreshed, name, "ok")
            self._refreshes.reach(credential.failed, name, "failed")
            if credential.expires is not None:
                self._expires[name,].set(credential.expires)
        for issuer, keys in state.keys.items():
            self._keys_refreshes.reach(keys.refreshed, issuer, "ok")
            self._keys_refreshes.reach(keys.failed, issuer, "failed")
            if keys.age is not None:
                self._keys_age[issuer,].set(keys.age)
