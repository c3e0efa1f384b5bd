"""A real Prometheus scrapes the real gateway while clients use it: every panel has data, and no alert fires."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
import yaml

from extproc.dev import upstream, web
from tests.e2e import tunnels
from tests.e2e.gateway import Gateway
from tests.e2e.upstream import Call
from tests.monitoring.queries import Query, alerts, dashboards, panel_queries, variable_queries
from tests.monitoring.scraping import Prometheus, eventually, scraping
from tests.monitoring.traffic import Clients
from tests.needing import not_tested

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

ROUNDS = 2
"""A counter that Prometheus sees for the first time has not grown yet."""

COPILOT_TOKEN = "tid=1;exp=9:made-up"

# What Grafana puts in. The window holds several scrapes.
VARIABLES = {"$__rate_interval": "60s", "$__range": "60s", "$instance": ".*", "$model": ".*"}

# Panels that show 0 where all is well; all others must show something else.
AT_REST = {
    "overview: Failed",
    "security: Refreshes",
    "recording: Oldest entry",
    "recording: Age of the oldest entry",
    "recording: Alarms",
    "recording: Not recorded",
    "recording: Witnesses behind",
    "recording: Conflicts and contradictions",
    "recording: Left by dead processes",
    "envoy: Failure mode allowed",
    "envoy: Streams failed",
    "envoy: Message timeouts",
    "envoy: Failures of upstreams",
    "envoy: Pressure",
}
PANELS = [
    pytest.param(name, panel, id=f"{name}-{panel['title']}")
    for name, board in dashboards().items()
    for panel in board["panels"]
]


@dataclass(frozen=True)
class Observed:
    prometheus: Prometheus
    start: float
    end: float

    async def ask(self, query: Query) -> list[dict[str, Any]]:
        expression = query.expression
        for variable, value in VARIABLES.items():
            expression = expression.replace(variable, value)
        assert "$" not in expression.replace('"$1"', "")
        return await self.prometheus.series(expression, self.start, self.end)


def needed() -> None:
    if shutil.which("prometheus") is None:
        not_tested("prometheus is not installed (Debian: prometheus): no dashboard was seen with data")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def observed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Observed]:
    needed()
    gateway = Gateway()
    async with tunnels.Far().listening() as far:
        demo = await _prepared(gateway, far.port)
        try:
            await gateway.start()
            async with scraping(tmp_path_factory.mktemp("prometheus"), gateway.ports, gateway.session) as prometheus:
                start = time.time()
                yield await _used(gateway, prometheus, start)
        finally:
            await gateway.stop()
            demo.cancel()
            await asyncio.gather(demo, return_exceptions=True)


async def _prepared(gateway: Gateway, far: int) -> asyncio.Task[None]:
    """Put the demo upstream in place of the one that other tests script, with a credential that is exchanged."""
    await gateway.prepare(tunnels.leading_to(far))
    ports = gateway.ports
    path = gateway.state / "upstreams.yaml"
    clusters = yaml.safe_load(path.read_text().replace(f": {gateway.upstream.port}\n", f": {ports.upstream}\n"))
    path.write_text(yaml.safe_dump(clusters))
    tunnels.list_hosts(gateway, tunnels.LISTED)
    exchange = {"url": f"http://127.0.0.1:{gateway.upstream.port}/copilot_internal/v2/token"}
    gateway.configure(credentials={"github": {"file": "github-token", "exchange": exchange}})
    gateway.upstream.play(_exchanges)
    app = upstream.make_app(lambda: {gateway.credential, COPILOT_TOKEN}, delay_seconds=0.01, now=time.time)
    return asyncio.create_task(web.run(app, "127.0.0.1", ports.upstream))


async def _exchanges(call: Call) -> None:
    await call.whole(json.dumps({"token": COPILOT_TOKEN, "expires_at": 4102444800, "refresh_in": 1500}).encode())


async def _used(gateway: Gateway, prometheus: Prometheus, start: float) -> Observed:
    clients = Clients(gateway)
    for _ in range(ROUNDS):
        await clients.everything()
        seen = time.time()
        await eventually(partial(prometheus.scraped_since, seen), "another scrape of each job")
    # Steps of a range start at its start: a second more has the last scrape in it.
    return Observed(prometheus, start, time.time() + 1)


def _values(series: list[dict[str, Any]]) -> list[float]:
    return [float(value) for one in series for _, value in one["values"]]


@pytest.mark.parametrize(("name", "panel"), PANELS)
async def test_a_panel_shows_data(observed: Observed, name: str, panel: dict[str, Any]) -> None:
    shown: list[float] = []
    for query in panel_queries(name, panel):
        series = await observed.ask(query)
        assert series, f"no data: {query.expression}"
        finite = [value for value in _values(series) if math.isfinite(value)]
        assert finite, f"no number: {query.expression}"
        shown += finite
        # What shows 0 where there is nothing has no labels then.
        if query.where not in AT_REST and not query.expression.endswith("or on () vector(0)"):
            assert any(query.shown_labels <= set(one["metric"]) for one in series), f"no label of {query.shown}"
    assert any(shown) or f"{name}: {panel['title']}" in AT_REST


@pytest.mark.parametrize("name", dashboards())
async def test_a_variable_has_choices(observed: Observed, name: str) -> None:
    for query in variable_queries(name, dashboards()[name]):
        choices = {one["metric"].get(*query.shown_labels) for one in await observed.ask(query)}
        assert choices - {None}, query.where


async def test_what_alerts_ask_for_is_there(observed: Observed) -> None:
    asked = {name for rule in alerts() for name in Query(rule["alert"], rule["expr"]).metrics}
    missing = [name for name in sorted(asked) if not await observed.ask(Query(name, f"count({name})"))]
    assert missing == []


async def test_no_alert_fires_while_all_is_well(observed: Observed) -> None:
    groups = (await observed.prometheus.get("rules", type="alert"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == {rule["alert"] for rule in alerts()}
    assert {rule["health"] for rule in rules} == {"ok"}
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []


async def test_upstreams_are_told_apart_by_their_host(observed: Observed) -> None:
    (panel,) = (one for one in dashboards()["envoy"]["panels"] if one["title"] == "Requests by upstream")
    (query,) = panel_queries("envoy", panel)
    shown = {one["metric"]["envoy_cluster_name"] for one in await observed.ask(query) if any(_values([one]))}
    assert shown >= {"api.githubcopilot.com", "api.github.com", "intercepted", "tunnel"}
