"""What can be checked of docs/azure.md and docs/scaling.md: numbers, commands, paths, snippets.

`WRITE=1` in the environment writes the computed tables into the pages in place of comparing them.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from extproc.cli import application
from extproc.config import Settings

_ROOT = Path(__file__).parent.parent
_DOCS = {name: _ROOT / "docs" / name for name in ("azure.md", "scaling.md")}
_SIZES = (1_000, 10_000, 100_000)
_TABLE = re.compile(r"(<!-- table: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_GIB, _DAY = 1024, 86_400
# Of a worker and its share of Envoy, scraped each 15 s.
_SERIES = 400

Rows = list[list[str]]


def _inputs() -> dict[str, float]:
    found = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", _DOCS["scaling.md"].read_text(), re.MULTILINE)
    return {name: float(value) for name, value in found}


def _needs(i: dict[str, float], developers: int) -> dict[str, float]:
    """Return what so many developers need, by the formulas of docs/scaling.md."""
    rate = developers * i["turns_a_day"] / _DAY * i["peak"]
    streams = rate * i["stream_seconds"]
    cores = rate * (i["cpu_exchange_ms"] + i["cpu_prompt_ms"] + i["events"] * i["cpu_event_ms"]) / 1000
    pods = max(i["least_pods"], math.ceil(cores / i["use"] / i["workers"]))
    memory = pods * (i["workers"] * i["worker_mib"] + i["envoy_mib"])
    memory += (streams * i["stream_kib"] + developers * i["tunnel_kib"]) / 1024
    waiting = rate * i["approvals"] * i["wait_seconds"]
    record = rate * i["ru_turn"] + pods * i["workers"] * i["ru_checkpoint"] / 10
    gb = developers * i["turns_a_day"] * i["days"] * i["kb_turn"] / 1e6
    most = _thousands(max(record, gb * 10))
    return {
        "rate": rate,
        "streams": streams,
        "cores": cores,
        "envoy": rate * (i["envoy_exchange_ms"] + i["events"] * i["envoy_event_ms"]) / 1000,
        "pods": pods,
        "memory": memory / _GIB,
        "record": record,
        "waiting": waiting,
        "approvals": min(waiting, pods * i["workers"]) * i["ru_poll"],
        "gb": gb,
        "start": _thousands(record),
        "most": most,
        "partitions": math.ceil(max(gb / 50, most / 10_000)),
        "logs": developers * i["turns_a_day"] * i["days"] / 12 * i["log_kb"] / 1e6,
    }


def _thousands(value: float) -> int:
    return max(1000, math.ceil(value / 1000) * 1000)


def _table(rows: Rows) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "| " + " | ".join(["---"] * len(rows[0])) + " |", *lines[1:]]) + "\n"


def _by_size(i: dict[str, float], lines: list[tuple[str, str, int]]) -> Rows:
    needs = [_needs(i, size) for size in _SIZES]
    head = ["developers", *(f"{size:,}" for size in _SIZES)]
    return [head, *([title, *(f"{one[key]:,.{digits}f}" for one in needs)] for title, key, digits in lines)]


def _expected(i: dict[str, float]) -> dict[str, str]:
    one = _needs(i, 1000)
    first, later, approvals = one["start"], one["most"], _thousands(one["approvals"])
    samples = one["pods"] * i["workers"] * _SERIES * 4 * 60 * 24 * 30 / 1e6
    busy = one["cores"] + one["envoy"]
    throughput, same = ("100 RU/s-hours: …", "Cosmos DB, autoscale throughput"), ("the same: …", "the same")
    costs = [
        ["what", "for 1,000 developers", "price of one unit", "where to look it up"],
        ["RU/s of `recording`", f"{one['record']:,.0f} at the peak, a tenth on average", "", ""],
        ["autoscale maximum, at first", f"{first:,} RU/s: each hour {first // 10:,} at least is paid", *throughput],
        ["a year later, nothing removed", f"{later:,} RU/s: {later // 10:,} at least", *same],
        ["autoscale maximum of `approvals`", f"{approvals:,} RU/s: {approvals // 10:,} at least", *same],
        [
            "storage",
            f"{one['gb'] / 12:,.0f} GB more each month, {one['gb']:,.0f} a year",
            "GB-month: …",
            "Cosmos DB, storage",
        ],
        ["backup, 30 days", f"{one['gb']:,.0f} GB after a year", "GB-month: …", "Cosmos DB, continuous backup"],
        [
            "pods",
            f"{one['pods']:.0f}; {busy:,.1f} cores busy at the peak",
            "node-hour: …",
            "Virtual Machines; AKS, standard tier",
        ],
        ["volumes", f"{one['pods']:.0f} of 8 GiB, one of 4 GiB", "disk-month: …", "Managed Disks, premium"],
        ["logs, if Azure collects them", f"{one['logs']:,.0f} GB a month", "GB: …", "Azure Monitor, Log Analytics"],
        [
            "metrics, likewise",
            f"{samples:,.0f} million samples a month",
            "million: …",
            "Azure Monitor, managed Prometheus",
        ],
    ]
    needs = [
        ("exchanges a second", "rate", 0),
        ("open streams", "streams", 0),
        ("cores of workers, busy", "cores", 1),
        ("cores of Envoy, busy", "envoy", 1),
        ("pods of two workers", "pods", 0),
        ("memory, GiB", "memory", 1),
        ("RU/s of the record", "record", 0),
        ("approvals that wait", "waiting", 0),
        ("RU/s of approvals", "approvals", 0),
        ("storage a year, GB", "gb", 0),
    ]
    store = [
        ("autoscale maximum at first", "start", 0),
        ("autoscale maximum after a year without removal", "most", 0),
        ("physical partitions after that year", "partitions", 0),
    ]
    return {"costs": _table(costs), "needs": _table(_by_size(i, needs)), "store": _table(_by_size(i, store))}


def _tables(text: str) -> dict[str, str]:
    return {found[2]: found[3] for found in _TABLE.finditer(text)}


def test_the_tables_are_what_their_inputs_give() -> None:
    expected = _expected(_inputs())
    seen = set()
    for path in _DOCS.values():
        text = path.read_text()
        if os.environ.get("WRITE"):
            text = _TABLE.sub(lambda found: found[1] + expected[found[2]] + found[4], text)
            path.write_text(text)
        for name, table in _tables(text).items():
            seen.add(name)
            assert table == expected[name], f"{path.name}: {name}; WRITE=1 writes it anew"
    assert seen == set(expected)


def test_every_input_counts() -> None:
    inputs = _inputs()
    unused = [name for name in inputs if _expected({**inputs, name: inputs[name] * 7}) == _expected(inputs)]
    assert unused == []


def _blocks(language: str) -> list[str]:
    return [
        block
        for path in _DOCS.values()
        for block in re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
    ]


def _commands() -> list[str]:
    """Return the arguments of each `extproc` command of the shell blocks and of the text."""
    shell = "\n".join(_blocks("sh")).replace("\\\n", " ")
    found = re.findall(r"(?:^|[;&(/ ])extproc ([a-z].*)", shell, re.MULTILINE)
    bare = [re.split(r"[>|;)]| #|$", one)[0] for one in found]
    inline = [found for path in _DOCS.values() for found in re.findall(r"`extproc ([a-z][^`]*)`", path.read_text())]
    return [command.replace('"', "").strip() for command in [*bare, *inline] if "…" not in command]


@pytest.mark.parametrize("command", sorted(set(_commands())))
def test_every_command_parses(command: str) -> None:
    words = shlex.split(command)
    group: Any = get_command(application(words))
    # Words that are no command are arguments.
    while hasattr(group, "commands") and words:
        assert words[0] in group.commands, f"extproc {command}"
        group = group.commands[words.pop(0)]
    known = {option for parameter in group.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known, f"extproc {command}"


def test_commands_are_found() -> None:
    assert len(set(_commands())) >= 8


def test_every_file_that_is_named_exists() -> None:
    text = "".join(path.read_text() for path in _DOCS.values())
    # The overlay is the one that the page makes.
    named = set(re.findall(r"(?<![\w/])(?:k8s|extproc|envoy)/[\w./-]+", text)) - {"k8s/overlays/acme"}
    links = set(re.findall(r"\]\(([\w./-]+\.md)", text))
    missing = [one for one in named if not (_ROOT / one.rstrip(".")).exists()]
    missing += [one for one in links if not (_ROOT / "docs" / one).exists()]
    assert missing == []
    assert len(named) >= 10


def test_settings_that_are_shown_are_settings() -> None:
    base = yaml.safe_load((_ROOT / "k8s/overlays/egress-gateway/gateway.yaml").read_text())
    blocks = _blocks("yaml")
    assert blocks
    for block in blocks:
        Settings.model_validate({**base, **yaml.safe_load(block)})


def test_what_the_page_replaces_is_in_the_overlay() -> None:
    folder = _ROOT / "k8s/overlays/egress-gateway"
    settings, page = (folder / "gateway.yaml").read_text(), _DOCS["azure.md"].read_text()
    names = ["acme-copilot", "acmewitness", "api://copilot-gateway", "gateway.acme.example", "console.acme.example"]
    assert [name for name in names if name not in settings] == []
    kept = re.findall(r"^(\w+)=", (folder / "site/site.env").read_text(), re.MULTILINE)
    written = re.search(r"site\.env\" <<END\n(.*?)^END", page, re.MULTILINE | re.DOTALL)
    assert written is not None
    assert [line.split("=")[0] for line in written[1].splitlines()] == kept


def test_secrets_of_the_page_are_those_that_are_mounted() -> None:
    mounted = set(re.findall(r"objectName: (\S+)", (_ROOT / "k8s/components/azure/secrets.yaml").read_text()))
    page = _DOCS["azure.md"].read_text()
    allowed = re.search(r"^allow\(\).*?^```", page, re.MULTILINE | re.DOTALL)
    assert allowed is not None
    assert mounted == {name for name in mounted if name in allowed[0]}


def test_the_witness_role_may_not_remove() -> None:
    role = re.search(r"witness-role\.json <<END\n(.*?)^END", _DOCS["azure.md"].read_text(), re.MULTILINE | re.DOTALL)
    assert role is not None
    actions = json.loads(role[1])["DataActions"]
    assert not [action for action in actions if "delete" in action]
    assert actions
