"""What the dashboards and the alert rules ask Prometheus, as tests read it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
DASHBOARDS = ROOT / "k8s" / "monitoring" / "dashboards"
ALERTS = ROOT / "k8s" / "monitoring" / "alerts.yaml"

_METRIC = re.compile(r"\b(?:extproc|gen_ai|envoy)_[a-z0-9_]+\b")
_SELECTOR = re.compile(r"\{[^}]*\}")
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right) ?\(([^)]*)\)")


@dataclass(frozen=True)
class Query:
    """One question: `where` says who asks it, `shown` is the template of its legend."""

    where: str
    expression: str
    shown: str = ""

    @property
    def metrics(self) -> set[str]:
        """Return the series that are asked for, by name."""
        return set(_METRIC.findall(_GROUPING.sub("", _SELECTOR.sub("", self.expression))))

    @property
    def labels(self) -> set[str]:
        """Return the labels that series must have for the question to make sense."""
        matched = re.findall(r"(\w+) ?(?:=~|!~|!=|=) ?\"", " ".join(_SELECTOR.findall(self.expression)))
        grouped = " ".join(_GROUPING.findall(self.expression))
        # `label_replace` makes a label of its own.
        made = set(re.findall(r"label_replace\(.*?, \"(\w+)\", \"\$1\"", self.expression))
        return {*matched, *re.findall(r"\w+", grouped)} - made

    @property
    def shown_labels(self) -> set[str]:
        """Return the labels that the legend names."""
        return set(re.findall(r"\{\{(\w+)\}\}", self.shown))


def dashboards() -> dict[str, dict[str, Any]]:
    """Return all dashboards by the name of their file."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def panel_queries(name: str, panel: dict[str, Any]) -> list[Query]:
    """Return what a panel asks."""
    where = f"{name}: {panel['title']}"
    return [Query(where, target["expr"], target["legendFormat"]) for target in panel["targets"]]


def variable_queries(name: str, dashboard: dict[str, Any]) -> list[Query]:
    """Return the metrics and labels that the choices of a dashboard come from."""
    found = []
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"])
            assert match, f"{name}: {variable['name']}: {variable['definition']}"
            metric, label = match.groups()
            found.append(Query(f"{name}: ${variable['name']}", f"count by ({label}) ({metric})", f"{{{{{label}}}}}"))
    return found


def alerts() -> list[dict[str, Any]]:
    """Return all alert rules."""
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def all_queries() -> Iterator[Query]:
    """Yield what dashboards and alert rules ask."""
    for name, dashboard in dashboards().items():
        yield from variable_queries(name, dashboard)
        for panel in dashboard["panels"]:
            yield from panel_queries(name, panel)
    for rule in alerts():
        yield Query(f"alert {rule['alert']}", rule["expr"])
