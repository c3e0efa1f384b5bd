from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from extproc.metrics_kinds import Declaring


def test_many_observations_at_once_are_those_one_by_one() -> None:
    @given(st.lists(st.sampled_from([0.0, 0.5, 0.75, 1.0, 2.0, 2.5, 9.0]), max_size=50))
    def check(amounts: list[float]) -> None:
        one, many = Declaring(), Declaring()
        apart, together = one.histogram("h", "says", (0, 1, 2)), many.histogram("h", "says", (0, 1, 2))
        for amount in amounts:
            apart.observe(amount)
        together.observe_all(amounts)
        texts = [
            [line for line in generate_latest(made.registry).decode().splitlines() if "_created" not in line]
            for made in (one, many)
        ]
        assert texts[0] == texts[1]

    check()


def scraped(declare: Declaring) -> list[str]:
    return [line for line in generate_latest(declare.registry).decode().splitlines() if "_created" not in line]


def test_what_is_gathered_comes_to_the_same_once_it_is_settled() -> None:
    @given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([0.0, 0.5, 1.0, 2.5, 9.0])), max_size=30))
    def check(seen: list[tuple[str, float]]) -> None:
        apart, gathering = Declaring(), Declaring()
        counters, histograms = apart.counters("c", "says", "n"), apart.histograms("h", "says", "n", buckets=(0, 1, 2))
        counts, amounts = gathering.counts("c", "says", "n"), gathering.amounts("h", "says", "n", buckets=(0, 1, 2))
        for name, amount in seen:
            counters[name,].inc(amount)
            histograms[name,].observe(amount)
            counts.inc(name, by=amount)
            amounts.observe_all([amount], name)
        if seen:
            assert scraped(gathering) != scraped(apart)
        # The second time there is nothing left.
        for _ in range(2):
            for one in gathering.waiting:
                one.settle()
        assert scraped(gathering) == scraped(apart)

    check()


def test_amounts_need_no_labels() -> None:
    declare = Declaring()
    amounts = declare.amounts("h", "says", buckets=(1,))
    amounts.observe(0.5)
    amounts.settle()
    assert "h_count 1.0" in scraped(declare)


def test_a_child_is_made_once() -> None:
    counters = Declaring().counters("c", "says", "a", "b")
    assert counters["x", "y"] is counters["x", "y"]
    assert counters["x", "y"] is not counters["y", "x"]


def test_totals_follow_with_labels_and_without() -> None:
    declare = Declaring()
    plain, labelled = declare.totals("plain", "says"), declare.totals("labelled", "says", "name")
    for total in (0, 3, 3, 7):
        plain.reach(total)
        labelled.reach(total, "a")
    labelled.reach(1, "b")
    text = generate_latest(declare.registry).decode()
    assert "plain_total 7.0" in text
    assert 'labelled_total{name="a"} 7.0' in text
    assert 'labelled_total{name="b"} 1.0' in text
