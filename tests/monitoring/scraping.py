"""A real Prometheus that scrapes a gateway, as docs/monitoring.md says."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from extproc.dev.files import Ports
from tests.e2e.gateway import free_ports
from tests.monitoring.queries import ALERTS, ROOT

_SECONDS = 20


def configuration(ports: Ports) -> dict[str, Any]:
    """Return the guide's configuration for `make run`, with other ports, and faster."""
    guide = (ROOT / "docs" / "monitoring.md").read_text()
    (block,) = re.findall(r"```yaml\n(global:.*?)```", guide, re.DOTALL)
    moved = block.replace(f":{Ports().ops}", f":{ports.ops}").replace(f":{Ports().admin}", f":{ports.admin}")
    config: dict[str, Any] = yaml.safe_load(moved)
    config["global"] = dict.fromkeys(config["global"], "1s")
    config["rule_files"] = [str(ROOT / name) for name in config["rule_files"]]
    assert config["rule_files"] == [str(ALERTS)]
    return config


@dataclass(frozen=True)
class Prometheus:
    """Ask it."""

    url: str
    session: aiohttp.ClientSession

    async def get(self, path: str, **parameters: Any) -> Any:
        async with self.session.get(f"{self.url}/api/v1/{path}", params=parameters) as response:
            answer = await response.json()
        assert answer["status"] == "success", f"{parameters}: {answer}"
        return answer["data"]

    async def scraped(self, *jobs: str) -> bool:
        """Say whether each of these jobs was scraped."""
        result = (await self.get("query", query="up == 1"))["result"]
        return {one["metric"]["job"] for one in result} == set(jobs)

    async def scraped_since(self, at: float) -> bool:
        """Say whether each job was scraped after a time."""
        result = (await self.get("query", query="timestamp(up)"))["result"]
        return all(float(one["value"][1]) > at for one in result)

    async def series(self, query: str, start: float, end: float) -> list[dict[str, Any]]:
        """Return the series of a query over a time."""
        data = await self.get("query_range", query=query, start=start, end=end, step=1)
        found: list[dict[str, Any]] = data["result"]
        return found


@asynccontextmanager
async def scraping(folder: Path, ports: Ports, session: aiohttp.ClientSession) -> AsyncIterator[Prometheus]:
    """Run Prometheus on a free port, with its data in `folder`, until each job was scraped once."""
    file, (port,) = folder / "prometheus.yml", free_ports(1)
    file.write_text(yaml.safe_dump(configuration(ports)))
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn", stdout=log, stderr=log,
        )  # fmt: skip
    one = Prometheus(f"http://127.0.0.1:{port}", session)
    try:
        await eventually(lambda: _answers(one), "the first scrape of each job")
        yield one
    finally:
        process.terminate()
        await process.wait()


async def eventually(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait for what happens in other processes."""
    deadline = time.monotonic() + _SECONDS
    while not await condition():
        assert time.monotonic() < deadline, f"{what}: not in {_SECONDS} s"
        await asyncio.sleep(0.1)


async def _answers(one: Prometheus) -> bool:
    try:
        return await one.scraped("extproc", "envoy")
    except (aiohttp.ClientError, AssertionError):
        return False
