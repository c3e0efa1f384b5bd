from __future__ import annotations

from extproc.tracing.suggestion import suggestion_of


def test_lines_are_kept_normalised_without_trivial_ones_and_with_their_places() -> None:
    response = {"text": "```\n  first_line()\n}\nsecond_line( )\n\tfirst_line()\n```"}
    suggestion = suggestion_of("e1", {"response": response})
    assert suggestion.lines == ["first_line()", "second_line( )", "first_line()"]
    assert suggestion.places == {"first_line()": [0, 2], "second_line( )": [1]}


def test_the_model_that_answered_goes_before_the_one_that_was_asked() -> None:
    asked = {"request": {"model": "gpt-5"}, "response": {"model": "gpt-5-2026"}}
    assert suggestion_of("e1", asked).source.model == "gpt-5-2026"
    assert suggestion_of("e1", {**asked, "response": None}).source.model == "gpt-5"


def test_an_exchange_of_nobody_that_never_ended_has_a_source() -> None:
    document = {"session": "s", "opened_at": 5.0, "principal": None, "client": {}, "request": {}, "response": None}
    source = suggestion_of("e1", document).source
    assert (source.user, source.model, source.opened_at, source.approved_by) == (None, None, 5.0, [])
