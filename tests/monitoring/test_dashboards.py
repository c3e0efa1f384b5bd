from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.monitoring.queries import DASHBOARDS, ROOT, dashboards, panel_queries, variable_queries

BOARDS = dashboards()
PANELS = [
    pytest.param(name, panel, id=f"{name}-{panel['title']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
MOST_PANELS = 14


def test_there_is_one_for_each_thing_that_operators_ask() -> None:
    assert set(BOARDS) == {"overview", "security", "recording", "envoy", "usage"}


def test_identities_are_stable_and_different() -> None:
    assert {name: board["uid"] for name, board in BOARDS.items()} == {name: f"extproc-{name}" for name in BOARDS}
    titles = {name: board["title"] for name, board in BOARDS.items()}
    assert titles == {name: f"Copilot gateway / {name.capitalize()}" for name in BOARDS}


@pytest.mark.parametrize("name", BOARDS)
def test_a_file_is_written_as_all_are(name: str) -> None:
    text = (DASHBOARDS / f"{name}.json").read_text()
    assert text == json.dumps(BOARDS[name], indent=2, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_can_be_loaded_into_any_grafana(name: str) -> None:
    board = BOARDS[name]
    # An id belongs to one Grafana; where there is one, another refuses or replaces something else.
    assert "id" not in board
    assert board["schemaVersion"] >= 39
    assert (board["refresh"], board["time"]) == ("10s", {"from": "now-1h", "to": "now"})
    assert board["templating"]["list"][0]["type"] == "datasource"
    assert board["description"]
    assert all(variable["datasource"] == SOURCE for variable in board["templating"]["list"][1:])
    assert variable_queries(name, board)


@pytest.mark.parametrize("name", BOARDS)
def test_panels_are_few_and_do_not_lie_on_each_other(name: str) -> None:
    panels = BOARDS[name]["panels"]
    assert len(panels) <= MOST_PANELS
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken
        taken |= cells


@pytest.mark.parametrize(("name", "panel"), PANELS)
def test_a_panel_says_what_it_shows_and_in_which_unit(name: str, panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["datasource"] == SOURCE
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"]
    assert defaults["thresholds"]["steps"][0]["value"] is None
    for query in panel_queries(name, panel):
        assert query.expression
        assert query.shown


@pytest.mark.parametrize(("name", "panel"), PANELS)
def test_a_panel_shows_what_was_chosen(name: str, panel: dict[str, Any]) -> None:
    for query in panel_queries(name, panel):
        # Whether targets are up is of all of them.
        assert 'instance=~"$instance"' in query.expression or query.metrics == set()
        if name == "usage" and query.metrics & {"extproc_tokens_total", "gen_ai_client_token_usage_count"}:
            assert '=~"$model"' in query.expression


@pytest.mark.parametrize(("name", "panel"), PANELS)
def test_a_rate_fits_any_time_that_is_shown(name: str, panel: dict[str, Any]) -> None:
    for query in panel_queries(name, panel):
        windows = {window.partition("]")[0] for window in query.expression.split("[")[1:]}
        assert windows <= {"$__rate_interval", "$__range"}
        if "$__range" in windows:
            assert panel["type"] in {"stat", "bargauge"}


def test_all_of_them_and_the_alerts_are_provisioned() -> None:
    folder = DASHBOARDS.parent
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    maps = {one["name"]: one for one in kustomization["configMapGenerator"]}
    assert sorted(maps["extproc-dashboards"]["files"]) == [f"dashboards/{name}.json" for name in sorted(BOARDS)]
    assert maps["extproc-dashboards"]["options"]["labels"] == {"grafana_dashboard": "1"}
    assert maps["extproc-alerts"]["files"] == ["alerts.yaml"]
    # kubectl keeps what it applied in an annotation, which may have 256 KiB.
    assert sum(path.stat().st_size for path in DASHBOARDS.glob("*.json")) < 200_000


def test_the_guide_describes_each_panel_of_interest() -> None:
    guide = (ROOT / "docs" / "monitoring.md").read_text()
    for board in BOARDS.values():
        assert board["title"].removeprefix("Copilot gateway / ") in guide
        assert board["uid"] in guide
