"""The settings of recording: spool, checkpoints and their witnesses, encryption, feeds; part of the settings file."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from extproc.address import url_fault
from extproc.keys import fingerprint_key, gateway_token_key

_GIB = 1 << 30
_MIB = 1 << 20


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _url(text: str) -> str:
    fault = url_fault(text)
    if fault is not None:
        raise ValueError(f"the address {fault}")
    return text


def _syslog_address(text: str) -> str:
    found = re.fullmatch(r"(?:udp|tcp)://[^/:]+:(\d{1,5})|unix:///.+", text)
    if found is None or (found[1] and not 0 < int(found[1]) < 65_536):
        raise ValueError("expected udp://HOST:PORT, tcp://HOST:PORT or unix:///PATH")
    return text


Url = Annotated[str, AfterValidator(_url)]


class _Addressed(_Model):
    """What is reached at an address that may hold a token, so that no fault and no log shows it."""

    url: str = Field(repr=False)

    # A fault of the whole entry: that of a value is told with the value.
    @model_validator(mode="after")
    def _reachable(self) -> Self:
        _url(self.url)
        return self


class SpoolSettings(_Model):
    """What waits for the store, on this machine's disk."""

    folder: Path = Path("spool")
    max_bytes: int = Field(_GIB, gt=0, description="From here on no exchange begins, until the store took some.")
    reserve_bytes: int = Field(32 * _MIB, gt=0, description="Kept on the disk for exchanges that run when it is full.")
    keep_seconds: float = Field(0, ge=0, description="How long what the store acknowledged stays here as well.")


class FileWitness(_Model):
    """A file on another machine's disk, or `-` for standard output."""

    kind: Literal["file"]
    path: Path


class HttpWitness(_Addressed):
    """An address that takes notes by POST."""

    kind: Literal["http"]
    token_file: Path | None = None


class AzureBlobWitness(_Model):
    """A container of Azure Blob Storage, with an immutability policy; identity as the workload's."""

    kind: Literal["azure-blob"]
    account_url: Url
    container: str


Witness = Annotated[FileWitness | HttpWitness | AzureBlobWitness, Field(discriminator="kind")]


class CheckpointSettings(_Model):
    """When the log is signed, by whom, and who else keeps that."""

    name: str = Field("copilot-extproc", pattern=r"^[A-Za-z0-9._/-]+$", description="The signer; also in public keys.")
    key_file: Path = Path("checkpoint.key")
    entries: int = Field(1000, gt=0, description="Signed after so many new entries,")
    seconds: float = Field(10, gt=0, description="or so long after a new one,")
    idle_seconds: float = Field(300, gt=0, description="or so long after the last, where nothing is new.")
    witnesses: list[Witness] = [FileWitness(kind="file", path=Path("witness.log"))]


class EncryptionSettings(_Model):
    """The key that wraps the data keys of sessions: a file, or a key in Azure Key Vault."""

    key_file: Path | None = None
    key_vault_key: Url | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.key_file is None) == (self.key_vault_key is None):
            raise ValueError("expected one of key_file and key_vault_key")
        return self


class FileFeed(_Model):
    """NDJSON, appended to a file."""

    kind: Literal["file"]
    path: Path


class SyslogFeed(_Model):
    """Messages of RFC 5424: `udp://HOST:PORT`, `tcp://HOST:PORT` or `unix:///dev/log`."""

    kind: Literal["syslog"]
    address: Annotated[str, AfterValidator(_syslog_address)]


class WebhookFeed(_Addressed):
    """Signed batches by POST."""

    kind: Literal["webhook"]
    key_file: Path


Feed = Annotated[FileFeed | SyslogFeed | WebhookFeed, Field(discriminator="kind")]


class RecordingSettings(_Model):
    """All of it."""

    replica: str = Field(
        default_factory=socket.gethostname, pattern=r"^[A-Za-z0-9._-]+$", description="The first part of logs' names."
    )
    spool: SpoolSettings = SpoolSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    encryption: EncryptionSettings | None = None
    feeds: list[Feed] = []


class CosmosStore(_Model):
    """A container of Azure Cosmos DB for NoSQL; without a key file the workload's identity is used."""

    endpoint: Url
    database: str = "extproc"
    container: str = "recording"
    approvals_container: str = "approvals"
    key_file: Path | None = None
    preferred_regions: list[str] = []
    endpoint_discovery: bool = True


class StoreSettings(_Model):
    """Where exchanges are recorded: one of these."""

    sqlite: Path | None = None
    cosmos: CosmosStore | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.sqlite is None) == (self.cosmos is None):
            raise ValueError("expected one of sqlite and cosmos")
        return self


@dataclass(frozen=True, slots=True)
class Places:
    """Where the record and what belongs to it are kept; relative paths of settings start at `base`, their folder."""

    base: Path
    state_folder: Path
    store: StoreSettings
    recording: RecordingSettings

    @property
    def state(self) -> Path:
        """Return the folder of what is kept beside the record; keys and spool are relative to it."""
        return self.base / self.state_folder

    @property
    def spool(self) -> Path:
        """Return the folder of the spool."""
        return self.state / self.recording.spool.folder

    @property
    def record(self) -> Path:
        """Return the SQLite file of the record, where it is kept in one."""
        return self.base / (self.store.sqlite or "record.db")

    @property
    def approvals(self) -> Path:
        """Return the SQLite file of approvals: one of its own, so that a record that cannot be written stops none."""
        return self.state / "approvals.db"

    @property
    def search_index(self) -> Path:
        """Return the SQLite file by which the console searches: made of the record, and no evidence."""
        return self.state / "search.db"

    @property
    def checkpoint_key(self) -> Path:
        """Return the file of the key that signs."""
        return self.state / self.recording.checkpoints.key_file

    @property
    def fingerprint_key(self) -> Path:
        """Return the file of the key of fingerprints."""
        return self.state / fingerprint_key.FILE_NAME

    @property
    def gateway_token_key(self) -> Path:
        """Return the file of the key of the gateway's own tokens."""
        return self.state / gateway_token_key.FILE_NAME
