"""The command line: the composition root, the only place that reads the environment."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from extproc import config as config_file
from extproc import logs, policy_file
from extproc.approval.touch import Act
from extproc.commands import (
    approvals,
    console,
    explain_policy,
    export,
    feed,
    findings,
    receipt,
    retention,
    sessions,
    store,
    trace,
    verify,
)
from extproc.commands.options import (
    DEFAULT_STATE,
    JsonOption,
    StateOption,
    print_json,
)
from extproc.endpoint import EndpointKind, Upstream
from extproc.errors import ConfigError, ExtprocError
from extproc.identity.principal import Principal
from extproc.masking import detector
from extproc.policy import Facts
from extproc.serve import serve as run_service

app = typer.Typer(
    help="Access control around GitHub Copilot traffic.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
policy = typer.Typer(help="Check and explain the policy file.", no_args_is_help=True)
dev = typer.Typer(help="The development gateway.", no_args_is_help=True)
app.add_typer(policy, name="policy")
app.add_typer(sessions.app, name="sessions")
app.command("replay")(sessions.replay_session)
app.add_typer(findings.app, name="findings")
app.add_typer(approvals.app, name="approvals")
app.add_typer(dev, name="dev")
app.command("trace")(trace.trace)
app.command("verify")(verify.verify)
app.command("receipt")(receipt.receipt)
app.command("export")(export.export)
app.command("feed")(feed.feed)
app.add_typer(retention.app, name="retention")
app.add_typer(store.app, name="store")
app.command("console")(console.console)


def main() -> None:
    """Run a command; errors of ours are one readable message and an exit code: 1 failed, 2 usage or configuration."""
    try:
        app()
    except ConfigError as error:
        print(f"extproc: {error}", file=sys.stderr)  # noqa: T201 - this is the terminal
        sys.exit(2)
    except ExtprocError as error:
        print(f"extproc: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except PermissionError as error:
        # The state directory is the service's alone: whoever runs a command as somebody else gets here first of all.
        if error.filename is None:
            raise
        print(f"extproc: {error.filename}: {error.strerror}; run it as the service's user", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


@app.command()
def serve(
    config: Annotated[Path, typer.Option(help="The settings file.")] = Path("gateway.yaml"),
) -> None:
    """Run the ext_proc service."""
    settings = config_file.load(config)
    logs.configure()
    uvloop.run(run_service(settings, os.environ))


# --- policy ----------------------------------------------------------------------------------------------------------


@policy.command()
def check(file: Path, *, as_json: JsonOption = False) -> None:
    """Check a policy file: exit 0 when it is good, 2 with every fault and its line when not."""
    loaded = policy_file.load(file)
    for one in loaded.masking.sets:
        if one.file is not None:
            detector.check_file(one.file)
    warnings = policy_file.warnings(file)
    rule_sets = [one.name for one in loaded.masking.in_use()]
    if as_json:
        counts = {"rules": len(loaded.rules), "protections": len(loaded.protections)}
        print_json({"file": str(file), **counts, "rule_sets": rule_sets, "digest": loaded.digest, "warnings": warnings})
        return
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)  # noqa: T201
    masking = f"{len(rule_sets)} ({', '.join(rule_sets)})" if rule_sets else "0, so nothing is masked"
    told = f"{len(loaded.rules)} rules, default deny; {len(loaded.protections)} protections"
    print(f"{file}: {told}; rule sets for masking: {masking}")  # noqa: T201


@policy.command()
def schema() -> None:
    """Print the JSON Schema of the policy file, for editors."""
    print(json.dumps(policy_file.schema(), indent=2))  # noqa: T201


@policy.command()
def explain(  # noqa: PLR0917 - one option per fact, passed by name
    user: Annotated[str, typer.Option("--as", help="The principal's name or id.")],
    groups: Annotated[str, typer.Option(help="Comma-separated groups.")] = "",
    roles: Annotated[str, typer.Option(help="Comma-separated roles of the token.")] = "",
    model: Annotated[str | None, typer.Option(help="The model asked for.")] = None,
    endpoint: Annotated[EndpointKind, typer.Option(help="The kind of endpoint.")] = EndpointKind.CHAT,
    upstream: Annotated[Upstream, typer.Option(help="The upstream.")] = Upstream.COPILOT_API,
    method: str = "POST",
    host: str = "api.githubcopilot.com",
    path: Annotated[
        str | None, typer.Option(help="The request's path; with --tool or --act the file that is touched.")
    ] = None,
    tool: Annotated[str | None, typer.Option(help="Explain what this tool would do, in place of a request.")] = None,
    act: Annotated[Act | None, typer.Option(help="Explain this act; by default the one of --tool.")] = None,
    branch: Annotated[str | None, typer.Option(help="The branch of the act.")] = None,
    repository: Annotated[str | None, typer.Option(help="OWNER/NAME.")] = None,
    kind: Annotated[str, typer.Option(help="person or workload.")] = "person",
    issuer: Annotated[str, typer.Option(help="The token's issuer.")] = "",
    claim: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, may be repeated.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="The policy file; by default the one of the state directory.")
    ] = None,
    state: StateOption = DEFAULT_STATE,
    as_json: JsonOption = False,  # noqa: FBT002 - a command-line flag
) -> None:
    """Say which rule decides about a request or an act, and why the ones before it did not."""
    claims = dict(_pair(text) for text in claim or [])
    if kind not in {"person", "workload"}:
        raise ConfigError(f"--kind: expected person or workload, got {kind!r}")
    principal = Principal(
        id=user,
        name=user,
        kind="person" if kind == "person" else "workload",
        issuer=issuer,
        subject=user,
        groups=_names(groups),
        roles=_names(roles),
        claims=claims,
    )
    is_touch = tool is not None or act is not None
    if branch is not None and not is_touch:
        raise ConfigError("--branch: expected --tool or --act with it")
    target = "/chat/completions" if is_touch or path is None else path
    facts = Facts(endpoint, upstream, method, host, target, model, repository)
    loaded = policy_file.load(file or state / "policy.yaml")
    if is_touch:
        touch = explain_policy.touch_of(tool, act, path, repository, branch)
        answer = explain_policy.of_touch(loaded, principal, facts, touch)
    else:
        answer = explain_policy.of_request(loaded, principal, facts)
    if as_json:
        print_json(answer)
    else:
        explain_policy.show(answer, Console(highlight=False, markup=False))


def _names(listing: str) -> frozenset[str]:
    return frozenset(name for name in listing.split(",") if name)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--claim: expected NAME=VALUE, got {text!r}")
    return name, value


# --- development -----------------------------------------------------------------------------------------------------
# Imported where they are used: production never loads what is under extproc/dev.


@dev.command("up")
def dev_up(
    upstream: Annotated[str | None, typer.Option(help="http://HOST:PORT in place of the demo upstream.")] = None,
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Run everything on this machine, in the foreground, until Ctrl-C."""
    from extproc.dev import files, runner  # noqa: PLC0415

    with _interruptible():
        asyncio.run(runner.run(state.resolve(), files.Ports(), upstream or None, lambda line: print(line, flush=True)))  # noqa: T201


@dev.command("token")
def dev_token(
    user: Annotated[str, typer.Option(help="A demo user, or any name together with --groups.")],
    groups: Annotated[
        str | None, typer.Option("--groups", "--group", help="Comma-separated; by default the demo user's.")
    ] = None,
    minutes: Annotated[int, typer.Option(min=1, help="How long the token is valid.")] = 60,
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Print a token of the development issuer."""
    from extproc.dev import keys, users  # noqa: PLC0415

    if groups is None and user not in users.DEMO_USERS:
        raise ConfigError(f"--user: {user!r} is none of {', '.join(users.DEMO_USERS)}; name its groups with --groups")
    names = users.DEMO_USERS.get(user, ()) if groups is None else tuple(name for name in groups.split(",") if name)
    token = keys.token_for(state, user, names, now=time.time(), lifetime_seconds=minutes * 60)
    print(token)  # noqa: T201


@dev.command("demo")
def dev_demo(state: StateOption = DEFAULT_STATE) -> None:
    """Walk through the running development gateway."""
    from extproc.dev import demo  # noqa: PLC0415

    demo.run(state, Console(highlight=False))


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
