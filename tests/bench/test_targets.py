from __future__ import annotations

import pytest

from bench.measure import Figures, Run
from bench.targets import TARGETS, Target, held
from bench.ways import Variant
from bench.workloads import STREAMS, WORKLOADS

# By how a target's name begins: the workload, its figure, the other way and what it has, and of ours what just meets
# the target and what just misses it.
COMPARED = {
    "CPU per plain exchange": ("plain", "service_cpu_us", Variant.NOOP, 1000.0, 600.0, 601.0),
    "CPU per SSE event": ("streams_16", "service_cpu_us_per_event", Variant.NOOP, 100.0, 50.0, 50.1),
    "time to first event p50": ("streams_100", "first_p50_ms", Variant.NONE, 5.0, 8.0, 8.1),
    "event delay p99": ("streams_100", "delay_p99_ms", Variant.NONE, 5.0, 15.0, 15.1),
    "throughput over mitmproxy": ("plain", "exchanges_per_second", Variant.MITMPROXY, 200.0, 1000.0, 999.0),
}
HELD = "streams at 50 events/s held by one core"
MEMORY = "memory per open stream"
IN_TIME, LATE = 20.0, 20.1


def target(begins: str) -> Target:
    (found,) = (one for one in TARGETS if one.what.startswith(begins))
    return found


def both(what: str, ours: list[float]) -> Run:
    workload, key, other, theirs, _, _ = COMPARED[what]
    return Run({workload: {Variant.OURS: [{key: one} for one in ours], other: [{key: theirs}] * len(ours)}})


def streams(delays: dict[int, list[float]]) -> Run:
    return Run({f"streams_{count}": {Variant.OURS: [late(one) for one in ones]} for count, ones in delays.items()})


def late(milliseconds: float) -> Figures:
    return {"delay_p99_ms": milliseconds}


def test_every_target_is_looked_at_here() -> None:
    assert {target(what).what for what in (*COMPARED, HELD, MEMORY)} == {one.what for one in TARGETS}


@pytest.mark.parametrize("what", COMPARED)
def test_a_comparison_is_met_at_its_bound_and_missed_beyond_it(what: str) -> None:
    *_, met, missed = COMPARED[what]
    assert target(what).result(both(what, [met]))["met"] is True
    assert target(what).result(both(what, [missed]))["met"] is False


@pytest.mark.parametrize("what", COMPARED)
def test_what_is_compared_is_a_workload_that_both_ways_carry(what: str) -> None:
    workload, _, other, *_ = COMPARED[what]
    variants = {one.name: one.variants for one in WORKLOADS} | {one.name: one.variants for one in STREAMS}
    assert {Variant.OURS, other} <= set(variants[workload])


def test_memory_is_met_at_60_kb_and_missed_beyond() -> None:
    assert target(MEMORY).result(Run(memory={Variant.OURS: 60_000.0}))["met"] is True
    assert target(MEMORY).result(Run(memory={Variant.OURS: 60_001.0}))["met"] is False


def test_held_streams_are_met_at_400_and_missed_below() -> None:
    held_400 = {count: [IN_TIME] for count in (1, 16, 100, 200, 300, 400)}
    assert target(HELD).result(streams(held_400))["met"] is True
    assert target(HELD).result(streams({**held_400, 400: [LATE]}))["met"] is False


def test_the_median_of_the_rounds_decides_and_least_and_greatest_are_told() -> None:
    what = "CPU per plain exchange"
    found = target(what).result(both(what, [900.0, 500.0, 600.0]))
    assert (found["found"], found["met"]) == ({"median": 0.6, "min": 0.5, "max": 0.9}, True)


def test_rounds_are_compared_each_with_itself() -> None:
    # Of the medians the ratio would be 0.5.
    ours = [{"service_cpu_us": one} for one in (100.0, 500.0, 900.0)]
    noop = [{"service_cpu_us": one} for one in (100.0, 1000.0, 1000.0)]
    found = target("CPU per plain exchange").result(Run({"plain": {Variant.OURS: ours, Variant.NOOP: noop}}))
    assert (found["found"]["median"], found["met"]) == (0.9, False)


@pytest.mark.parametrize("what", [*COMPARED, HELD, MEMORY])
def test_a_target_without_figures_is_neither_met_nor_missed(what: str) -> None:
    found = target(what).result(Run())
    assert (found["found"], found["met"]) == (None, None)


@pytest.mark.parametrize("what", COMPARED)
def test_ours_without_the_other_way_is_neither_met_nor_missed(what: str) -> None:
    run = both(what, [1.0])
    (ways,) = run.figures.values()
    del ways[COMPARED[what][2]]
    assert target(what).result(run)["met"] is None


def test_more_streams_do_not_count_once_fewer_were_late() -> None:
    assert held(streams({1: [IN_TIME], 16: [IN_TIME], 100: [LATE], 200: [IN_TIME]})) == [16]


def test_numbers_of_streams_that_were_not_asked_for_are_passed_over() -> None:
    assert held(streams({1: [IN_TIME], 16: [IN_TIME], 100: [IN_TIME], 400: [IN_TIME]})) == [400]


def test_a_way_that_fell_behind_holds_less_in_the_rounds_in_which_it_was_not_asked() -> None:
    assert held(streams({1: [IN_TIME] * 3, 16: [IN_TIME] * 3, 100: [IN_TIME, LATE]})) == [100, 16, 16]
