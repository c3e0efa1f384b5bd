"""`extproc doctor` agrees with what the other tests found by trying."""

from __future__ import annotations

import json

import pytest

from tests.e2e.gateway import until
from tests.pods import gateway
from tests.pods.cluster import GITHUB
from tests.pods.test_modes import opened
from tests.pods.workload import GATEWAY, Running

pytestmark = pytest.mark.asyncio(loop_scope="session")

DOCTOR = ["/opt/extproc/bin/extproc", "doctor", "--json"]


async def of_workload(running: Running) -> tuple[int, dict[str, str]]:
    """Return the exit code, and what was found by check."""
    command = [*DOCTOR, "--gateway", f"https://{GATEWAY}", "--proxy", f"https://{GATEWAY}:3129", "--address", GITHUB,
               "--ca-file", "/etc/trust/gateway.pem"]  # fmt: skip
    environ = {"EXTPROC_TOKEN": gateway.token(running.cluster), "HOME": "/tmp"}  # noqa: S108 - in the pod
    return read(*await running.app.execute("app", command, **environ))


def read(code: int, output: str) -> tuple[int, dict[str, str]]:
    assert output.startswith("{"), output
    results = [json.loads(line) for line in output.splitlines()]
    return code, {one["id"]: f"{one['status']}: {one['sentence']}" for one in results}


def failed(found: dict[str, str]) -> dict[str, str]:
    return {name: told for name, told in found.items() if told.startswith("failed")}


async def test_doctor_finds_no_way_around_from_a_workload(running: Running) -> None:
    code, found = await of_workload(running)
    assert (code, failed(found)) == (0, {})
    assert not [told for told in found.values() if told.startswith("skipped")], found


async def test_doctor_finds_a_way_that_is_opened_on_purpose(running: Running) -> None:
    with opened(running.cluster, f"ip saddr {running.app.host.address} ip daddr {GITHUB} accept"):
        code, found = await of_workload(running)
    assert code == 1
    assert set(failed(found)) == {"way-around.github.com", f"way-around.{GITHUB}"}


async def test_doctor_finds_the_gateway_s_own_pod_in_order(running: Running) -> None:
    pod = running.gateways()[0]
    # A pod is ready with its first worker.
    await until((pod.disk("run") / "1.sock").exists, "the second worker")
    command = [*DOCTOR, "--config", "/etc/extproc/gateway.yaml"]
    code, found = read(*await pod.execute("extproc", command))
    assert (code, failed(found)) == (0, {})
