from __future__ import annotations

from extproc.keys.lru import ExpiringLru


def test_a_value_is_forgotten_when_its_time_is_over() -> None:
    lru: ExpiringLru[str, int] = ExpiringLru(2)
    lru.put("a", 1, until=10.0)
    assert lru.get("a", 9.9) == 1
    assert lru.get("a", 10.0) is None
    assert len(lru) == 0


def test_the_value_used_longest_ago_makes_room() -> None:
    lru: ExpiringLru[str, int] = ExpiringLru(2)
    lru.put("a", 1, until=10.0)
    lru.put("b", 2, until=10.0)
    assert lru.get("a", 0.0) == 1
    lru.put("c", 3, until=10.0)
    assert (lru.get("a", 0.0), lru.get("b", 0.0), lru.get("c", 0.0)) == (1, None, 3)
    assert len(lru) == 2


def test_a_new_value_replaces_the_old_and_a_discarded_one_is_gone() -> None:
    lru: ExpiringLru[str, int] = ExpiringLru(2)
    lru.put("a", 1, until=10.0)
    lru.put("a", 2, until=20.0)
    assert lru.get("a", 15.0) == 2
    lru.discard("a")
    lru.discard("a")
    assert lru.get("a", 15.0) is None
