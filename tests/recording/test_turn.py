from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.conversation import Prompt
from extproc.endpoint import MODEL_ENDPOINTS, Endpoint, EndpointKind, Upstream
from extproc.headers import client_facts
from extproc.recording.turn import CONVERSATIONS, RETRY_SECONDS, Gist, Turn, Turns, gist_of

NAMED = (("x-client-session-id", "s"), ("x-interaction-id", "i"))
ASKED = {"role": "user", "content": "write a file"}
CALLED = {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "done"}


def gist(*messages: Any, model: str = "gpt-5", tools: tuple[Any, ...] = (), kind: str = "chat") -> Gist:
    found = gist_of(EndpointKind(kind), Prompt(model, list(messages or (ASKED,)), list(tools), stream=True))
    assert found is not None
    return found


class Session:
    """What a client sends in one session, one exchange a second."""

    def __init__(self, *headers: tuple[str, str], limit: int = 100) -> None:
        self.turns = Turns(limit=limit)
        self.headers = headers
        self.now = 0.0
        self.count = 0

    def send(self, *messages: Any, headers: tuple[tuple[str, str], ...] = (), **more: Any) -> Turn:
        self.count += 1
        self.now += 1.0
        session, path = more.pop("session", "s1"), more.pop("path", "/chat/completions")
        return self.turns.take(
            f"x{self.count}",
            session,
            endpoint=Endpoint(EndpointKind.CHAT, Upstream.COPILOT_API, path),
            client=client_facts([*headers, *self.headers]),
            gist=gist(*messages, **more),
            now=self.now,
        )


def failed(turn: Turn) -> Turn:
    turn.failed = True
    return turn


# --- which turn ------------------------------------------------------------------------------------------------------


def test_the_interaction_id_names_the_turn_of_the_prompt_and_of_all_that_it_sets_off() -> None:
    one = Session(*NAMED)
    assert [one.send(ASKED).id, one.send(ASKED, CALLED, RESULT).id] == ["i", "i"]
    assert one.send({"role": "user", "content": "more"}, headers=(("x-interaction-id", "j"),)).id == "j"


def test_an_interaction_id_that_is_the_sessions_names_no_turn() -> None:
    one = Session(("x-session-id", "ses_1"), ("x-interaction-id", "ses_1"))
    assert one.send(ASKED).id == "x1"
    assert one.send(ASKED, CALLED, RESULT).id == "x1"


def test_without_a_name_a_prompt_begins_a_turn_and_results_of_tools_go_on_with_it() -> None:
    one = Session()
    assert [one.send(ASKED).id, one.send(ASKED, CALLED, RESULT).id] == ["x1", "x1"]
    more = (ASKED, CALLED, RESULT, {"role": "assistant", "content": "ok"}, {"role": "user", "content": "and a test"})
    assert [one.send(*more).id, one.send(*more, CALLED, RESULT).id] == ["x3", "x3"]


def test_conversations_of_a_session_that_run_at_once_are_told_apart() -> None:
    one, other = Session(), {"role": "user", "content": "something else"}
    assert [one.send(ASKED).id, one.send(other).id] == ["x1", "x2"]
    assert [one.send(ASKED, CALLED, RESULT).id, one.send(other, CALLED, RESULT).id] == ["x1", "x2"]
    assert one.send(ASKED, CALLED, RESULT, session="s2").id is None


def test_a_prompt_of_the_messages_dialect_is_known_again_wherever_the_client_marks_its_cache() -> None:
    text = {"type": "text", "text": "write a file"}
    first = {"role": "user", "content": [{**text, "cache_control": {"type": "ephemeral"}}]}
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "done"}]}
    one = Session()
    assert one.send(first).id == "x1"
    assert one.send({"role": "user", "content": [text]}, {"role": "assistant", "content": "…"}, result).id == "x1"


def test_what_follows_a_prompt_that_was_not_seen_has_no_turn() -> None:
    assert Session().send(ASKED, CALLED, RESULT).id is None
    assert Session().send({"role": "system", "content": "be kind"}).id is None


def test_neither_what_the_client_sent_of_its_own_nor_counting_tokens_begins_a_turn() -> None:
    assert Session().send(ASKED, headers=(("x-initiator", "agent"),)).id is None
    assert Session().send(ASKED, path="/v1/messages/count_tokens").id is None
    assert Session().send(ASKED, headers=(("x-initiator", "user"),)).id == "x1"


def test_without_a_prompt_the_turn_is_what_the_client_names() -> None:
    for headers, turn in ((NAMED, "i"), ((), None)):
        endpoint, client = Endpoint(EndpointKind.EMBEDDINGS, Upstream.COPILOT_API, "/embeddings"), client_facts(headers)
        found = Turns().take("x1", "s1", endpoint=endpoint, client=client, gist=None, now=1.0)
        assert found.recorded() == {"id": turn, "retry_of": None, "purpose": None}


def test_turns_begin_where_a_model_answers() -> None:
    assert CONVERSATIONS < MODEL_ENDPOINTS


# --- retries ---------------------------------------------------------------------------------------------------------


def test_the_same_prompt_with_the_same_interaction_id_is_a_retry_of_the_first_whoever_is_said_to_begin_it() -> None:
    one = Session(*NAMED)
    first = one.send(ASKED, headers=(("x-initiator", "user"),))
    again = [one.send(ASKED, headers=(("x-initiator", "agent"),)) for _ in range(3)]
    assert (first.id, first.retry_of) == ("i", None)
    assert [(turn.id, turn.retry_of) for turn in again] == [("i", "x1")] * 3


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "gpt-5-mini"},
        {"tools": ({"name": "create"},)},
        {"session": "s2"},
        {"path": "/v1/messages/count_tokens"},
        {"headers": (("x-interaction-id", "j"),)},
    ],
)
def test_what_differs_in_anything_is_no_retry(changed: dict[str, Any]) -> None:
    one = Session(*NAMED)
    one.send(ASKED)
    assert one.send(ASKED, **changed).retry_of is None
    assert one.send(ASKED, CALLED, RESULT).retry_of is None
    assert one.send(ASKED).retry_of == "x1"


def test_without_an_interaction_id_only_what_failed_is_tried_again() -> None:
    one = Session()
    failed(one.send(ASKED))
    second = failed(one.send(ASKED))
    third = one.send(ASKED)
    fourth = one.send(ASKED)
    assert [(turn.id, turn.retry_of) for turn in (second, third, fourth)] == [("x1", "x1"), ("x1", "x1"), ("x4", None)]
    assert one.send(ASKED, CALLED, RESULT).id == "x4"


def test_results_of_tools_that_are_sent_again_stay_in_their_turn() -> None:
    one = Session()
    one.send(ASKED)
    failed(one.send(ASKED, CALLED, RESULT))
    again = one.send(ASKED, CALLED, RESULT)
    assert (again.id, again.retry_of) == ("x1", "x2")


def test_after_a_while_the_same_prompt_is_no_retry() -> None:
    one = Session(*NAMED)
    one.send(ASKED)
    one.now += RETRY_SECONDS - 1
    assert one.send(ASKED).retry_of == "x1"
    one.now += RETRY_SECONDS
    assert one.send(ASKED).retry_of is None


# --- titles ----------------------------------------------------------------------------------------------------------


def test_a_title_is_labelled_and_begins_no_turn() -> None:
    one = Session(("x-session-id", "ses_1"), ("x-interaction-id", "ses_1"), ("x-initiator", "user"))
    title = one.send(ASKED, headers=(("x-interaction-type", "agent-session-name-generation"),))
    assert title.recorded() == {"id": None, "retry_of": None, "purpose": "title"}
    assert one.send({"role": "system", "content": "You edit."}, ASKED).recorded()["purpose"] is None
    assert one.send({"role": "system", "content": "You edit."}, ASKED, CALLED, RESULT).id == "x2"


def test_the_language_servers_request_for_title_and_suggestion_is_labelled_and_stays_in_its_turn() -> None:
    tool = {"type": "function", "function": {"name": "showSuggestions"}}
    assert Session(*NAMED).send(ASKED, tools=(tool,)).recorded() == {"id": "i", "retry_of": None, "purpose": "title"}
    for tools in ((tool, tool), (tool, {"name": "create"}), ("showSuggestions",), ({"name": "create"},)):
        assert Session(*NAMED).send(ASKED, tools=tools).purpose is None


# --- memory and gist -------------------------------------------------------------------------------------------------


def test_only_so_much_is_remembered_and_the_least_recent_goes_first() -> None:
    one = Session(limit=2)
    prompts = [{"role": "user", "content": text} for text in "abc"]
    for prompt in prompts:
        failed(one.send(prompt))
    assert one.send(prompts[0]).retry_of is None
    assert one.send(prompts[2]).retry_of == "x3"
    assert one.send(prompts[1], CALLED, RESULT).id is None
    assert max(len(one.turns._sent), len(one.turns._begun)) == 2


def test_a_gist_is_only_of_conversations() -> None:
    prompt = Prompt("gpt-5", [ASKED], [], stream=False)
    assert {kind for kind in EndpointKind if gist_of(kind, prompt) is not None} == CONVERSATIONS
    assert gist_of(EndpointKind.CHAT, None) is None
    assert gist_of(EndpointKind.AGENTS, Prompt(None, [], [], stream=False)) is None


def test_half_a_character_is_no_obstacle() -> None:
    assert gist({"role": "user", "content": "\ud83d"}) != gist({"role": "user", "content": "\ud83e"})


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "function", "name"]),
            inner | st.sampled_from(["user", "tool_result"]),
        )
    ),
    max_leaves=12,
)


@given(st.lists(_JSON, min_size=1), st.lists(_JSON))
def test_whatever_json_a_client_sends_has_a_gist_that_depends_on_nothing_else(
    messages: list[Any], tools: list[Any]
) -> None:
    found = gist(*messages, tools=tuple(tools))
    assert found == gist(*messages, tools=tuple(tools))
    assert found.digest != gist(*messages, ASKED, tools=tuple(tools)).digest
    assert gist(*messages, ASKED).begins
    assert not gist(*messages, RESULT).begins
