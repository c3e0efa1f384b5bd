from __future__ import annotations

from collections.abc import Iterator

import pytest

from extproc.errors import ConfigError, StoreUnavailable
from extproc.secret import Secret
from extproc.store.cosmos import CosmosSettings
from extproc.store.cosmos_layout import APPROVALS, RECORD
from extproc.store.cosmos_provision import provision
from tests.cosmos.running import running, settings
from tests.cosmos.server import FakeCosmos


@pytest.fixture
def server() -> Iterator[FakeCosmos]:
    with running(empty=True) as one:
        yield one


def test_database_and_container_are_made_once(server: FakeCosmos) -> None:
    assert provision(settings(server)) == []
    made = server.account.containers["dbs/extproc/colls/recording"].definition
    assert (made["partitionKey"]["paths"], made["defaultTtl"]) == (["/session"], -1)
    assert provision(settings(server), max_throughput=1000) == []
    assert list(server.account.containers) == ["dbs/extproc/colls/recording"]


def test_what_is_there_is_not_changed_but_its_drift_is_said(server: FakeCosmos) -> None:
    provision(settings(server))
    definition = server.account.containers["dbs/extproc/colls/recording"].definition
    definition["defaultTtl"] = 60
    (said,) = provision(settings(server))
    assert "60" in said
    assert definition["defaultTtl"] == 60


def test_an_identity_cannot_provision() -> None:
    with pytest.raises(ConfigError, match="key"):
        provision(CosmosSettings("https://account.example"))


def test_a_wrong_key_is_said(server: FakeCosmos) -> None:
    with pytest.raises(StoreUnavailable, match="401"):
        provision(settings(server, key=Secret("d3Jvbmc=")))


def test_the_container_of_approvals_has_a_layout_of_its_own(server: FakeCosmos) -> None:
    where = settings(server, container="approvals")
    assert provision(where, APPROVALS) == []
    made = server.account.containers["dbs/extproc/colls/approvals"].definition
    assert (made["partitionKey"]["paths"], made["defaultTtl"]) == (["/approval"], -1)
    assert any("partition key" in one for one in provision(where, RECORD))
