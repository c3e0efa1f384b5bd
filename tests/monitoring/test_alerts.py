from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring.queries import ALERTS, ROOT, alerts
from tests.needing import not_tested

CASES = Path(__file__).parent / "alerts_test.yaml"
RULES = alerts()
BY_NAME = [pytest.param(rule, id=rule["alert"]) for rule in RULES]


def promtool(*arguments: str | Path) -> None:
    """Run Prometheus' own judge of rules; it must be there in CI."""
    if shutil.which("promtool") is None:
        not_tested("promtool is not installed (Debian: prometheus): no alert rule was judged")
    judged = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)  # noqa: S603, S607 - its arguments are of this file
    assert judged.returncode == 0, judged.stdout + judged.stderr


def test_prometheus_takes_the_rules() -> None:
    promtool("check", "rules", ALERTS)


def test_alerts_fire_when_they_should_and_only_then() -> None:
    promtool("test", "rules", CASES)


def test_each_alert_is_seen_firing_and_quiet() -> None:
    seen: Counter[tuple[str, bool]] = Counter()
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for check in case["promql_expr_test"]:
            (name,) = re.findall(r'alertname="(\w+)"', check["expr"])
            seen[name, bool(check["exp_samples"])] += 1
    names = {rule["alert"] for rule in RULES}
    assert set(seen) == {(name, fires) for name in names for fires in (True, False)}


@pytest.mark.parametrize("rule", BY_NAME)
def test_an_alert_says_how_bad_it_is_and_what_it_means(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert re.fullmatch(r"Extproc[A-Za-z]+", rule["alert"])


@pytest.mark.parametrize("rule", BY_NAME)
def test_the_runbook_has_a_section_about_an_alert(rule: dict[str, Any]) -> None:
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    sections = (ROOT / page).read_text().split("\n## ")[1:]
    by_anchor = {slug(section.split("\n")[0]): section for section in sections}
    assert f"`{rule['alert']}`" in by_anchor[anchor]


def slug(heading: str) -> str:
    """Return the anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_alerts_have_different_names() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


def test_durations_are_explained() -> None:
    lines = ALERTS.read_text().split("\n")
    assert [line for before, line in pairwise(lines) if "- alert:" in line and "#" not in before] == []


def test_the_rules_become_a_prometheus_rule_as_the_guide_says() -> None:
    guide = (ROOT / "docs" / "monitoring.md").read_text()
    (command,) = re.findall(r"^(\{ .*PrometheusRule.*\}) \| kubectl apply", guide, re.MULTILINE)
    made = subprocess.run(["/bin/sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603 - it is ours
    rule = yaml.safe_load(made.stdout)
    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert rule["spec"] == yaml.safe_load(ALERTS.read_text())
