"""`extproc policy`: check, explain and describe the policy file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from extproc import policy_file
from extproc.approval.touch import Act
from extproc.commands import explain_policy
from extproc.commands.options import DEFAULT_STATE, JsonOption, StateOption, print_json
from extproc.endpoint import EndpointKind, Upstream
from extproc.errors import ConfigError
from extproc.identity.principal import Principal
from extproc.masking import detector
from extproc.policy import Facts

app = typer.Typer(help="Check and explain the policy file.", no_args_is_help=True)


@app.command()
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


@app.command()
def schema() -> None:
    """Print the JSON Schema of the policy file, for editors."""
    print(json.dumps(policy_file.schema(), indent=2))  # noqa: T201


@app.command()
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
