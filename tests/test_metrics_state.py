from __future__ import annotations

from extproc.credentials.provider import CredentialState
from extproc.keys.jwks import KeyState
from extproc.metrics import Metrics, State
from tests.metrics_of import recording, samples

ISSUER = "https://idp.example"


def test_how_recording_stands_is_told() -> None:
    metrics = Metrics()
    metrics.update(State(recording()))
    first = samples(metrics)
    metrics.update(State(recording(spool_bytes=200, store_retries=5, chain_index=13)))
    found = samples(metrics)
    assert (first["extproc_spool_bytes", ()], found["extproc_spool_bytes", ()]) == (100, 200)
    assert (first["extproc_store_retries_total", ()], found["extproc_store_retries_total", ()]) == (3, 5)
    assert (first["extproc_chain_index", ()], found["extproc_chain_index", ()]) == (12, 13)
    assert found["extproc_spool_age_seconds", ()] == 2.5
    assert found["extproc_checkpoint_age_seconds", ()] == 7
    assert found["extproc_store_conflicts_total", ()] == 0
    assert found["extproc_interrupted_total", ()] == 4
    assert found["extproc_spool_refused_logs", ()] == 1
    assert found["extproc_witness_behind_seconds", ("witnesses[0]",)] == 1.5
    assert found["extproc_witness_contradictions_total", ("witnesses[0]",)] == 0


def test_who_waits_for_approvers_is_told() -> None:
    metrics = Metrics()
    metrics.update(State(recording(), approvals_waiting=2, approval_oldest_seconds=61.0))
    found = samples(metrics)
    assert found["extproc_approvals_waiting", ()] == 2
    assert found["extproc_approval_oldest_seconds", ()] == 61


def test_credentials_and_keys_have_counts_from_the_start_and_times_once_there_are_any() -> None:
    metrics = Metrics()
    unused = State(
        recording(), credentials={"github": CredentialState(0, 0, None)}, keys={ISSUER: KeyState(None, 0, 0)}
    )
    metrics.update(unused)
    found = samples(metrics)
    assert found["extproc_credential_refreshes_total", ("github", "failed")] == 0
    assert found["extproc_jwks_refreshes_total", (ISSUER, "failed")] == 0
    assert not [name for name, _ in found if "expires" in name or "jwks_age" in name]
    used = State(
        recording(), credentials={"github": CredentialState(2, 1, 1_800.0)}, keys={ISSUER: KeyState(30.0, 3, 1)}
    )
    metrics.update(used)
    metrics.update(used)
    found = samples(metrics)
    assert found["extproc_credential_refreshes_total", ("github", "ok")] == 2
    assert found["extproc_credential_refreshes_total", ("github", "failed")] == 1
    assert found["extproc_credential_expires_timestamp_seconds", ("github",)] == 1800
    assert found["extproc_jwks_age_seconds", (ISSUER,)] == 30
    assert found["extproc_jwks_refreshes_total", (ISSUER, "ok")] == 3
    assert found["extproc_jwks_refreshes_total", (ISSUER, "failed")] == 1
