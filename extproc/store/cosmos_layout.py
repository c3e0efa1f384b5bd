"""What a container for recording looks like in Azure Cosmos DB, and who may do what with it, as data. Pure.

**Partition key.** One level, `/session`: what is put, read and erased together is in one partition, batches are atomic
there, and sessions are many and short, so writes spread. A hierarchical key (tenant, session) would serve deployments
with thousands of tenants that are read one by one: here a tenant has its own container, with its own rights. A session
is bounded by the 20 GB of a logical partition, which is some 100,000 long turns.

**Indexes.** Everything is excluded but what the queries of ledger and archive name: bodies would make every write
several times as expensive. `lines` is the index of `trace`: one term per proposed line.

**Time to live.** On without a default (-1), so that nothing ever expires by itself: what is removed is removed by
`extproc retention`, which records it first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

PARTITION_KEY: Final = "/session"
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
}
"""Role definitions as `az cosmosdb sql role definition create --body` takes them; k8s/azure has them as files."""


def drift(properties: Mapping[str, Any]) -> list[str]:
    """Return in words where a container, as the service describes it, is not as it should be."""
    found = []
    if (paths := properties.get("partitionKey", {}).get("paths")) != [PARTITION_KEY]:
        found.append(f"its partition key is {paths}, not {PARTITION_KEY}, and can never be changed: use another one")
    if (ttl := properties.get("defaultTtl")) != DEFAULT_TTL:
        found.append(f"its default time to live is {ttl}, not {DEFAULT_TTL}: entries may expire by themselves")
    policy = properties.get("indexingPolicy") or {}
    there, wanted = _paths(policy, "includedPaths"), _paths(INDEXING_POLICY, "includedPaths")
    found += [f"{path} is not indexed: searches read everything" for path in sorted(wanted - there)]
    found += [f"{path} is indexed, which makes writes more expensive" for path in sorted(there - wanted)]
    if "/*" not in _paths(policy, "excludedPaths") and "/*" not in there:
        found.append("/* is not excluded from indexing, which makes writes more expensive")
    return found


def az_commands(account: str, group: str, database: str, container: str, principal: str = "PRINCIPAL_ID") -> list[str]:
    """Return the commands that provision the container and give the service its role.

    With Microsoft Entra ID, data-plane rights never allow to make containers: somebody with rights on the account runs
    these. `principal` is the object id of the workload's managed identity.
    """
    where = f"--account-name {account} --resource-group {group}"
    layout = f"--partition-key-path {PARTITION_KEY} --ttl {DEFAULT_TTL} --idx '{json.dumps(INDEXING_POLICY)}'"
    who = f"--role-definition-name '{ROLES['writer']['RoleName']}' --principal-id {principal}"
    return [
        f"az cosmosdb sql database create {where} --name {database}",
        f"az cosmosdb sql container create {where} --database-name {database} --name {container} {layout}",
        *(f"az cosmosdb sql role definition create {where} --body '{json.dumps(role)}'" for role in ROLES.values()),
        f"az cosmosdb sql role assignment create {where} {who} --scope /dbs/{database}/colls/{container}",
    ]


def _paths(policy: Mapping[str, Any], which: str) -> set[str]:
    # The service adds this one by itself.
    return {one["path"] for one in policy.get(which) or ()} - {'/"_etag"/?'}
