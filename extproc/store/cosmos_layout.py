"""What a container for recording looks like in Azure Cosmos DB, and who may do what with it, as data. Pure.

**Partition key.** One level, `/session`: what is put, read and erased together is in one partition, batches are atomic
there, and sessions are many and short, so writes spread. A hierarchical key (tenant, session) would serve deployments
with thousands of tenants that are read one by one: here a tenant has its own container, with its own rights. A session
is bounded by the 20 GB of a logical partition, which is some 100,000 long turns.

**Indexes.** Everything is excluded but what the queries of ledger and archive name: bodies would make every write
several times as expensive. `lines` is the index of `trace`: one term per proposed line.

**Time to live.** On without a default (-1), so that nothing ever expires by itself: what is removed is removed by
`extproc retention`, which records it first.

**Approvals** have a container of their own, by `/approval`: the events of an approval are in one partition, where an id
is used once, so a create is a compare-and-swap. Indexed is what its lists and grants ask for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

PARTITION_KEY: Final = "/session"
APPROVALS_PARTITION_KEY: Final = "/approval"
DEFAULT_TTL: Final = -1

_PLAIN: Final = ["type", "log", "index", "kind", "entry", "at"]
_FACTS: Final = ["user", "principal", "model", "outcome", "repository", "groups/[]", "paths/[]"]
_FINDINGS: Final = ["rule", "fingerprint"]

INDEXING_POLICY: Final[dict[str, Any]] = {
    "indexingMode": "consistent",
    "automatic": True,
    "includedPaths": [
        *({"path": f"/{name}/?"} for name in [*_PLAIN, "session", "lines/[]"]),
        *({"path": f"/facts/{name}/?"} for name in _FACTS),
        *({"path": f"/facts/findings/[]/{name}/?"} for name in _FINDINGS),
    ],
    "excludedPaths": [{"path": "/*"}],
}

_OF_APPROVALS: Final = [
    *("approval", "kind", "at", "ended", "scope", "slot"),
    *("requester", "user", "rule", "session", "requested_at", "expires_at"),
]
APPROVALS_INDEXING_POLICY: Final[dict[str, Any]] = {
    "indexingMode": "consistent",
    "automatic": True,
    "includedPaths": [{"path": f"/{name}/?"} for name in [*_OF_APPROVALS, "approvers/[]"]],
    "excludedPaths": [{"path": "/*"}],
}

_ACCOUNT: Final = "Microsoft.DocumentDB/databaseAccounts"
_CONTAINER: Final = f"{_ACCOUNT}/sqlDatabases/containers"
_WRITES: Final = [f"{_ACCOUNT}/readMetadata", f"{_CONTAINER}/items/create", f"{_CONTAINER}/items/read"]
# The SDK's queries need the last two both ("Configure role-based access control", permission model).
_READS: Final = [
    *(f"{_ACCOUNT}/readMetadata", f"{_CONTAINER}/items/read"),
    *(f"{_CONTAINER}/executeQuery", f"{_CONTAINER}/readChangeFeed"),
]


def _role(name: str, actions: list[str]) -> dict[str, Any]:
    return {
        "RoleName": name,
        "Type": "CustomRole",
        "AssignableScopes": ["/"],
        "Permissions": [{"DataActions": actions}],
    }


ROLES: Final = {
    "writer": _role("copilot-extproc writer", _WRITES),
    "reader": _role("copilot-extproc reader", _READS),
    "eraser": _role("copilot-extproc eraser", [*_READS, f"{_CONTAINER}/items/replace", f"{_CONTAINER}/items/delete"]),
    "approvals": _role("copilot-extproc approvals", [*_READS, f"{_CONTAINER}/items/create"]),
}
"""Role definitions as `az cosmosdb sql role definition create --body` takes them; k8s/azure has them as files."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a container looks like."""

    partition_key: str
    indexing_policy: Mapping[str, Any]


RECORD: Final = Layout(PARTITION_KEY, INDEXING_POLICY)
APPROVALS: Final = Layout(APPROVALS_PARTITION_KEY, APPROVALS_INDEXING_POLICY)


def drift(properties: Mapping[str, Any], layout: Layout = RECORD) -> list[str]:
    """Return in words where a container, as the service describes it, is not as it should be."""
    found = []
    key = layout.partition_key
    if (paths := properties.get("partitionKey", {}).get("paths")) != [key]:
        found.append(f"its partition key is {paths}, not {key}, and can never be changed: use another one")
    if (ttl := properties.get("defaultTtl")) != DEFAULT_TTL:
        found.append(f"its default time to live is {ttl}, not {DEFAULT_TTL}: entries may expire by themselves")
    policy = properties.get("indexingPolicy") or {}
    there, wanted = _paths(policy, "includedPaths"), _paths(layout.indexing_policy, "includedPaths")
    found += [f"{path} is not indexed: searches read everything" for path in sorted(wanted - there)]
    found += [f"{path} is indexed, which makes writes more expensive" for path in sorted(there - wanted)]
    if "/*" not in _paths(policy, "excludedPaths") and "/*" not in there:
        found.append("/* is not excluded from indexing, which makes writes more expensive")
    return found


@dataclass(frozen=True, slots=True)
class Identities:
    """The object ids of the managed identities that get roles; the console's only where there is a console apart."""

    service: str = "PRINCIPAL_ID"
    console: str | None = None


def az_commands(
    account: str, group: str, database: str, containers: tuple[str, str], identities: Identities = Identities()
) -> list[str]:
    """Return the commands that provision the containers and give service and console their roles.

    With Microsoft Entra ID, data-plane rights never allow to make containers: somebody with rights on the account runs
    these. `containers` are those of the record and of approvals.
    """
    where = f"--account-name {account} --resource-group {group}"
    record, approvals = containers

    def container(name: str, layout: Layout) -> str:
        looks = f"--partition-key-path {layout.partition_key} --ttl {DEFAULT_TTL}"
        index = f"--idx '{json.dumps(layout.indexing_policy)}'"
        return f"az cosmosdb sql container create {where} --database-name {database} --name {name} {looks} {index}"

    def assignment(role: str, principal: str, name: str) -> str:
        who = f"--role-definition-name '{ROLES[role]['RoleName']}' --principal-id {principal}"
        return f"az cosmosdb sql role assignment create {where} {who} --scope /dbs/{database}/colls/{name}"

    given = [("writer", identities.service, record), ("approvals", identities.service, approvals)]
    if identities.console is not None:
        # It reads the record, and writes entries of who read what.
        given += [(role, identities.console, record) for role in ("reader", "writer")]
        given.append(("approvals", identities.console, approvals))
    return [
        f"az cosmosdb sql database create {where} --name {database}",
        container(record, RECORD),
        container(approvals, APPROVALS),
        *(f"az cosmosdb sql role definition create {where} --body '{json.dumps(role)}'" for role in ROLES.values()),
        *(assignment(*one) for one in given),
    ]


def _paths(policy: Mapping[str, Any], which: str) -> set[str]:
    # The service adds this one by itself.
    return {one["path"] for one in policy.get(which) or ()} - {'/"_etag"/?'}
