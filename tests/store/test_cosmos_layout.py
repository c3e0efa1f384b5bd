from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from extproc.store.cosmos_layout import APPROVALS, INDEXING_POLICY, RECORD, ROLES, az_commands, drift

FOLDER = Path(__file__).parents[2] / "k8s" / "azure"

GOOD: dict[str, Any] = {
    "partitionKey": {"paths": ["/session"], "kind": "Hash", "version": 2},
    "defaultTtl": -1,
    # As the service gives it back.
    "indexingPolicy": {**INDEXING_POLICY, "excludedPaths": [{"path": "/*"}, {"path": '/"_etag"/?'}]},
}


@pytest.mark.parametrize("role", ROLES)
def test_the_files_of_the_roles_are_the_roles(role: str) -> None:
    assert json.loads((FOLDER / f"cosmos-{role}-role.json").read_text()) == ROLES[role]


def test_only_the_eraser_may_change_anything_and_nobody_may_do_everything() -> None:
    actions = {
        name: {one.rpartition("/")[2] for one in role["Permissions"][0]["DataActions"]} for name, role in ROLES.items()
    }
    assert actions["writer"] == {"readMetadata", "create", "read"}
    assert not actions["reader"] & {"create", "replace", "upsert", "delete"}
    assert actions["eraser"] >= {"replace", "delete"}
    assert not actions["eraser"] & {"create", "upsert"}
    assert "create" in actions["approvals"]
    assert not actions["approvals"] & {"replace", "upsert", "delete"}
    assert "*" not in str(actions)


def test_a_container_as_it_should_be_has_no_drift() -> None:
    assert drift(GOOD) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"partitionKey": {"paths": ["/id"]}}, "partition key is ['/id']"),
        ({"defaultTtl": None}, "time to live is None"),
        ({"defaultTtl": 3600}, "time to live is 3600"),
        (
            {"indexingPolicy": {**INDEXING_POLICY, "includedPaths": INDEXING_POLICY["includedPaths"][1:]}},
            "/type/? is not",
        ),
        ({"indexingPolicy": {**INDEXING_POLICY, "excludedPaths": []}}, "/* is not excluded"),
        ({"indexingPolicy": {"includedPaths": [{"path": "/*"}], "excludedPaths": []}}, "/* is indexed"),
    ],
)
def test_each_drift_is_said(change: dict[str, Any], said: str) -> None:
    assert any(said in one for one in drift({**GOOD, **change}))


def test_the_commands_say_what_the_files_and_the_policy_say() -> None:
    commands = [shlex.split(one) for one in az_commands("account", "group", "extproc", ("recording", "approvals"))]
    assert [" ".join(one[:5]) for one in commands][:3] == [
        "az cosmosdb sql database create",
        "az cosmosdb sql container create",
        "az cosmosdb sql container create",
    ]
    for container, layout in ((commands[1], RECORD), (commands[2], APPROVALS)):
        assert json.loads(container[container.index("--idx") + 1]) == layout.indexing_policy
        assert container[container.index("--partition-key-path") + 1] == layout.partition_key
    bodies = [json.loads(one[one.index("--body") + 1]) for one in commands if "--body" in one]
    assert bodies == list(ROLES.values())
    scopes = [one[one.index("--scope") + 1] for one in commands if "--scope" in one]
    assert scopes == ["/dbs/extproc/colls/recording", "/dbs/extproc/colls/approvals"]
