"""The adapter, driven through the unmodified SDK against a fake of the service."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp.test_utils import TestServer

from extproc.witness.azure_blob import AzureBlobWitness, connect
from extproc.witness.port import Contradicted, WitnessUnavailable
from tests.witness.blob_service import ACCOUNT, CONTAINER, KEY, BlobService

LOG = "pod-1.0.7"
NOTE = f"gateway.example/{LOG}\n42\ncm9vdA==\nat 1760000000\n\n— gateway.example c2lnbmF0dXJl\n"
BLOB = f"{LOG}/000000000042"


@pytest.fixture
def service() -> BlobService:
    return BlobService()


@asynccontextmanager
async def connected(
    service: BlobService, *, key: str = KEY, container: str = CONTAINER
) -> AsyncIterator[AzureBlobWitness]:
    async with TestServer(service.app()) as server:
        credential = {"account_name": ACCOUNT, "account_key": key}
        witness = connect("witnesses[0]", str(server.make_url(f"/{ACCOUNT}")), container, credential)
        try:
            yield witness
        finally:
            await witness.aclose()


async def test_a_checkpoint_becomes_a_blob_named_by_log_and_size(service: BlobService) -> None:
    async with connected(service) as witness:
        await witness.publish(LOG, 42, NOTE)
    assert service.blobs == {BLOB: NOTE.encode()}
    assert service.asked == [("PUT", BLOB)]


async def test_the_same_again_is_fine_and_replaces_nothing(service: BlobService) -> None:
    async with connected(service) as witness:
        await witness.publish(LOG, 42, NOTE)
        await witness.publish(LOG, 42, NOTE)
    assert service.blobs == {BLOB: NOTE.encode()}


async def test_the_same_tree_signed_later_is_fine_and_the_first_note_stays(service: BlobService) -> None:
    async with connected(service) as witness:
        await witness.publish(LOG, 42, NOTE)
        await witness.publish(LOG, 42, NOTE.replace("at 1760000000", "at 1760000600"))
    assert service.blobs == {BLOB: NOTE.encode()}


@pytest.mark.parametrize(
    "there",
    [
        NOTE.replace("cm9vdA==", "b3RoZXI="),
        NOTE.replace("\n42\n", "\n43\n"),
        NOTE.replace("gateway.example/", "another.example/"),
        NOTE[:30],
        "",
    ],
    ids=["root", "size", "origin", "cut", "empty"],
)
async def test_another_checkpoint_in_its_place_is_a_contradiction_that_names_the_place(
    service: BlobService, there: str
) -> None:
    service.blobs[BLOB] = there.encode()
    async with connected(service) as witness:
        with pytest.raises(Contradicted, match=f"contradiction: .*{BLOB}"):
            await witness.publish(LOG, 42, NOTE)
    assert service.blobs == {BLOB: there.encode()}


async def test_what_failed_but_arrived_is_found_to_be_there(service: BlobService) -> None:
    service.lose_answer = True
    async with connected(service) as witness:
        with pytest.raises(WitnessUnavailable, match="OperationTimedOut, status 500"):
            await witness.publish(LOG, 42, NOTE)
        await witness.publish(LOG, 42, NOTE)
    assert service.blobs == {BLOB: NOTE.encode()}


@pytest.mark.parametrize(
    ("status", "code"), [(403, "AuthorizationPermissionMismatch"), (500, "InternalError"), (503, "ServerBusy")]
)
async def test_a_failure_says_its_code_alone_and_is_not_retried_here(
    service: BlobService, status: int, code: str
) -> None:
    service.failures = [(status, code)]
    async with connected(service) as witness:
        with pytest.raises(WitnessUnavailable, match=f"{code}, status {status}") as caught:
            await witness.publish(LOG, 42, NOTE)
    assert not isinstance(caught.value, Contradicted)
    assert "s3cret" not in str(caught.value)
    assert len(service.asked) == 1


async def test_where_what_is_there_cannot_be_read_it_was_not_taken(service: BlobService) -> None:
    service.failures = [(409, "BlobImmutableDueToPolicy"), (403, "AuthorizationPermissionMismatch")]
    async with connected(service) as witness:
        with pytest.raises(WitnessUnavailable, match="AuthorizationPermissionMismatch"):
            await witness.publish(LOG, 42, NOTE)
    assert service.asked == [("PUT", BLOB), ("GET", BLOB)]


async def test_a_wrong_key_is_refused(service: BlobService) -> None:
    async with connected(service, key=base64.b64encode(b"x" * 32).decode()) as witness:
        with pytest.raises(WitnessUnavailable, match="AuthenticationFailed, status 403"):
            await witness.publish(LOG, 42, NOTE)
    assert service.blobs == {}


async def test_a_container_that_is_not_there_is_unavailable(service: BlobService) -> None:
    async with connected(service, container="another") as witness:
        with pytest.raises(WitnessUnavailable, match="ContainerNotFound"):
            await witness.publish(LOG, 42, NOTE)


async def test_where_nobody_listens_it_is_unavailable(unused_tcp_port: int) -> None:
    credential = {"account_name": ACCOUNT, "account_key": KEY}
    witness = connect("w", f"http://127.0.0.1:{unused_tcp_port}/{ACCOUNT}", CONTAINER, credential)
    with pytest.raises(WitnessUnavailable, match="ServiceRequestError"):
        await witness.publish(LOG, 42, NOTE)
    await witness.aclose()
