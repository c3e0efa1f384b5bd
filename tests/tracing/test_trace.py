from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from extproc.tracing.lines import proposed_fingerprints
from extproc.tracing.trace import MAX_OTHERS_ALONE, Range, Target, trace

KEY = bytes(range(32))
NOW = 1_760_000_000.0

FUNCTION = """\
def mean_of(values):
    total = sum(values)

    if not values:
        raise ValueError("no values")
    return total / len(values)
"""


class Recorded:
    """What an archive has, in memory, and which documents were read."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.read: list[str] = []
        self._lines: list[tuple[str, str]] = []

    def add(self, exchange_id: str, code: str, *, at: float = NOW, **more: Any) -> None:
        response = {"text": f"Here:\n```\n{code}\n```", "tool_calls": [], "model": "gpt-5-2026"}
        self.documents[exchange_id] = {
            "id": exchange_id,
            "session": f"session of {exchange_id}",
            "opened_at": at,
            "principal": {"id": "issuer#alice", "name": "alice"},
            "client": {"user_agent": "copilot/1.0"},
            "request": {"endpoint": "chat", "model": "gpt-5"},
            "response": response,
            "outcome": "completed",
            "approvals": [],
            **more,
        }
        self._lines += [(one, exchange_id) for one in proposed_fingerprints(response, KEY)]

    def lines(self, fingerprints: Collection[str]) -> Iterator[tuple[str, str]]:
        yield from (pair for pair in self._lines if pair[0] in fingerprints)

    def exchange(self, exchange_id: str) -> dict[str, Any] | None:
        self.read.append(exchange_id)
        return self.documents.get(exchange_id)


def target(text: str, wanted: set[int] | None = None, numbers: list[int] | None = None) -> Target:
    lines = text.removesuffix("\n").split("\n")
    numbers = numbers or list(range(1, len(lines) + 1))
    return Target("a.py", numbers, lines, set(numbers) if wanted is None else wanted)


def found(recorded: Recorded, text: str, before: float | None = None, **more: Any) -> list[tuple[int, int, str, str]]:
    """Return start, end, exchange and match of each range."""
    return [
        (one.start, one.end, one.source.exchange, one.match)
        for one in trace([target(text, **more)], KEY, recorded, before)
    ]


def only(ranges: Iterator[Range]) -> Range:
    (one,) = ranges
    return one


def indented(text: str) -> str:
    return "".join(f"\t{line}" if line.strip() else line for line in text.splitlines(keepends=True))


# --- Lines as they were proposed -------------------------------------------------------------------------------------


def test_moved_and_reindented_lines_are_found_with_all_that_is_known_of_them() -> None:
    recorded = Recorded()
    verdicts = [{"approver": "i#bob", "name": "bob", "approved": True}, {"approver": "i#eve", "approved": False}]
    recorded.add("e1", FUNCTION, approvals=[{"id": "a1", "state": "approved", "verdicts": verdicts}])
    one = only(trace([target(f"import numpy\n\n\nclass A:\n{indented(FUNCTION)}")], KEY, recorded))
    assert (one.path, one.start, one.end, one.match, one.similarity, one.others) == ("a.py", 5, 10, "exact", 1.0, 0)
    source = one.source
    assert (source.exchange, source.session, source.opened_at) == ("e1", "session of e1", NOW)
    assert (source.user, source.principal, source.client) == ("alice", "issuer#alice", "copilot/1.0")
    assert (source.model, source.outcome) == ("gpt-5-2026", "completed")
    assert (source.approved_by, source.denied_by) == (["bob"], ["i#eve"])


def test_nothing_is_found_in_what_nobody_proposed() -> None:
    recorded = Recorded()
    recorded.add("e1", FUNCTION)
    assert found(recorded, "import sys\nsys.exit(main())\n") == []
    assert recorded.read == []


def test_trivial_lines_belong_to_the_lines_around_them_and_to_nobody_at_the_edges() -> None:
    recorded = Recorded()
    recorded.add("e1", "first_line()\n}\nsecond_line()\n}\n")
    assert found(recorded, "}\n\nfirst_line()\n}\n\n}\nsecond_line()\n}\n") == [(3, 7, "e1", "exact")]


def test_lines_of_several_exchanges_are_ranges_of_their_own() -> None:
    recorded = Recorded()
    recorded.add("e1", "first_line()\nsecond_line()")
    recorded.add("e2", "third_line()")
    text = "first_line()\nsecond_line()\nthird_line()\nfirst_line()\n"
    assert found(recorded, text) == [(1, 2, "e1", "exact"), (3, 3, "e2", "exact"), (4, 4, "e1", "exact")]


def test_only_wanted_lines_are_reported_but_all_help_to_decide() -> None:
    recorded = Recorded()
    recorded.add("e1", FUNCTION, at=NOW)
    recorded.add("e2", "total = sum(values)", at=NOW + 1)
    assert found(recorded, FUNCTION, wanted={2}) == [(2, 2, "e1", "exact")]
    assert found(recorded, FUNCTION, wanted={2, 5, 6}) == [(2, 2, "e1", "exact"), (5, 6, "e1", "exact")]


def test_what_was_removed_by_rule_is_told_from_its_facts() -> None:
    recorded = Recorded()
    recorded.add("e1", FUNCTION)
    facts = {"user": "alice", "principal": "issuer#alice", "model": "gpt-5", "outcome": "completed"}
    recorded.documents["e1"] = {"id": "e1", "session": "s", "opened_at": NOW, "facts": facts, "removed": "by rule"}
    one = only(trace([target(FUNCTION)], KEY, recorded))
    assert (one.start, one.end, one.source.user, one.source.model) == (1, 6, "alice", "gpt-5")


def test_an_exchange_that_is_gone_is_passed_over() -> None:
    recorded = Recorded()
    recorded.add("e1", "first_line()")
    recorded.add("e2", "first_line()")
    del recorded.documents["e2"]
    assert found(recorded, "first_line()") == [(1, 1, "e1", "exact")]


# --- Several exchanges that proposed a line --------------------------------------------------------------------------


def test_the_longest_run_wins_and_others_that_have_all_of_it_are_counted() -> None:
    recorded = Recorded()
    recorded.add("short", "total = sum(values)\nif not values:", at=NOW + 2)
    recorded.add("long", FUNCTION, at=NOW + 1)
    recorded.add("as long", FUNCTION, at=NOW)
    one = only(trace([target(FUNCTION)], KEY, recorded))
    assert (one.source.exchange, one.others) == ("long", 1)


def test_of_equally_long_runs_the_most_recent_one_before_wins_then_the_oldest() -> None:
    recorded = Recorded()
    for number, name in enumerate(["first", "second", "third"]):
        recorded.add(name, FUNCTION, at=NOW + number)
    assert found(recorded, FUNCTION)[0][2] == "third"
    assert found(recorded, FUNCTION, before=NOW + 1.5)[0][2] == "second"
    assert found(recorded, FUNCTION, before=NOW - 1)[0][2] == "first"


def test_what_was_proposed_later_does_not_win_by_its_length() -> None:
    recorded = Recorded()
    recorded.add("before", "total = sum(values)", at=NOW)
    recorded.add("after", FUNCTION, at=NOW + 2)
    ranges = list(trace([target(FUNCTION)], KEY, recorded, before=NOW + 1))
    assert [(one.start, one.end, one.source.exchange, one.is_later) for one in ranges] == [
        (1, 1, "after", True),
        (2, 3, "before", False),
        (4, 6, "after", True),
    ]
    assert not any(one.is_later for one in trace([target(FUNCTION)], KEY, recorded))


def test_a_lone_line_that_is_anybodys_is_nobodys() -> None:
    recorded = Recorded()
    for number in range(MAX_OTHERS_ALONE + 1):
        recorded.add(f"e{number}", "import asyncio")
    assert found(recorded, "import asyncio") == [(1, 1, f"e{MAX_OTHERS_ALONE}", "exact")]
    recorded.add("one more", "import asyncio")
    assert found(recorded, "import asyncio") == []
    recorded.add("more of it", "import asyncio\nimport mypackage")
    assert found(recorded, "import asyncio\nimport mypackage") == [(1, 2, "more of it", "exact")]


def test_a_run_ends_where_numbers_do_not_follow_on_each_other() -> None:
    recorded = Recorded()
    recorded.add("both", "first_line()\nsecond_line()", at=NOW)
    recorded.add("later", "second_line()", at=NOW + 1)
    text = "first_line()\nsecond_line()"
    assert found(recorded, text) == [(1, 2, "both", "exact")]
    assert found(recorded, text, numbers=[1, 9]) == [(1, 1, "both", "exact"), (9, 9, "later", "exact")]


# --- Edited lines ----------------------------------------------------------------------------------------------------


def test_an_edited_line_between_matching_ones_is_found() -> None:
    recorded = Recorded()
    recorded.add("e1", FUNCTION)
    text = FUNCTION.replace('ValueError("no values")', 'ValueError("no values at all")')
    assert found(recorded, text) == [(1, 4, "e1", "exact"), (5, 5, "e1", "edited"), (6, 6, "e1", "exact")]
    similarity = [one.similarity for one in trace([target(text)], KEY, recorded)][1]
    assert 0.6 <= similarity < 1


def test_edited_lines_before_the_first_and_after_the_last_match_are_found() -> None:
    recorded = Recorded()
    recorded.add("e1", FUNCTION)
    text = FUNCTION.replace("mean_of(values)", "mean(values)").replace("/ len(values)", "/ len(values, 1)")
    assert found(recorded, text) == [(1, 1, "e1", "edited"), (2, 5, "e1", "exact"), (6, 6, "e1", "edited")]


def test_inserted_lines_are_nobodys() -> None:
    recorded = Recorded()
    recorded.add("e1", FUNCTION)
    text = FUNCTION.replace("\n\n", '\n    logging.debug("called")\n    total = sum(value)\n\n')
    # The second inserted line is like one that is still there, so it was not made of that.
    assert found(recorded, text) == [(1, 2, "e1", "exact"), (6, 8, "e1", "exact")]


def test_an_edited_line_behind_an_inserted_one_is_found() -> None:
    recorded = Recorded()
    recorded.add("e1", FUNCTION)
    text = FUNCTION.replace("    return total /", "    print(1, 2, 3)\n    return total_of_all /")
    assert found(recorded, text)[-1] == (7, 7, "e1", "edited")
    assert 6 not in {line for start, end, *_ in found(recorded, text) for line in range(start, end + 1)}


def test_an_edited_line_behind_a_removed_one_is_found() -> None:
    recorded = Recorded()
    recorded.add("e1", FUNCTION)
    text = "def mean_of(values):\n    if not all_values:\n        raise ValueError(name)\n"
    assert found(recorded, text) == [(1, 1, "e1", "exact"), (2, 3, "e1", "edited")]


def test_what_only_resembles_a_proposed_line_elsewhere_is_nobodys() -> None:
    recorded = Recorded()
    recorded.add("e1", FUNCTION)
    assert found(recorded, "total = sum(value)\n") == []
