"""Whether the gateway is there, is trusted, decides, and takes the token of this machine."""

from __future__ import annotations

import datetime as dt
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import aiohttp

from extproc.doctor.check import Check, Verdict, failed, ok, reason, skip
from extproc.doctor.tls import NoTls, direct, shake, trusting
from extproc.errors import Code, ExtprocError
from extproc.keys.fetch import read_bounded
from extproc.secret import Secret
from extproc.signin.current import client_session
from extproc.signin.discovery import fetch_profile

IDS: Final = ("gateway.reachable", "gateway.trusted", "gateway.profile", "gateway.ready")
TOKEN: Final = "token.accepted"  # noqa: S105 - a check

_MODELS: Final = "/models"
_MAX_BYTES: Final = 1024 * 1024
_DECISION: Final = "x-gateway-decision-id"
_IS_IT_RUNNING: Final = "Are the gateway's pods ready (kubectl -n copilot-gateway get pods)?"
TRUST_IT: Final = (
    "Give clients the gateway's authority: NODE_EXTRA_CA_CERTS for Node, SSL_CERT_FILE with a bundle for others."
)
"""What to do where clients do not trust the gateway."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where it is; `in_use` is what clients here trust (PEM), `token` what they show, `no_token` why there is none."""

    url: str
    in_use: str
    token: Secret | None
    no_token: str
    seconds: float
    now: Callable[[], float]

    @property
    def is_tls(self) -> bool:
        """Say whether it is spoken to by TLS."""
        return urlsplit(self.url).scheme == "https"

    @property
    def host(self) -> str:
        """Return its name or address."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """Return its port."""
        return urlsplit(self.url).port or (443 if self.is_tls else 80)

    def session(self) -> aiohttp.ClientSession:
        """Return a session that trusts whom clients here trust."""
        return client_session(trusting(self.in_use) if self.is_tls else None)


def checks(gateway: Gateway) -> list[Check]:
    """Return all of them."""
    seconds = 2 * gateway.seconds + 1
    trusted = (
        Check("gateway.trusted", lambda: _trusted(gateway), seconds)
        if gateway.is_tls
        else skip("gateway.trusted", "The gateway is spoken to without TLS, on this machine.")
    )
    accepted = (
        skip(TOKEN, f"There is no token here: {gateway.no_token}.")
        if gateway.token is None
        else Check(TOKEN, lambda: _accepted(gateway), seconds)
    )
    return [
        Check("gateway.reachable", lambda: _reachable(gateway), seconds),
        trusted,
        Check("gateway.profile", lambda: _profile(gateway), seconds),
        Check("gateway.ready", lambda: _ready(gateway), seconds),
        accepted,
    ]


def absent(why: str) -> list[Check]:
    """Return the same where no gateway is known."""
    return [skip(one, why) for one in (*IDS, TOKEN)]


async def _reachable(gateway: Gateway) -> Verdict:
    where = f"{gateway.host}:{gateway.port}"
    try:
        _, writer = await direct(gateway.host, gateway.port)()
    except OSError as error:
        return failed(
            f"The gateway at {where} cannot be reached ({reason(error)}).",
            f"{_IS_IT_RUNNING} May this pod reach it (NetworkPolicy)? Is the address right (--gateway)?",
        )
    writer.transport.abort()
    return ok(f"The gateway at {where} takes connections.")


async def _trusted(gateway: Gateway) -> Verdict:
    tls = trusting(gateway.in_use)
    try:
        shown = await shake(direct(gateway.host, gateway.port), tls, gateway.host, gateway.seconds)
    except ssl.SSLCertVerificationError as error:
        return failed(f"The gateway's certificate is not trusted here: {error.verify_message}.", TRUST_IT)
    except NoTls as why:
        return failed(f"No TLS comes about with {gateway.host}: {why}.", "Is the port that of the gateway's https?")
    except OSError:
        return failed(f"{gateway.host} cannot be reached.", _IS_IT_RUNNING)
    left = shown.not_valid_after_utc - dt.datetime.fromtimestamp(gateway.now(), dt.UTC)
    issuer = shown.issuer.rfc4514_string()
    return ok(f"The gateway's certificate is trusted; issued by {issuer}, {left.days} days left.")


async def _profile(gateway: Gateway) -> Verdict:
    try:
        async with gateway.session() as session:
            profile = await fetch_profile(session, gateway.url, timeout_seconds=gateway.seconds)
    except ExtprocError as error:
        return failed(
            f"The gateway tells no profile: {error}",
            "Set sign_in in gateway.yaml, or see gateway.reachable and gateway.trusted.",
        )
    return ok(f"The gateway tells its profile; people sign in at {profile.issuer}.")


class _Answer(NamedTuple):
    status: int
    is_decided: bool
    code: str
    message: str


async def _models(gateway: Gateway, token: Secret | None) -> _Answer | None:
    """Ask for the models; None where there is no answer."""
    headers = {} if token is None else {"authorization": f"Bearer {token.reveal()}"}
    limit = aiohttp.ClientTimeout(total=gateway.seconds)
    try:
        async with (
            gateway.session() as session,
            session.get(
                gateway.url.rstrip("/") + _MODELS, headers=headers, timeout=limit, allow_redirects=False
            ) as response,
        ):
            raw = await read_bounded(response, _MAX_BYTES)
            return _Answer(response.status, _DECISION in response.headers, *_error(raw or b""))
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


def _error(raw: bytes) -> tuple[str, str]:
    """Return the code and the sentence of an error of ours; nothing that a terminal would obey."""
    try:
        told = json.loads(raw)["error"]
        found = str(told["code"]), str(told["message"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return "", ""
    code, message = ("".join(one for one in text[:300] if one.isprintable()) for text in found)
    return code, message


async def _ready(gateway: Gateway) -> Verdict:
    """Ask without a token: who refuses for that reason decides."""
    answer = await _models(gateway, None)
    if answer is None:
        return failed("The gateway does not answer, or is not trusted.", _IS_IT_RUNNING)
    if answer.status == 401 and answer.is_decided and answer.code == Code.IDENTITY_MISSING:
        return ok("The gateway decides: a request without a token is refused.")
    if answer.status < 300:
        return failed(
            "A request without a token is answered: this is not the gateway, or it lets everybody in.",
            "Is the address right (--gateway)? Nobody may be let in without an identity.",
        )
    return failed(
        f"The gateway takes no requests now: status {answer.status} {answer.message or 'without a reason'}",
        f"{_IS_IT_RUNNING} `extproc doctor --config` in one of them says more.",
    )


async def _accepted(gateway: Gateway) -> Verdict:
    answer = await _models(gateway, gateway.token)
    if answer is None:
        return failed("The gateway does not answer, or is not trusted.", _IS_IT_RUNNING)
    if answer.status == 200:
        return ok("The token is accepted, and the models that may be used are told.")
    told = f"{answer.message} ({answer.status} {answer.code})"
    # An upstream's error is passed on as it is, and has none of our codes.
    kind = answer.code.partition(".")[0] if answer.is_decided else ""
    if kind == "identity":
        return failed(
            f"The gateway does not accept the token: {told}",
            "Is it of an issuer and for an audience of gateway.yaml (issuers)? Is it fresh? Sign in: `extproc login`.",
        )
    if kind == "policy":
        return failed(
            f"The token is accepted, and the policy refuses: {told}",
            "Who it is of needs a rule: `extproc policy explain` says which rule decides.",
        )
    return failed(
        f"The token could not be tried: {told if kind else f'status {answer.status}'}",
        "Behind the gateway: `extproc doctor --config` in its pod says whether store, issuers and upstreams are there.",
    )
