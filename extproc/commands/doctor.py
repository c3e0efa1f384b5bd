"""`extproc doctor`: whether this machine or pod is behind the gateway, with no way around; or the gateway in order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from extproc.address import url_fault
from extproc.commands.access import operator
from extproc.commands.options import JsonOption, print_json
from extproc.doctor import check, gateway, inside, proxy, way_around
from extproc.doctor.check import Check, Result, Status
from extproc.doctor.peers import Way
from extproc.doctor.tls import trusting
from extproc.doctor.trust import Trust, public_bundle, trust_of
from extproc.doctor.way_around import Outside
from extproc.errors import ConfigError, ExtprocError
from extproc.secret import Secret
from extproc.signin.current import client_session, current_token
from extproc.signin.discovery import fetch_profile
from extproc.signin.kept import load
from extproc.signin.workload import checked_token

_STYLES = {Status.OK: "green", Status.FAILED: "bold red", Status.SKIPPED: "yellow"}


def doctor(  # noqa: PLR0917 - options, passed by name
    ctx: typer.Context,
    gateway_url: Annotated[
        str | None,
        typer.Option("--gateway", envvar="EXTPROC_GATEWAY", help="The gateway; by default that of the kept sign-in."),
    ] = None,
    proxy_url: Annotated[
        str | None, typer.Option("--proxy", envvar=["HTTPS_PROXY", "https_proxy"], help="The forward proxy.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(help="A token for the gateway; better by EXTPROC_TOKEN: arguments can be read by others."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="A file with the token; by default as `extproc token` finds one.")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(help="The gateway's authority, beside what SSL_CERT_FILE and the like name.")
    ] = None,
    address: Annotated[
        list[str] | None,
        typer.Option(help="An IP address of GitHub's to try as well, past the resolver; may be repeated."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="In the gateway's or the console's pod: the settings file; checks what is there."),
    ] = None,
    is_console: Annotated[  # noqa: FBT002 - a command-line flag
        bool, typer.Option("--console", help="With --config, in the console's pod: there are no workers.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds for each connection and each answer.")] = 5.0,
    as_json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Say, check by check, whether there is a way around the gateway. Exit 1 where a check failed."""
    if is_console and config is None:
        raise ConfigError("--console: expected with --config")
    # What the libraries that checks use would log of a failure is in the verdict, in words for people.
    logging.getLogger().addHandler(logging.NullHandler())
    environ: Mapping[str, str] = ctx.obj or {}
    addresses = [_checked_address(one) for one in address or []]
    url = gateway_url or (None if config else _kept_gateway(environ))
    if url is not None and (fault := url_fault(url)):
        raise ConfigError(f"--gateway: the address {fault}")
    public = public_bundle()
    told = None if url is None else asyncio.run(_told(url, trust_of(environ, ca_file, public, None), timeout))
    trust = trust_of(environ, ca_file, public, told)
    at = None if proxy_url is None or config else proxy.address_of(proxy_url)
    found, why = _token(environ, token, token_file, at)
    checks = []
    if config is not None:
        way = Way(trust.in_use, timeout)
        checks += inside.checks(config, way, operator(), time.time, is_console=is_console)
    else:
        checks += way_around.checks(way_around.HOSTS, addresses, Outside(trust.authorities, timeout))
        checks += _of_proxy(at, trust, found, timeout)
    if config is None or url is not None:
        checks += _of_gateway(url, trust, found, why, timeout)
    results = asyncio.run(check.run(checks))
    show(results, as_json=as_json)
    if any(result.verdict.status is Status.FAILED for result in results):
        raise typer.Exit(1)


def show(results: Sequence[Result], *, as_json: bool) -> None:
    """Print what was found: a line each and what to do below it, or one JSON object per line."""
    if as_json:
        for result in results:
            verdict = result.verdict
            print_json({"id": result.id, "status": verdict.status, "sentence": verdict.sentence, "todo": verdict.todo})
        return
    # A terminal breaks long lines by itself, and without one (kubectl exec) lines stay whole for grep.
    console = Console(highlight=False, soft_wrap=True)
    for result in results:
        verdict = result.verdict
        status = f"[{_STYLES[verdict.status]}]{verdict.status:<7}[/]"
        console.print(f"{status} {_escaped(f'{result.id}: {verdict.sentence}')}")
        if verdict.todo is not None:
            console.print(f"        To do: {_escaped(verdict.todo)}")
    counts = {status: sum(result.verdict.status is status for result in results) for status in Status}
    print(", ".join(f"{count} {status}" for status, count in counts.items()))  # noqa: T201 - this is the terminal


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


def _checked_address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise ConfigError(f"--address: expected an IP address, got {text!r}") from None


def _kept_gateway(environ: Mapping[str, str]) -> str | None:
    # What cannot be read is told where the token is looked for.
    with suppress(ExtprocError):
        kept = load(environ)
        return None if kept is None else kept.profile.gateway
    return None


async def _told(url: str, trust: Trust, seconds: float) -> str | None:
    """Return the authority that the gateway tells of; a check of its own says where it tells nothing."""
    tls = trusting(trust.in_use) if url.startswith("https:") else None
    with suppress(ExtprocError):
        async with client_session(tls) as session:
            return (await fetch_profile(session, url, timeout_seconds=seconds)).ca_pem
    return None


def _token(
    environ: Mapping[str, str], given: str | None, file: Path | None, at: proxy.Address | None
) -> tuple[Secret | None, str]:
    """Return the token to show, or why there is none: what is given, what `extproc token` finds, or the proxy's."""
    if given is not None:
        return checked_token(given, "--token"), ""
    try:
        return Secret(current_token(environ, token_file=file)), ""
    except ExtprocError as error:
        # A file that was named and cannot be read is an error of who named it.
        if file is not None:
            raise
        return (None, str(error)) if at is None or at.password is None else (at.password, "")


def _of_proxy(at: proxy.Address | None, trust: Trust, token: Secret | None, seconds: float) -> list[Check]:
    if at is None:
        return proxy.absent("No proxy is named (--proxy or HTTPS_PROXY).")
    return proxy.checks(
        proxy.Proxy(at.host, at.port, at.is_tls, trust.in_use, trust.authorities, at.password or token, seconds)
    )


def _of_gateway(url: str | None, trust: Trust, token: Secret | None, why: str, seconds: float) -> list[Check]:
    if url is None:
        return gateway.absent("No gateway is named (--gateway or EXTPROC_GATEWAY).")
    return gateway.checks(gateway.Gateway(url, trust.in_use, token, why, seconds, time.time))
