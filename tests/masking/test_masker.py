from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.dialect.port import Form
from extproc.masking.finding import Action
from extproc.masking.masker import MAX_FINDINGS
from tests.masking.corpus import harmless, samples
from tests.masking.running import OURS, PASSWORD, TOKEN, masker

TEXTS = st.sampled_from([one.text for one in samples(9)] + list(harmless(9)) + ["password", "token: ", "", "heroku"])
MEMBERS = st.sampled_from(["", "content", "password", "apiKey", "token"])


@given(st.lists(st.tuples(TEXTS, MEMBERS), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_one_scan_of_several_texts_acquits_none_in_which_there_is_something(parts: list[tuple[str, str]]) -> None:
    texts, members = [text for text, _ in parts], [member for _, member in parts]
    suspects = masker().suspicious(texts, members)
    for at, (text, member) in enumerate(parts):
        if masker().suspect_text(text, "x", member=member) != text:
            assert at in suspects


def test_a_text_without_a_secret_is_the_same_object() -> None:
    text = "nothing to see here"
    assert masker().text(text, "x") is text
    assert masker().is_clean(text)


def test_the_member_that_holds_a_text_announces_its_secret() -> None:
    assert masker().suspect_text(PASSWORD, "x", member="password") == "[MASKED:password]"
    assert masker().suspect_text(PASSWORD, "x", member="content") == PASSWORD


def test_a_json_text_is_decoded_and_stays_json() -> None:
    text = f'{{"a": "\\u0067{TOKEN[1:]}"}}'
    assert masker().text(text, "x", form=Form.JSON) == '{"a": "[MASKED:github-pat]"}'


def test_a_credential_of_ours_is_masked_whatever_the_policy_says() -> None:
    one = masker(Action.OFF)
    assert one.text(f"a {OURS} b", "x") == "a [MASKED:gateway-credential] b"
    assert one.text_of_ours(f"{OURS}-{TOKEN}", "x") == f"[MASKED:gateway-credential]-{TOKEN}"
    assert [found.rule for found in one.findings] == ["gateway-credential"] * 2


def test_a_credential_of_ours_is_called_so_even_where_a_rule_knows_it() -> None:
    one = masker()
    one.literals = (TOKEN,)
    assert one.text(f"a {TOKEN} b", "x") == "a [MASKED:gateway-credential] b"


def test_findings_name_rule_field_and_place_and_never_the_secret() -> None:
    one = masker(Action.BLOCK)
    one.at = 12.5
    one.text(f"It is {TOKEN}", "messages[0].content")
    (found,) = one.findings
    assert (found.rule, found.where, found.offset, found.at) == ("github-pat", "messages[0].content", 6, 12.5)
    assert one.blocked == "github-pat"
    assert TOKEN not in repr(one.findings)


def test_more_findings_than_are_listed_are_masked_all_the_same() -> None:
    one = masker()
    assert TOKEN not in one.text(f"{TOKEN}\n" * (MAX_FINDINGS + 5), "x")
    assert len(one.findings) == MAX_FINDINGS


@given(st.text(alphabet=st.characters(), max_size=100), st.sampled_from(list(Form)))
@settings(deadline=None)
def test_no_text_makes_it_raise(text: str, form: Form) -> None:
    one = masker(personal=Action.MASK)
    assert one.suspicious([text, text], ["", "password"]) in ([], [0], [1], [0, 1])
    one.text(text, "x", form=form)


@pytest.mark.parametrize("direction", ["detectors", "sets"])
def test_the_record_says_by_what_a_message_was_masked(direction: str) -> None:
    assert direction in masker().applied_rules()


def test_a_secret_in_a_text_that_comes_again_is_found_each_time() -> None:
    for _ in range(3):
        one = masker()
        assert one.text(f"/a/{TOKEN}", "path") == "/a/[MASKED:github-pat]"
        assert len(one.findings) == 1


def test_what_is_clean_for_one_exchange_may_hold_the_credential_of_another() -> None:
    plain, ours = masker(), masker()
    plain.literals = ()
    assert plain.is_clean(f"/a/{OURS}")
    assert not ours.is_clean(f"/a/{OURS}")
    assert plain.is_clean(f"/a/{OURS}")


def test_of_long_texts_nothing_is_remembered() -> None:
    known = masker().masking.is_known_clean.cache_info().currsize
    assert masker().is_clean("nothing to see here " * 20)
    assert masker().masking.is_known_clean.cache_info().currsize == known
