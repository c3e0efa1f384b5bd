"""Check that code, documentation, dashboards and alerts agree on metrics: `python -m tests.monitoring.agreement`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.metrics import MetricWrapperBase

from extproc.metrics import Metrics
from extproc.metrics_workers import Supervised
from tests.monitoring.queries import ROOT, Query, all_queries

# Labels that Prometheus adds (to targets) and that histograms have.
_COMMON = frozenset({"job", "instance", "le"})
# Of Envoy's metrics; that these exist, and have data, is seen where a real Envoy is scraped.
_ENVOY = frozenset({f"envoy_{name}" for name in ("cluster_name", "http_conn_manager_prefix", "listener_address")}) | {
    "envoy_response_code_class"
}
_NAME = re.compile(r"\b(?:extproc|gen_ai_(?:client|server))_[a-z0-9_]+\b")


@dataclass(frozen=True)
class Declared:
    """A metric of the code: its name in a scrape, the series that it has, and its labels."""

    name: str
    series: frozenset[str]
    labels: frozenset[str]


def declared() -> list[Declared]:
    """Return the metrics that the code declares."""
    found = []
    for metric in Metrics().registry._collector_to_names:
        assert isinstance(metric, MetricWrapperBase)
        name = metric._name + ("_total" if metric._type == "counter" else "")
        parts = ("_bucket", "_count", "_sum") if metric._type == "histogram" else ("",)
        found.append(Declared(name, frozenset(name + part for part in parts), frozenset(metric._labelnames)))
    for family in Supervised().collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        found.append(Declared(name, frozenset([name]), frozenset(family.samples[0].labels)))
    return found


def pages() -> dict[str, str]:
    """Return the pages of the documentation by name."""
    return {path.name: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}


def faults(metrics: Iterable[Declared], queries: Iterable[Query], texts: Mapping[str, str]) -> Iterator[str]:
    """Yield what does not agree; nothing where all is well."""
    queries = list(queries)
    series = {one: metric for metric in metrics for one in metric.series}
    for query in queries:
        yield from _query_faults(query, series)
    asked = {name for query in queries for name in query.metrics}
    names = {metric.name: metric for metric in series.values()}
    for metric in names.values():
        if not metric.series & asked:
            yield f"{metric.name}: is on no dashboard and in no alert"
        if f"`{metric.name}`" not in texts["metrics.md"]:
            yield f"{metric.name}: docs/metrics.md does not have it"
    for page, text in texts.items():
        yield from (f"docs/{page}: there is no metric {name}" for name in sorted(_named(text) - {*names, *series}))


def _query_faults(query: Query, series: Mapping[str, Declared]) -> Iterator[str]:
    known = set(_COMMON)
    for name in sorted(query.metrics):
        if name.startswith("envoy_"):
            known |= _ENVOY
        elif name in series:
            known |= series[name].labels
        else:
            yield f"{query.where}: there is no metric {name}"
    yield from (f"{query.where}: nothing that it asks has a label {label}" for label in sorted(query.labels - known))


def _named(text: str) -> set[str]:
    return set(_NAME.findall(text))


def main() -> int:
    """Print what does not agree; return the exit code."""
    metrics, queries = declared(), list(all_queries())
    found = list(faults(metrics, queries, pages()))
    for fault in found:
        sys.stderr.write(f"{fault}\n")
    if not found:
        sys.stdout.write(f"{len(metrics)} metrics and {len(queries)} queries of dashboards and alerts agree\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
