from __future__ import annotations

from extproc.dialect.sse import SseEvent
from extproc.masking.channel import Channel
from extproc.masking.lines import Line, Part, Waiting
from tests.masking.running import TOKEN, rules


def test_a_placeholder_stands_where_the_secret_began_and_the_other_parts_lose_theirs() -> None:
    line = Line("0.content", Channel(rules()))
    trees = [{"text": text} for text in ("see ", TOKEN[:9], TOKEN[9:], ", then")]
    waiting = [Waiting(SseEvent(b"", "message", b""), tree, 0.0) for tree in trees]
    for one, tree in zip(waiting, trees, strict=True):
        line.add(Part(one, tree, "text", tree["text"]))
    line.apply(line.channel.finish())
    assert [tree["text"] for tree in trees] == ["see ", "[MASKED:github-pat]", "", ", then"]
    assert [one.changed for one in waiting] == [False, True, True, False]
    assert [one.undecided for one in waiting] == [0, 0, 0, 0]


def test_a_part_waits_until_all_of_it_is_decided() -> None:
    line = Line("0.content", Channel(rules()))
    waiting = Waiting(SseEvent(b"", "message", b""), {"text": f"see {TOKEN[:9]}"}, 0.0)
    line.add(Part(waiting, waiting.tree, "text", f"see {TOKEN[:9]}"))
    assert waiting.undecided == 1
