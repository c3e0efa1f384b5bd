"""The settings of the service: one YAML file. Every bound an operator may set has its name, unit and default here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from extproc.address import url_fault
from extproc.carrier import TransportName
from extproc.config_console import ConsoleSettings
from extproc.config_issuers import IssuerSettings
from extproc.config_recording import Places, RecordingSettings, StoreSettings, Url
from extproc.credential import CredentialSpec, ExchangeSpec
from extproc.endpoint import API_UPSTREAMS, Upstream
from extproc.errors import ConfigError
from extproc.identity.issuers import Issuer
from extproc.intercepted import host_fault
from extproc.policy import Policy
from extproc.policy_file import load as load_policy
from extproc.signin.profile import Profile
from extproc.yaml_file import Kind, Loc, YamlFile

_MIB = 1 << 20

_UNNAMED = "credential 'unnamed': "


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ExchangeSettings(_Model):
    """The exchange of a GitHub token for a Copilot token."""

    url: str = ExchangeSpec().url
    allowed_hosts: list[str] = list(ExchangeSpec().allowed_hosts)
    scheme: str = ExchangeSpec().scheme
    headers: dict[str, str] = Field(dict(ExchangeSpec().headers), repr=False)
    timeout_seconds: float = ExchangeSpec().timeout_seconds


class CredentialSettings(_Model):
    """An upstream credential: from a file or an environment variable."""

    file: Path | None = None
    env: str | None = None
    scheme: str = "Bearer"
    # Somebody may keep a key in one.
    headers: dict[str, str] = Field({}, repr=False)
    headers_if_missing: dict[str, str] = Field({}, repr=False)
    upstreams: list[Upstream] = sorted(API_UPSTREAMS)
    exchange: ExchangeSettings | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        try:
            _credential("unnamed", self, Path())
        except ConfigError as error:
            raise ValueError(str(error).removeprefix(_UNNAMED)) from None
        return self


def _checked_url(url: str) -> str:
    """Return an address that may have a query and a fragment too, which `url_fault` forbids."""
    fault = url_fault(re.split(r"[?#]", url, maxsplit=1)[0])
    if fault is None and (not url.isprintable() or " " in url):
        fault = "has a space or a control character"
    if fault is not None:
        raise ValueError(f"the address {fault}")
    return url


BaseUrl = Annotated[Url, AfterValidator(lambda url: url.rstrip("/"))]
"""The address of a server, to which clients append a path."""


def _link(url: str) -> str:
    if "{id}" not in url:
        raise ValueError("expected {id} in it, where the approval's id goes")
    return _checked_url(url)


class WebhookSettings(_Model):
    """A program that is told of approvals: where, and the key that signs what it is told."""

    url: str = Field(repr=False)
    key_file: Path

    # A fault of the whole entry: that of a value is told with the value, and an address may hold a token.
    @model_validator(mode="after")
    def _reachable(self) -> Self:
        _checked_url(self.url)
        return self


class NotificationSettings(_Model):
    """Who is told that an approval waits or has ended."""

    link: Annotated[str, AfterValidator(_link)] | None = None
    webhooks: list[WebhookSettings] = []
    apprise_file: Path | None = None


def _intercepted(host: str) -> str:
    if fault := host_fault(host):
        raise ValueError(fault)
    return host


class ProxySettings(_Model):
    """The forward proxy: hosts whose traffic it reads beside those of `extproc.intercepted`."""

    hosts: list[Annotated[str, AfterValidator(_intercepted)]] = []


class SignInSettings(_Model):
    """What the gateway tells `extproc login`: how people sign in, and where clients find it."""

    gateway: BaseUrl
    proxy: BaseUrl | None = None
    ca_file: Path | None = None
    issuer: Url
    client_id: str = Field(min_length=1)
    scopes: list[str] = []
    use: Literal["access_token", "id_token"] = "access_token"


class Limits(_Model):
    """Bounds; a request beyond one is refused, never let through unread."""

    max_request_bytes: int = Field(10 * _MIB, gt=0, description="Largest request body.")
    max_answer_bytes: int = Field(32 * _MIB, gt=0, description="Largest answer that is held or recorded.")
    max_event_bytes: int = Field(4 * _MIB, gt=0, description="Largest single event of a stream.")
    max_exchanges: int = Field(2000, gt=0, description="Exchanges at a time; more are refused.")
    max_waiting: int = Field(1000, gt=0, description="Exchanges that wait for approvers at a time; more are refused.")
    # Shorter than Envoy's stream_idle_timeout, so that it is the service that ends and records the exchange.
    idle_seconds: float = Field(840, gt=0, description="Longest silence from Envoy within an exchange.")
    total_seconds: float = Field(3600, gt=0, description="Longest exchange.")
    drain_seconds: float = Field(30, ge=0, description="How long running exchanges may go on after SIGTERM.")
    session_gap_seconds: float = Field(1800, gt=0, description="Silence after which an unnamed session ends.")


def _host_and_port(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError("expected HOST:PORT")
    return address


Address = Annotated[str, AfterValidator(_host_and_port)]

WORKER: Final = "{worker}"
"""What stands for a worker's number, from 0 on, in the addresses of `listen`."""


def _listen(address: str) -> str:
    if re.search(r"[{}]", address.replace(WORKER, "")):
        raise ValueError(f"expected no braces but those of {WORKER}")
    return address


Listen = Annotated[str, AfterValidator(_listen)]


class Settings(_Model):
    """The whole file."""

    listen: list[Listen] = Field(["unix:/run/extproc/{worker}.sock"], min_length=1)
    workers: int = Field(1, ge=1, le=64, description="Processes, each at its own socket: {worker} is its number.")
    transport: TransportName = Field("http2", description="What carries Envoy's streams: ours or grpc.aio.")
    operations: Address = "0.0.0.0:9464"
    policy: Path
    rule_cache: Path = Path("rule-cache")
    state: Path = Field(Path(), description="The folder of keys, spool and the database of approvals.")
    store: StoreSettings
    recording: RecordingSettings = RecordingSettings()
    issuers: list[IssuerSettings] = Field(min_length=1)
    credentials: dict[str, CredentialSettings] = {}
    upstreams: dict[Upstream, str] = {}
    url: BaseUrl | None = Field(
        None, description="The base address that clients are sent to, where it is not the one they asked for."
    )
    proxy: ProxySettings = ProxySettings()
    sign_in: SignInSettings | None = None
    console: ConsoleSettings = ConsoleSettings()
    notifications: NotificationSettings = NotificationSettings()
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _workers_are_apart(self) -> Self:
        shared = [one for one in self.listen if not one.startswith("unix:") or WORKER not in one.rpartition("/")[2]]
        if self.workers > 1 and shared:
            raise ValueError(
                f"listen: {shared[0]!r}: with several workers expected unix:PATH with {WORKER} in its name"
            )
        return self

    def listen_of(self, worker: int) -> list[str]:
        """Return the addresses of a worker."""
        return [one.replace(WORKER, str(worker)) for one in self.listen]

    def places(self, base: Path) -> Places:
        """Return where things are kept, for settings in the folder `base`."""
        return Places(base, self.state, self.store, self.recording)


UPSTREAM_HOSTS: Mapping[Upstream, str] = {
    Upstream.COPILOT_API: "api.githubcopilot.com",
    Upstream.COPILOT_PROXY: "copilot-proxy.githubusercontent.com",
    Upstream.GITHUB_API: "api.github.com",
    Upstream.GITHUB_WEB: "github.com",
    Upstream.TELEMETRY: "copilot-telemetry.githubusercontent.com",
}


@dataclass(frozen=True, slots=True)
class Config:
    """Checked settings, with everything they refer to loaded; `base` is the folder relative paths start from."""

    settings: Settings
    base: Path
    policy: Policy
    issuers: list[Issuer]
    credentials: list[CredentialSpec]

    @property
    def places(self) -> Places:
        """Return where things are kept."""
        return self.settings.places(self.base)

    @property
    def socket_folder(self) -> Path:
        """Return the folder of the first unix socket, where several workers have what they share while they run."""
        return (self.base / self.settings.listen[0].removeprefix("unix:")).parent

    @property
    def url(self) -> str | None:
        """Return where clients are sent; where they are told an https address, TLS may end before Envoy."""
        told = self.settings.sign_in
        told_https = None if told is None or not told.gateway.startswith("https:") else told.gateway
        return self.settings.url or told_https

    def profile(self) -> Profile | None:
        """Return what clients are told of this gateway, None where `sign_in` is not set; raises ConfigError."""
        told = self.settings.sign_in
        if told is None:
            return None
        try:
            ca_pem = None if told.ca_file is None else (self.base / told.ca_file).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"sign_in.ca_file: {told.ca_file} cannot be read as PEM ({error})") from None
        return Profile(
            gateway=told.gateway,
            issuer=told.issuer,
            client_id=told.client_id,
            scopes=tuple(told.scopes),
            use=told.use,
            proxy=told.proxy,
            ca_pem=ca_pem,
            # The default is for this machine alone: clients elsewhere would take their token to whoever listens there.
            console=self.settings.console.url if "url" in self.settings.console.model_fields_set else None,
        )

    @property
    def upstream_hosts(self) -> Mapping[Upstream, str]:
        """Return the host, which is also the Envoy cluster's name, of each upstream."""
        return {**UPSTREAM_HOSTS, **self.settings.upstreams}


def load_settings(path: Path) -> Settings:
    """Read and check the file alone; raises ConfigError with everything that is wrong."""
    return YamlFile(path, Kind(typed_scalars=True, place=_without_kinds)).checked(Settings)


def load(path: Path) -> Config:
    """Read and check the file and the policy it names; raises ConfigError with everything that is wrong."""
    settings = load_settings(path)
    base = path.parent
    policy = load_policy(base / settings.policy)
    try:
        trusted = [issuer for one in settings.issuers for issuer in one.trusted()]
        credentials = [_credential(name, one, base) for name, one in settings.credentials.items()]
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    urls = [issuer.url for issuer in trusted]
    told = settings.console.sign_in
    if told is not None and told.issuer not in urls:
        raise ConfigError(f"{path}: console.sign_in.issuer: expected one of the issuers, got {told.issuer!r}")
    if twice := sorted({url for url in urls if urls.count(url) > 1}):
        raise ConfigError(f"{path}: issuers: {twice[0]} is listed twice")
    if missing := sorted(policy.credentials() - set(settings.credentials)):
        raise ConfigError(
            f"{path}: credentials: the policy {settings.policy} uses {', '.join(map(repr, missing))}, "
            f"expected an entry of that name"
        )
    return Config(settings, base, policy, trusted, credentials)


_OF_KINDS = (("issuers",), ("recording", "checkpoints", "witnesses"), ("recording", "feeds"))


def _without_kinds(loc: Loc) -> Loc:
    """Drop the kind that pydantic puts behind the number of an entry that is of one of several kinds."""
    for listed in _OF_KINDS:
        at = len(listed) + 1
        if loc[: at - 1] == listed and len(loc) > at:
            return (*loc[:at], *loc[at + 1 :])
    return loc


def _credential(name: str, settings: CredentialSettings, base: Path) -> CredentialSpec:
    exchange = settings.exchange
    return CredentialSpec(
        name=name,
        file=None if settings.file is None else base / settings.file,
        env=settings.env,
        scheme=settings.scheme,
        headers=settings.headers,
        headers_if_missing=settings.headers_if_missing,
        upstreams=frozenset(settings.upstreams),
        exchange=None
        if exchange is None
        else ExchangeSpec(
            url=exchange.url,
            allowed_hosts=tuple(exchange.allowed_hosts),
            scheme=exchange.scheme,
            headers=exchange.headers,
            timeout_seconds=exchange.timeout_seconds,
        ),
    )
