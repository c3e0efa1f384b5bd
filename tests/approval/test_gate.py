from __future__ import annotations

import pytest

from extproc.approval.gate import Gate
from extproc.conversation import Answer, Piece
from extproc.dialect.chat import ChatDialect


def gate() -> Gate[str]:
    return Gate(ChatDialect().stream(), lambda touch: touch.path is not None and touch.path.startswith("infra/"))


def text(words: str) -> list[Piece]:
    return [Piece("0.text", words)]


CALL = [Piece("0.tool.0", '{"path"')]


def chunk(**choice: object) -> dict[str, object]:
    return {"choices": [{"index": 0, **choice}]}


def test_text_passes_as_it_comes() -> None:
    one = gate()
    assert one.take("a", text("hello ")) == ["a"]
    assert one.take("b", []) == ["b"]
    assert not one.keeping


def test_a_tool_call_and_all_after_it_stay_until_opened() -> None:
    one = gate()
    assert one.take("a", text("hello ")) == ["a"]
    assert one.take("b", CALL) == []
    assert one.take("c", text("more")) == []
    assert one.take("d", []) == []
    assert one.keeping
    assert one.open() == ["b", "c", "d"]
    assert one.take("e", text("after")) == ["e"]


def test_it_asks_when_the_answer_is_complete_or_the_stream_is_over() -> None:
    one = gate()
    one.shadow.take("message", chunk(delta={"content": "hi"}))
    assert one.asks(ended=True) is None
    one.take("b", CALL)
    assert one.asks(ended=False) is None
    assert isinstance(one.asks(ended=True), Answer)
    one.shadow.take("message", chunk(delta={}, finish_reason="tool_calls"))
    assert isinstance(one.asks(ended=False), Answer)


@pytest.mark.parametrize(("path", "stays"), [("infra/prod.tf", True), ("src/app.py", False)])
def test_a_code_block_stays_until_it_is_known_which_file_it_names(path: str, stays: bool) -> None:  # noqa: FBT001
    one = gate()
    assert one.take("a", text("Here:\n")) == ["a"]
    assert one.take("b", text("```hcl\n")) == []
    assert one.take("c", text(f"// filepath: {path}\n")) == ([] if stays else ["b", "c"])
    assert one.take("d", text("x = 1\n```\n")) == ([] if stays else ["d"])
    assert one.take("e", text("That is it.\n")) == ([] if stays else ["e"])
    assert (one.asks(ended=True) is not None) is stays


def test_blocks_of_several_texts_are_told_apart() -> None:
    one = gate()
    assert one.take("a", [Piece("0.text", "```hcl\n")]) == []
    assert one.take("b", [Piece("1.text", "hello ")]) == []
    assert one.take("c", [Piece("0.text", "x = 1\n")]) == ["a", "b", "c"]


def test_a_block_that_is_cut_off_is_known_at_the_end() -> None:
    one = gate()
    one.take("a", text("```hcl infra/prod.tf"))
    assert one.finish() == []
    assert one.asks(ended=True) is not None
    other = gate()
    other.take("a", text("```hcl src/x.tf"))
    assert other.finish() == ["a"]


@pytest.mark.parametrize("said", ["`", "a ~ b", "x\n```py\n"])
def test_events_in_which_a_code_block_may_begin_are_taken_one_by_one(said: str) -> None:
    assert not gate().may_take_at_once(said)


@pytest.mark.parametrize("before", ["``", "```py\n", "```tf title=a.tf\nx\n", "```tf title=infra/a.tf\nx\n"])
def test_events_in_a_code_block_or_what_may_become_one_are_taken_one_by_one(before: str) -> None:
    one = gate()
    one.take("a", text(before))
    assert not one.may_take_at_once("more\n")


def test_events_of_plain_text_and_of_what_is_kept_anyway_may_be_taken_as_one() -> None:
    one = gate()
    assert one.may_take_at_once("words\n")
    one.take("a", text("```py\nx\n```\n"))
    assert one.may_take_at_once("words\n")
    one.take("b", CALL)
    assert one.may_take_at_once("words\n")
    assert not one.may_take_at_once("```py\n")
