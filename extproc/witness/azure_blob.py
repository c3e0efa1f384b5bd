"""A witness that is an Azure Blob container, made for one with an immutability policy: nobody removes what is there."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

from azure.core.exceptions import AzureError, HttpResponseError
from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import ContainerClient

from extproc.witness.port import Contradicted, WitnessUnavailable

_CONTENT = ContentSettings(content_type="text/plain; charset=utf-8")

# BlobAlreadyExists, BlobImmutableDueToPolicy and ConditionNotMet ("Blob Storage error codes").
_TAKEN: Final = {409, 412}


class AzureBlobWitness:
    """Create one blob `<log>/<size, 12 digits>` per checkpoint, and never replace one."""

    def __init__(self, name: str, container: ContainerClient) -> None:
        self.name = name
        self._container = container

    async def publish(self, log: str, size: int, note: str) -> None:
        """Create the blob, or see that it is there already; see the port. Raises `Contradicted` where it differs.

        A log that rests is signed again and again with a later time: of one size the container keeps the first note.
        """
        blob, content = f"{log}/{size:012d}", note.encode()
        try:
            # Without `overwrite` the SDK sends `If-None-Match: *`.
            await self._container.upload_blob(
                blob, content, length=len(content), overwrite=False, content_settings=_CONTENT
            )
        except HttpResponseError as error:
            if error.status_code not in _TAKEN:
                raise _unavailable(error) from None
        except AzureError as error:
            raise _unavailable(error) from None
        else:
            return
        await self._compare(blob, content)

    async def _compare(self, blob: str, content: bytes) -> None:
        try:
            download = await self._container.download_blob(blob, offset=0, length=len(content))
            there = await download.readall()
        except HttpResponseError as error:
            # An empty blob has no byte of this range.
            if error.status_code != 416:
                raise _unavailable(error) from None
            there = b""
        except AzureError as error:
            raise _unavailable(error) from None
        if _tree(there) != _tree(content):
            raise Contradicted(f"contradiction: the container has another checkpoint at {blob}")

    async def aclose(self) -> None:
        """Let go of connections; a credential that was given is its owner's to close."""
        await self._container.close()


def connect(
    name: str,
    account_url: str,
    container: str,
    credential: Any,  # noqa: ANN401 - a token credential, a key, or what else the SDK takes
    *,
    timeout_seconds: float = 10.0,
) -> AzureBlobWitness:
    """Return the witness in a container that exists; `credential` is for example a `DefaultAzureCredential` (aio)."""
    client = ContainerClient(
        account_url,
        container,
        credential=credential,
        # Who publishes tries again, in its own time.
        retry_total=0,
        connection_timeout=timeout_seconds,
        read_timeout=timeout_seconds,
    )
    return AzureBlobWitness(name, client)


# Origin, size and root are the first three lines (C2SP tlog-checkpoint).
def _tree(note: bytes) -> list[bytes]:
    return note.split(b"\n", 3)[:3]


def _unavailable(error: AzureError) -> WitnessUnavailable:
    # Only codes: the text quotes addresses and headers.
    status = error.status_code if isinstance(error, HttpResponseError) else None
    code = getattr(error, "error_code", None)
    what = (code.value if isinstance(code, Enum) else code) or type(error).__name__
    return WitnessUnavailable(f"the request failed ({what}{'' if status is None else f', status {status}'})")
