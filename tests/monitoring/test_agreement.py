from __future__ import annotations

import pytest

from tests.monitoring.agreement import Declared, declared, faults, pages
from tests.monitoring.queries import Query, all_queries

COUNTER = Declared("extproc_a_total", frozenset({"extproc_a_total"}), frozenset({"rule"}))
HISTOGRAM = Declared("extproc_b", frozenset({"extproc_b_bucket", "extproc_b_count"}), frozenset({"code"}))
ASKED = (Query("x", "sum by (rule) (rate(extproc_a_total[5m]))"), Query("x", "extproc_b_count"))
PAGE = {"metrics.md": "`extproc_a_total` `extproc_b`"}


def test_code_documentation_dashboards_and_alerts_agree() -> None:
    assert list(faults(declared(), all_queries(), pages())) == []


def test_what_agrees_has_no_fault() -> None:
    assert list(faults([COUNTER, HISTOGRAM], ASKED, PAGE)) == []


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("extproc_a", "x: there is no metric extproc_a"),
        ("extproc_b", "x: there is no metric extproc_b"),
        ("rate(gen_ai_client_tokens[5m])", "x: there is no metric gen_ai_client_tokens"),
        ('extproc_a_total{code="1"}', "x: nothing that it asks has a label code"),
        ("sum by (le, user) (extproc_a_total)", "x: nothing that it asks has a label user"),
        ("extproc_a_total unless on (instance, code) up", "x: nothing that it asks has a label code"),
        ("envoy_x + on (rule) group_left envoy_y", "x: nothing that it asks has a label rule"),
    ],
)
def test_a_query_that_the_code_cannot_answer_is_a_fault(expression: str, fault: str) -> None:
    assert list(faults([COUNTER, HISTOGRAM], [*ASKED, Query("x", expression)], PAGE)) == [fault]


def test_labels_that_prometheus_and_envoy_add_are_none() -> None:
    asked = 'sum by (job, instance, le) (extproc_a_total{rule="1"}) + on (envoy_cluster_name) envoy_z'
    assert list(faults([COUNTER, HISTOGRAM], [*ASKED, Query("x", asked)], PAGE)) == []


def test_a_metric_that_nobody_looks_at_is_a_fault() -> None:
    assert list(faults([COUNTER, HISTOGRAM], ASKED[:1], PAGE)) == ["extproc_b: is on no dashboard and in no alert"]


def test_a_metric_that_is_not_documented_is_a_fault() -> None:
    page = {"metrics.md": "`extproc_a_total`"}
    assert list(faults([COUNTER, HISTOGRAM], ASKED, page)) == ["extproc_b: docs/metrics.md does not have it"]


def test_a_page_about_a_metric_that_does_not_exist_is_a_fault() -> None:
    more = {**PAGE, "runbook.md": "`extproc_b_count` and extproc_gone_total"}
    assert list(faults([COUNTER, HISTOGRAM], ASKED, more)) == ["docs/runbook.md: there is no metric extproc_gone_total"]
