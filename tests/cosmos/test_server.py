"""The fake account refuses what Cosmos DB refuses, to the unmodified SDK, and keeps what it acknowledged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core import MatchConditions
from azure.cosmos import ContainerProxy, CosmosClient, PartitionKey
from azure.cosmos.exceptions import CosmosBatchOperationError, CosmosHttpResponseError

from tests.cosmos.fault import Fault
from tests.cosmos.running import running
from tests.cosmos.server import KEY, FakeCosmos


@pytest.fixture
def server() -> Iterator[FakeCosmos]:
    with running() as one:
        yield one


@pytest.fixture
def container(server: FakeCosmos) -> Iterator[ContainerProxy]:
    with CosmosClient(server.url, KEY) as client:
        yield client.get_database_client("extproc").get_container_client("recording")


def item(name: str, session: str = "s", **members: Any) -> dict[str, Any]:
    return {"id": name, "session": session, **members}


def test_an_item_comes_back_as_it_was_created(container: ContainerProxy) -> None:
    container.create_item(item("a", text="é\n日本\0", number=2**53, deep=[{"x": None}]))
    found = container.read_item("a", "s")
    assert (found["text"], found["number"], found["deep"]) == ("é\n日本\0", 2**53, [{"x": None}])
    assert found["_etag"]


def test_numbers_are_doubles(container: ContainerProxy) -> None:
    container.create_item(item("a", number=2**53 + 1))
    assert container.read_item("a", "s")["number"] == 2**53


def test_another_key_is_refused(server: FakeCosmos) -> None:
    with pytest.raises(CosmosHttpResponseError) as caught:
        CosmosClient(server.url, KEY[:-4] + "AAAA")
    assert caught.value.status_code == 401


@pytest.mark.parametrize(
    ("made", "status"),
    [
        (item("a" * 1024), 400),
        (item("a", session="é" * 1025), 400),
        (item("a", ttl=0), 400),
        (item("a", text="x" * 2_100_000), 413),
    ],
)
def test_items_that_the_service_does_not_take_are_refused(
    container: ContainerProxy, made: dict[str, Any], status: int
) -> None:
    with pytest.raises(CosmosHttpResponseError) as caught:
        container.create_item(made)
    assert caught.value.status_code == status


def test_a_batch_is_done_as_a_whole_or_not_at_all(container: ContainerProxy) -> None:
    container.create_item(item("b"))
    with pytest.raises(CosmosBatchOperationError) as caught:
        container.execute_item_batch([("create", (item(name),)) for name in "ab"], "s")
    assert (caught.value.status_code, caught.value.error_index) == (409, 1)
    with pytest.raises(CosmosHttpResponseError):
        container.read_item("a", "s")
    with pytest.raises(CosmosBatchOperationError):
        container.execute_item_batch([("create", (item("c", session="other"),))], "s")


def test_a_batch_has_a_hundred_operations_at_most(container: ContainerProxy) -> None:
    container.execute_item_batch([("create", (item(f"a{n}"),)) for n in range(100)], "s")
    with pytest.raises(CosmosHttpResponseError) as caught:
        container.execute_item_batch([("create", (item(f"b{n}"),)) for n in range(101)], "s")
    assert caught.value.status_code == 400


def test_a_condition_on_the_etag_is_checked(container: ContainerProxy) -> None:
    first = container.create_item(item("a"))
    container.replace_item("a", item("a", n=1))
    with pytest.raises(CosmosHttpResponseError) as caught:
        container.replace_item("a", item("a", n=2), etag=first["_etag"], match_condition=MatchConditions.IfNotModified)
    assert caught.value.status_code == 412


def test_items_expire_only_where_the_container_says_so() -> None:
    now = [1000.0]
    with running(now=lambda: now[0]) as server, CosmosClient(server.url, KEY) as client:
        database = client.get_database_client("extproc")
        never = database.create_container("never", PartitionKey("/session"))
        for container in (database.get_container_client("recording"), never):
            container.create_item(item("short", ttl=10))
            container.create_item(item("long"))
        now[0] += 11
        left = [[one["id"] for one in c.query_items("SELECT * FROM c", partition_key="s")] for c in (never, container)]
        assert left[0] == ["short", "long"]
        recording = database.get_container_client("recording")
        assert [one["id"] for one in recording.query_items("SELECT * FROM c", partition_key="s")] == ["long"]
        recording.create_item(item("short"))


def test_pages_are_followed_and_partitions_joined_in_order(server: FakeCosmos, container: ContainerProxy) -> None:
    for n in range(25):
        container.create_item(item(f"i{n}", session=f"s{n % 5}", index=n))
    server.page_items = 3
    text = 'SELECT c["index"] FROM c WHERE c["index"] >= @start ORDER BY c["index"]'
    parameters: list[dict[str, object]] = [{"name": "@start", "value": 5}]
    found = container.query_items(text, parameters=parameters, enable_cross_partition_query=True)
    assert [row["index"] for row in found] == list(range(5, 25))
    assert server.requests["plan"] == 1


def test_an_order_by_what_is_not_indexed_is_refused(container: ContainerProxy) -> None:
    with pytest.raises(CosmosHttpResponseError) as caught:
        list(container.query_items('SELECT * FROM c ORDER BY c["hash"]', partition_key="s"))
    assert caught.value.status_code == 400


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    found = []
    for round_number in range(2):
        command = [sys.executable, "-m", "tests.cosmos", str(tmp_path / "file"), "0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - this interpreter
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            with CosmosClient(url, KEY) as client:
                container = client.get_database_client("extproc").get_container_client("recording")
                container.create_item(item(f"a{round_number}"))
                found = list(container.query_items("SELECT * FROM c", partition_key="s"))
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
    assert [one["id"] for one in found] == ["a0", "a1"]


def test_a_fault_spoils_as_many_requests_as_it_says(server: FakeCosmos, container: ContainerProxy) -> None:
    server.faults.append(Fault("Create", status=449, commit=True))
    with pytest.raises(CosmosHttpResponseError) as caught:
        container.create_item(item("a"))
    assert caught.value.status_code == 449
    assert container.read_item("a", "s")["id"] == "a"
    container.create_item(item("b"))
