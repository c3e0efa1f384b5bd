"""Pods come and go under load: nothing that was answered is missing in the record, and a rollout is not noticed."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Self

import pytest

from tests.pods import gateway, image, workload
from tests.pods.kubelet import Pod
from tests.pods.load import EVENTS
from tests.pods.workload import GATEWAY, Running

pytestmark = pytest.mark.asyncio(loop_scope="session")

LOAD_SECONDS_AROUND = 3
STOP = "/tmp/stop"  # noqa: S108 - in the pod


class Load:
    """`load.py` in a team's pod, for as long as it lasts."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self.exchanges: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        app, token = self._running.app, gateway.token(self._running.cluster)
        command = [image.PYTHON, "-m", "tests.pods.load", f"https://{GATEWAY}", token, STOP]
        code, output = await app.execute("app", ["/bin/rm", "-f", STOP])
        assert code == 0, output
        self._task = asyncio.create_task(app.execute("app", command, PYTHONPATH=image.SOURCES))
        await asyncio.sleep(LOAD_SECONDS_AROUND)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(LOAD_SECONDS_AROUND)
        code, output = await self._running.app.execute("app", ["/bin/touch", STOP])
        assert code == 0, output
        code, output = await asyncio.wait_for(self._task, 60)
        assert code == 0, output
        self.exchanges = [json.loads(line) for line in output.splitlines()]


async def all_recorded(pods: list[Pod], ids: set[str]) -> dict[str, dict[str, Any]]:
    """Return the documents of all pods by id as soon as these are there: a moment after the client saw their end."""
    async with asyncio.timeout(20):
        while True:
            documents = [one for pod in pods for one in await workload.recorded(pod)]
            found = {one["id"]: one for one in documents}
            assert len(found) == len(documents)
            if ids <= found.keys():
                return found


def volumes(pods: list[Pod]) -> dict[str, int]:
    """Return a file on each pod's volume that is never made again."""
    return {pod.name: (pod.disk("state") / "record.db").stat().st_ino for pod in pods}


async def test_a_rolling_restart_cuts_no_stream_and_fails_no_request(running: Running) -> None:
    before = volumes(running.gateways())
    async with Load(running) as load:
        ended = await running.cluster.restart()
    assert [pod.name for pod in ended] == ["gateway-1", "gateway-0"]

    failed = [one for one in load.exchanges if one["error"] or not one["done"]]
    assert failed == []
    streams = [one for one in load.exchanges if one["stream"]]
    assert {one["events"] for one in streams} == {EVENTS}
    # It was a load: of all kinds, before, during and after each of the restarts.
    kinds = {(one["question"].split()[-2], one["stream"], one["version"]) for one in load.exchanges}
    assert len(kinds) == 6, kinds
    assert len(streams) >= 20

    record = await all_recorded(running.gateways(), {one["id"] for one in load.exchanges})
    assert {record[one["id"]]["outcome"] for one in load.exchanges} == {"completed"}
    assert volumes(running.gateways()) == before


async def test_what_a_pod_had_answered_is_in_the_record_after_it_was_killed(running: Running) -> None:
    async with Load(running) as load:
        killed = running.gateways()[1]
        await killed.crash()
        await running.cluster.remove(killed)
        again = running.cluster.prepare_gateway(1)
        await again.start()
        await again.ready()

    answered = [one for one in load.exchanges if one["id"] is not None]
    record = await all_recorded(running.gateways(), {one["id"] for one in answered})
    # The kill was felt, or nothing was tested.
    outcomes = {record[one["id"]]["outcome"] for one in answered if one["error"]}
    # The end of an answer is recorded before the client gets it.
    assert "interrupted" in outcomes <= {"interrupted", "completed"}
    for one in answered:
        assert record[one["id"]]["request"]["messages"][-1]["content"] == one["question"]
        if one["events"]:
            said = record[one["id"]]["response"]["text"]
            assert said.count("word" if one["stream"] else "answer to") >= one["events"]
